"""The potential inside ASE: relaxation, dynamics, and a neighbour list that may be reused but never be wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from isometry_crystal.calculator import IsometryCalculator
from isometry_crystal.dataset import collate, graph_of
from isometry_crystal.objective import LossSettings, crystal_loss
from isometry_data.crystals import record_of

DRIFT = 1.0  # meV per atom and ps
SAME = 1e-10  # eV, eV/Å


class Spring:
    """A stand-in for quantum mechanics: Morse bonds, which a small model learns in seconds."""

    @staticmethod
    def label(atoms: Atoms) -> Atoms:
        from ase.calculators.morse import MorsePotential

        atoms.calc = MorsePotential(epsilon=0.6, r0=2.5, rho0=4.0, rcut1=3.2, rcut2=4.0)
        atoms.get_forces(), atoms.get_potential_energy()
        return atoms


@pytest.fixture(scope="module")
def trained(small):
    """A small model after a hundred steps on shaken silicon, good enough to move atoms sensibly."""
    from isometry_crystal.model import CrystalModel

    torch.manual_seed(0)
    records = []
    for seed in range(24):
        atoms = bulk("Si", "diamond", a=5.2 + 0.02 * seed, cubic=True)
        atoms.rattle(0.02 + 0.006 * seed, seed=seed)
        records.append(record_of(Spring.label(atoms)))
    graphs = [graph_of(record, 4.0) for record in records]
    offset = float(np.mean([record.energy for record in records])) / 8
    model = CrystalModel(small.changed(energy_offsets=(offset,)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(100):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 100)
        optimizer.zero_grad()
        batch = collate([graphs[(8 * step + i) % 24] for i in range(8)])
        crystal_loss(model, batch, LossSettings()).each.mean().backward()
        optimizer.step()
    return model


@pytest.fixture
def shaken() -> Atoms:
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.05, seed=3)
    return atoms


def test_the_calculator_says_what_the_model_says(trained, silicon):
    silicon.calc = IsometryCalculator(trained)
    with torch.no_grad():
        out = type(trained)(trained.settings).double()
        out.load_state_dict(trained.state_dict())
        out = out(graph_of(record_of(silicon.copy()), 4.0))
    assert silicon.get_potential_energy() == pytest.approx(out["energy"].item(), abs=SAME)
    assert silicon.get_forces() == pytest.approx(out["forces"].numpy(), abs=SAME)
    assert silicon.get_stress(voigt=False) == pytest.approx(out["stress"][0].numpy(), abs=SAME)
    assert silicon.get_potential_energies().sum() == pytest.approx(silicon.get_potential_energy(), abs=SAME)
    assert silicon.get_potential_energy(force_consistent=True) == silicon.get_potential_energy()
    assert next(trained.parameters()).dtype == torch.float32, "the caller's model was changed"


def test_a_reused_neighbour_list_gives_what_a_fresh_one_gives(trained, silicon):
    silicon.calc = IsometryCalculator(trained, skin=0.8)
    rng = np.random.default_rng(0)
    for _ in range(12):
        silicon.positions += rng.normal(0, 0.03, (8, 3))
        fresh = silicon.copy()
        fresh.calc = IsometryCalculator(trained)
        assert silicon.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), abs=SAME)
        assert silicon.get_forces() == pytest.approx(fresh.get_forces(), abs=SAME)
    assert silicon.calc._near.n_builds < 12


def test_changed_atoms_cells_and_boundaries_are_noticed(trained, silicon):
    calculator = IsometryCalculator(trained)
    strained = silicon.copy()
    strained.set_cell(silicon.cell.array * 1.02, scale_atoms=True)
    free = silicon.copy()
    free.pbc = False
    for atoms in (silicon, strained, free, silicon[:5]):
        atoms.calc = calculator
        alone = atoms.copy()
        alone.calc = IsometryCalculator(trained)
        assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=SAME)


def test_an_unknown_element_is_named(trained):
    gold = bulk("Au")
    gold.calc = IsometryCalculator(trained)
    with pytest.raises(ValueError, match=r"\[79\]"):
        gold.get_potential_energy()


def test_an_unknown_precision_is_refused(trained):
    with pytest.raises(ValueError, match=r"'half'.*float32, float64"):
        IsometryCalculator(trained, dtype="half")


def test_a_molecule_has_forces_but_no_stress(trained):
    molecule = Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])
    molecule.calc = IsometryCalculator(trained)
    assert np.isfinite(molecule.get_forces()).all()
    assert "stress" not in molecule.calc.results


def test_relaxation_finds_a_minimum(trained, shaken):
    shaken.calc = IsometryCalculator(trained)
    before = shaken.get_potential_energy()
    assert BFGS(shaken, logfile=None).run(fmax=0.01, steps=100)
    assert np.linalg.norm(shaken.get_forces(), axis=1).max() < 0.01
    assert shaken.get_potential_energy() < before


def test_relaxation_of_the_cell_releases_the_stress(trained, shaken):
    shaken.set_cell(shaken.cell.array * 1.01, scale_atoms=True)
    shaken.calc = IsometryCalculator(trained)
    assert BFGS(FrechetCellFilter(shaken), logfile=None).run(fmax=0.02, steps=150)
    assert np.abs(shaken.get_stress()).max() * shaken.get_volume() < 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dynamics_conserve_the_energy(trained, shaken, dtype):
    shaken.calc = IsometryCalculator(trained, dtype=dtype)
    MaxwellBoltzmannDistribution(shaken, temperature_K=300, rng=np.random.default_rng(0))
    dynamics, energies = VelocityVerlet(shaken, timestep=1.0 * units.fs), []
    dynamics.attach(lambda: energies.append(shaken.get_total_energy()), interval=1)
    dynamics.run(200)
    times = np.arange(len(energies)) / 1000  # ps
    slope = np.polyfit(times, 1000 * np.array(energies) / len(shaken), 1)[0]
    assert abs(slope) < DRIFT
    assert shaken.calc._near.n_builds < 100
