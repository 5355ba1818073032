"""Three real pathways as data sources: what single cells were given, and how they responded.

The environment is the dose, every dose equally often: cells are weighted by it, however many were measured. What is
met, the ligand of the bottleneck, is the cell's response: the plane says how few bits of the response tell of the dose.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isometry_data.catalogue import locate
from isometry_data.signaling import READINGS, read_signaling_set

from isometry_signaling.dataset import CellTable, Names
from isometry_signaling.measured import set_apart


class Pathway(NamedTuple):
    """Which cells of a set of the catalogue, and which of their numbers."""

    title: str
    source: str
    responses: tuple[str, ...]
    where: dict[str, str]


PATHWAYS: dict[str, Pathway] = {
    "nfkb": Pathway(
        "TNF to nuclear NF-κB at 3, 21, 90 and 120 min",
        "nfkb-tnf",
        ("response_3", "response_21", "response_90", "response_120"),
        {},
    ),
    "stat": Pathway(
        "interferon gamma to STAT at 15 min",
        "jak-stat",
        ("response",),
        {"stim_type": "IFNG", "time": "15", "nuclearity": "single-nuclear"},
    ),
    "laci": Pathway(
        "IPTG to expression under LacI (O2, RBS1027, one day)",
        "laci-iptg",
        ("intensity",),
        {"operator": "O2", "rbs": "RBS1027", "date": "20161203"},
    ),
}


class PathwayCells(NamedTuple):
    """Cells by split, what their columns are called, and the file they are from."""

    train: CellTable
    valid: CellTable
    test: CellTable
    names: Names
    file: Path


def pathway_cells(name: str, held_out: float, seed: int) -> PathwayCells:
    """Cells with every response; a share `held_out` of those of each dose for validation, and again for the test."""
    of = PATHWAYS[name]
    cells = read_signaling_set(of.source, responses=of.responses, where=of.where)
    cells = cells.chosen(cells.is_complete)
    labels = cells.inputs.labels
    table = CellTable(
        ligand=cells.responses[:, None],
        environment=np.eye(len(labels))[cells.inputs.codes],
        genes=np.empty((len(cells), 0)),
        weight=np.ones(len(cells)),
        stratum=cells.inputs.codes,
    )
    rest, test = set_apart(table, held_out, seed + 2)
    train, valid = set_apart(rest, held_out, seed + 1)
    names = Names(cells.response_names, (), READINGS[of.source].inputs[0], labels)
    train, valid, test = (equally_often(part) for part in (train, valid, test))
    return PathwayCells(train, valid, test, names, locate(of.source))


def equally_often(table: CellTable) -> CellTable:
    """The same cells, weighted so that every environment is as likely as any other."""
    counts = np.bincount(table.stratum)
    return replace(table, weight=(len(table) / len(counts) / counts)[table.stratum])
