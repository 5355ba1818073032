"""Prediction from files: order, numbers, formats."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from isometry_crystal.calculator import IsometryCalculator
from isometry_crystal.dataset import CrystalDataset, statistics
from isometry_crystal.model import CrystalModel, ModelSettings
from isometry_crystal.predict import ATOMS_AT_ONCE, predict, predictions
from isometry_data.crystals import read_crystals

SAME_ENERGY = 1e-5  # eV per atom, fp32
SAME_FORCE = 1e-4  # eV/Å, fp32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Silicon cells of several sizes, out of order, a slab and a molecule."""
    path = tmp_path_factory.mktemp("files") / "mixed.extxyz"
    cells = [bulk("Si", "diamond", a=5.4 + 0.02 * k, cubic=True).repeat((1 + k % 3, 1, 1)) for k in range(6)]
    slab = bulk("Si", "diamond", a=5.43, cubic=True).copy()
    slab.pbc = (True, True, False)
    for k, atoms in enumerate(cells):
        atoms.rattle(0.05, seed=k)
    write(path, [*cells, slab, Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]])])
    return path


@pytest.fixture(scope="module")
def crystals(files):
    return CrystalDataset(read_crystals(files), cutoff=4.5)


@pytest.fixture(scope="module")
def model(crystals):
    return CrystalModel(ModelSettings(cutoff=4.5, channels=8, **statistics(crystals))).eval()


def test_each_structure_gets_what_it_gets_alone(model, crystals):
    for record, together in zip(crystals.records, predictions(model, crystals), strict=True):
        alone = next(iter(predictions(model, CrystalDataset([record], 4.5))))
        assert abs(together.energy - alone.energy) < SAME_ENERGY * record.n_atoms
        np.testing.assert_allclose(together.forces, alone.forces, atol=SAME_FORCE)


def test_predictions_are_those_of_the_calculator(model, crystals):
    calculator = IsometryCalculator(model)
    for record, found in zip(crystals.records, predictions(model, crystals), strict=True):
        atoms = record.to_atoms()
        atoms.calc = calculator
        assert abs(found.energy - atoms.get_potential_energy()) < SAME_ENERGY * record.n_atoms
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=SAME_FORCE)


def test_large_batches_are_cut_by_atoms(model, crystals):
    many = CrystalDataset(crystals.records * (1 + ATOMS_AT_ONCE // sum(r.n_atoms for r in crystals.records)), 4.5)
    energies = [prediction.energy for prediction in predictions(model, many)]
    assert len(energies) == len(many)
    n = len(crystals)
    np.testing.assert_allclose(energies[:n], energies[-n:], atol=SAME_ENERGY * 24)


def test_rows_keep_order_and_say_where_they_come_from(model, crystals, files):
    rows = predict(model, None, crystals, None)
    assert [row["frame"] for row in rows] == list(range(len(crystals)))
    assert {row["file"] for row in rows} == {str(files)}
    assert rows[1]["formula"] == "Si16"


def test_a_structure_without_a_full_cell_has_no_pressure(model, crystals):
    rows = predict(model, None, crystals, None)
    assert "pressure_gpa" in rows[0]
    assert "pressure_gpa" not in rows[-1]


def test_extended_xyz_holds_energy_and_forces(model, crystals, tmp_path):
    out = tmp_path / "predicted.extxyz"
    rows = predict(model, None, crystals, out)
    for atoms, row in zip(read(out, ":"), rows, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(row["energy_ev"])
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() == pytest.approx(
            row["max_force_ev_per_angstrom"], abs=SAME_FORCE
        )


@pytest.mark.slow
def test_the_command_line_writes_every_format(files, tmp_path):
    def isometry(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "isometry", *arguments], check=True, capture_output=True, text=True
        ).stdout

    run = str(tmp_path / "run")
    isometry("train", "crystal", "--out", run, "--fit.epochs", "1")
    for name in ("table.csv", "table.tsv", "table.jsonl", "cells.extxyz", "cells.xyz"):
        isometry("predict", "crystal", run, str(files), "--out", str(tmp_path / name))
        assert (tmp_path / name).stat().st_size > 0
    assert len(json.loads(isometry("predict", "crystal", run, str(files), "--json"))) == len(read(files, ":"))
