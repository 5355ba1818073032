"""Draws the README's picture: `python docs/silicon.py RUN docs/silicon.png` (RUN as in `isometry predict crystal`)."""

from __future__ import annotations

import sys

import numpy as np
from ase.build import bulk
from isometry.app import load_app
from isometry.figures import FAINT, PALETTE, panels, style
from isometry.story import load
from isometry_crystal.bulk import equation_of_state
from isometry_crystal.calculator import IsometryCalculator
from isometry_crystal.dataset import CrystalDataset
from isometry_crystal.findings import reference
from isometry_crystal.predict import predictions


def main(run: str, picture: str) -> None:
    app = load_app("crystal")
    loaded = load(app, run)
    test = app.data(loaded.settings).test
    assert isinstance(test, CrystalDataset)
    with style():
        figure, (left, right) = panels(1, 2, width=4.4, height=3.2)
        draw_equation_of_state(left, IsometryCalculator(loaded.model))
        draw_forces(right, test, loaded.model)
        figure.savefig(picture, dpi=160)


def draw_equation_of_state(axes, calculator) -> None:
    dft = reference()["equation_of_state"]
    volumes, energies = (np.array(dft[key]) for key in ("volumes_angstrom3_per_atom", "energies_ev_per_atom"))
    crystal = bulk("Si", "diamond", a=dft["a0_angstrom"], cubic=True)
    fine = np.linspace(volumes.min(), volumes.max(), 60)
    curve = equation_of_state(crystal, calculator, fine).energies
    axes.plot(fine, curve, color=PALETTE[0], label="model")
    axes.plot(volumes, energies, "o", color=PALETTE[1], markersize=4.5, fillstyle="none", label="DFT")
    axes.set(title="Diamond silicon under pressure", xlabel="volume (Å³/atom)", ylabel="energy (eV/atom)")
    axes.legend()


def draw_forces(axes, test: CrystalDataset, model) -> None:
    found = np.concatenate([p.forces.ravel() for p in predictions(model, test)])
    known = np.concatenate([record.forces.ravel() for record in test.records])
    limit = 1.05 * max(abs(known).max(), abs(found).max())
    axes.plot([-limit, limit], [-limit, limit], color=FAINT, linewidth=1)
    axes.plot(known, found, ".", color=PALETTE[0], markersize=3)
    axes.set(title=f"Forces of {len(test)} unseen cells", xlabel="DFT (eV/Å)", ylabel="model (eV/Å)")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
