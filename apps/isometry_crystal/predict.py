"""Structure files in; energies, forces and stresses out, as a table or as extended XYZ."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import units
from ase.formula import Formula
from isometry.order import to_device
from isometry_data.crystals import CrystalRecord, write_crystals
from torch import nn

from isometry_crystal.dataset import CrystalDataset, collate, graph_of

ATOMS_AT_ONCE = 2000
"""Atoms of one batch: bounds the memory, whatever the number of structures."""


class Prediction(NamedTuple):
    """What a model says of one structure."""

    energy: float
    """eV, of the whole cell"""
    forces: np.ndarray
    """[n, 3] eV/Å"""
    stress: np.ndarray
    """[6] eV/Å³, xx yy zz yz xz xy, tension positive; NaN without a periodic cell"""


def predictions(model: nn.Module, crystals: CrystalDataset) -> Iterator[Prediction]:
    """One prediction per structure, in order. The model stays on its device and in its number format."""
    parameter = next(model.parameters())
    model.eval()
    for indices in _batches([record.n_atoms for record in crystals.records]):
        graph = to_device(
            collate([graph_of(crystals.records[i], crystals.cutoff, i) for i in indices]),
            parameter.device,
            parameter.dtype,
        )
        with torch.no_grad():
            result = {key: value.detach().cpu().double().numpy() for key, value in model(graph).items()}
        ends = np.cumsum([crystals.records[i].n_atoms for i in indices])[:-1]
        forces = np.split(result["forces"], ends)
        for energy, force, stress in zip(result["energy"], forces, result["stress"], strict=True):
            yield Prediction(float(energy), force, _voigt(stress))


def predict(model: nn.Module, _settings: Any, crystals: CrystalDataset, out: Path | None) -> list[dict[str, Any]]:
    """A row per structure; `out` (.xyz, .extxyz) also gets the structures with forces and stresses."""
    found = list(predictions(model, crystals))
    if out is not None:
        write_crystals(out, crystals.records, [_labels(prediction) for prediction in found])
    return [_row(record, prediction) for record, prediction in zip(crystals.records, found, strict=True)]


def _batches(sizes: list[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    n_atoms = 0
    for index, size in enumerate(sizes):
        if batch and n_atoms + size > ATOMS_AT_ONCE:
            yield batch
            batch, n_atoms = [], 0
        batch.append(index)
        n_atoms += size
    if batch:
        yield batch


def _voigt(stress: np.ndarray) -> np.ndarray:
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _labels(prediction: Prediction) -> dict[str, Any]:
    labels = {"energy": prediction.energy, "forces": prediction.forces, "stress": prediction.stress}
    return labels if np.isfinite(prediction.stress).all() else {k: v for k, v in labels.items() if k != "stress"}


def _row(record: CrystalRecord, prediction: Prediction) -> dict[str, Any]:
    row = {
        "file": record.source,
        "frame": record.frame,
        "formula": Formula.from_list(_symbols(record)).format("hill"),
        "n_atoms": record.n_atoms,
        "energy_ev": prediction.energy,
        "energy_ev_per_atom": prediction.energy / record.n_atoms,
        "max_force_ev_per_angstrom": float(np.linalg.norm(prediction.forces, axis=1).max()),
    }
    if np.isfinite(prediction.stress).all():
        row["pressure_gpa"] = float(-prediction.stress[:3].mean() / units.GPa)
    if record.energy is not None:
        row["energy_error_ev_per_atom"] = (prediction.energy - record.energy) / record.n_atoms
    if record.forces is not None:
        row["force_mae_ev_per_angstrom"] = float(np.abs(prediction.forces - record.forces).mean())
    return row


def _symbols(record: CrystalRecord) -> list[str]:
    from ase.data import chemical_symbols

    return [chemical_symbols[number] for number in record.numbers]
