"""What the crystal app adds to a run's report: parity plots, errors by family, and silicon's bulk properties."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
from ase.build import bulk
from isometry.app import Data, Findings
from isometry.figures import FAINT, PALETTE, panels, style
from matplotlib.figure import Figure

from isometry_crystal.bulk import ElasticConstants, EquationOfStateFit, elastic_constants, equation_of_state
from isometry_crystal.calculator import IsometryCalculator
from isometry_crystal.dataset import CrystalDataset
from isometry_crystal.model import CrystalModel, ModelSettings
from isometry_crystal.predict import Prediction, predictions

Table = list[dict[str, Any]]


def findings(model: CrystalModel, settings: Any, data: Data) -> Findings:
    """Tables and figures of a trained model; the test set is used only if there is one."""
    tables: dict[str, Table] = {}
    figures: dict[str, Figure] = {}
    if isinstance(data.test, CrystalDataset) and len(data.test):
        found = list(predictions(model, data.test))
        tables["Errors on the test set by family"] = errors_by_family(data.test, found, model.settings)
        figures["Test set: model against DFT"] = parity(data.test, found)
    if settings.data.source == "silicon":
        bulk_tables, bulk_figures = silicon(model)
        tables |= bulk_tables
        figures |= bulk_figures
    return Findings(tables, figures)


def errors_by_family(crystals: CrystalDataset, found: list[Prediction], settings: ModelSettings) -> Table:
    """Mean absolute errors per `config_type`, beside those of the offsets alone: composition, and no forces."""
    families: dict[str, list[int]] = {}
    for index, record in enumerate(crystals.records):
        families.setdefault(str(record.info.get("config_type", "all")), []).append(index)
    rows = sorted(families.items())
    return [_family_row(family, indices, crystals, found, settings) for family, indices in rows]


def _family_row(
    family: str, indices: list[int], crystals: CrystalDataset, found: list[Prediction], settings: ModelSettings
) -> dict[str, Any]:
    offset = dict(zip(settings.elements, settings.energy_offsets, strict=True))
    pairs = [(crystals.records[i], found[i]) for i in indices]
    energies = [
        (r.energy, p.energy, sum(offset[z] for z in r.numbers.tolist()), r.n_atoms)
        for r, p in pairs
        if r.energy is not None
    ]
    forces = [(r.forces.ravel(), p.forces.ravel()) for r, p in pairs if r.forces is not None]
    row: dict[str, Any] = {"family": family, "structures": len(indices)}
    if energies:
        known, predicted, without, n_atoms = np.array(energies).T
        row["energy MAE (meV/atom)"] = 1000 * float(np.abs((predicted - known) / n_atoms).mean())
        row["offsets alone (meV/atom)"] = 1000 * float(np.abs((without - known) / n_atoms).mean())
    if forces:
        known, predicted = (np.concatenate(side) for side in zip(*forces, strict=True))
        row["force MAE (eV/Å)"] = float(np.abs(predicted - known).mean())
        row["no forces (eV/Å)"] = float(np.abs(known).mean())
    return row


def parity(crystals: CrystalDataset, found: list[Prediction]) -> Figure:
    """Energies per atom and force components, predicted against labelled."""
    pairs = list(zip(crystals.records, found, strict=True))
    energies = [(r.energy / r.n_atoms, p.energy / r.n_atoms) for r, p in pairs if r.energy is not None]
    forces = [(r.forces.ravel(), p.forces.ravel()) for r, p in pairs if r.forces is not None]
    with style():
        figure, (left, right) = panels(1, 2, height=4.0)
        if energies:
            labelled, predicted = np.array(energies).T
            _scatter(left, labelled, predicted, "energy (eV/atom)")
        if forces:
            labelled, predicted = (np.concatenate(side) for side in zip(*forces, strict=True))
            _scatter(right, labelled, predicted, "force (eV/Å)")
    return figure


def _scatter(axes: Any, labelled: np.ndarray, predicted: np.ndarray, quantity: str) -> None:
    low, high = min(labelled.min(), predicted.min()), max(labelled.max(), predicted.max())
    axes.plot([low, high], [low, high], color=FAINT, linewidth=1)
    axes.plot(labelled, predicted, ".", color=PALETTE[0], markersize=3, alpha=0.6, rasterized=True)
    axes.set(xlabel=f"DFT {quantity}", ylabel=f"model {quantity}", aspect="equal")


def reference() -> dict[str, Any]:
    """What the DFT behind the embedded data says of diamond silicon: equation of state, elastic constants."""
    return json.loads(files("isometry_data.silicon").joinpath("references.json").read_text(encoding="utf-8"))


def silicon(model: CrystalModel) -> tuple[dict[str, Table], dict[str, Figure]]:
    """Equation of state and elastic constants of diamond silicon beside those of the DFT that made the data."""
    dft, dft_elastic = reference()["equation_of_state"], reference()["elastic_constants_gpa"]
    calculator = IsometryCalculator(model)
    try:
        crystal = bulk("Si", "diamond", a=dft["a0_angstrom"], cubic=True)
        state = equation_of_state(crystal, calculator, dft["volumes_angstrom3_per_atom"])
    except ValueError as error:
        # A hardly trained model may hold diamond for unstable: that is a finding, not a failure.
        return {"Silicon in bulk": [{"not computed": str(error)}]}, {}
    crystal = bulk("Si", "diamond", a=(8 * state.volume) ** (1 / 3), cubic=True)
    elastic = elastic_constants(crystal, calculator)
    table = bulk_table(state, elastic, dft, dft_elastic)
    return {"Silicon in bulk": table}, {"Equation of state of diamond silicon": energy_curve(state, dft)}


def bulk_table(state: EquationOfStateFit, elastic: ElasticConstants, dft: Any, dft_elastic: Any) -> Table:
    """Model, DFT and their difference in per cent."""
    values = {
        "lattice constant (Å)": ((8 * state.volume) ** (1 / 3), dft["a0_angstrom"]),
        "bulk modulus (GPa)": (state.bulk_modulus, dft["b0_gpa"]),
        "pressure derivative of the bulk modulus": (state.slope, dft["b0_prime"]),
        "C11 (GPa)": (elastic.c11, dft_elastic["c11"]),
        "C12 (GPa)": (elastic.c12, dft_elastic["c12"]),
        "C44 (GPa)": (elastic.c44, dft_elastic["c44"]),
        "C44, clamped ions (GPa)": (elastic.c44_clamped_ions, dft_elastic["c44_clamped_ions"]),
    }
    return [
        {"quantity": name, "model": ours, "DFT": theirs, "difference (%)": 100 * (ours / theirs - 1)}
        for name, (ours, theirs) in values.items()
    ]


def energy_curve(state: EquationOfStateFit, dft: Any) -> Figure:
    """Energy against volume: DFT points, model curve."""
    volumes, energies = np.array(dft["volumes_angstrom3_per_atom"]), np.array(dft["energies_ev_per_atom"])
    order = np.argsort(volumes)
    with style():
        figure, (axes,) = panels(1, 1, width=6.0, height=4.0)
        axes.plot(state.volumes[order], state.energies[order], "-", color=PALETTE[0], label="model")
        axes.plot(volumes, energies, "o", color=PALETTE[1], markersize=5, fillstyle="none", label="DFT")
        axes.set(xlabel="volume (Å³/atom)", ylabel="energy (eV/atom)")
        axes.legend(frameon=False)
    return figure
