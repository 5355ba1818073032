"""Measured cells as data sets: their environments, how often each is met, and which cells are set apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from isometry_data.units import amount

from isometry_signaling.dataset import CellTable, Names
from isometry_signaling.readings import Readings, joined, matching, readings_of

if TYPE_CHECKING:
    from isometry_signaling.sources import SourceSettings

Array = np.ndarray

FEWEST = 10  # cells of an environment


class Measured(NamedTuple):
    """Cells by split, and what their columns are called."""

    train: CellTable
    valid: CellTable
    test: CellTable
    names: Names
    notes: tuple[str, ...]


def measured(settings: SourceSettings, seed: int) -> Measured:
    """Read the files of these settings; cells are set apart where no file is named."""
    first = settings.train[0]
    ligands = _outputs(first, settings)
    genes = matching(first, settings.genes)
    train, valid, test = (
        joined([readings_of(file, ligands, genes, settings.input, is_labelled=True) for file in files])
        if files
        else None
        for files in (settings.train, settings.valid, settings.test)
    )
    assert train is not None
    names = Names(ligands, genes, settings.input, _labels(train, first, settings.input))
    _check_outputs(train, ligands, first)
    length = len(ligands) if settings.is_course else 1
    taught = table_of(train, names.labels, length)
    held_out: list[CellTable] = []
    for place, found in ((2, test), (1, valid)):  # the test first: a file for validation does not change it
        if found is None:
            taught, apart = set_apart(taught, settings.held_out, seed + place)
        else:
            apart = _checked(table_of(found, names.labels, length), found, names)
        held_out.append(apart)
    test_table, valid_table = (_as_often(taught, table) for table in held_out)
    notes = tuple(note for part in (train, valid, test) if part is not None for note in part.notes)
    return Measured(taught, valid_table, test_table, names, notes)


def read_tables(files: Sequence[Path], names: Names, length: int, n_numbers: int) -> tuple[CellTable, tuple[str, ...]]:
    """A user's cells, and what was left out; environment and genes may be missing."""
    parts = [readings_of(file, names.ligands, names.genes, names.environment, is_labelled=False) for file in files]
    whole = joined(parts)
    return table_of(whole, names.labels, length, n_numbers), whole.notes


def table_of(columns: Readings, labels: Sequence[str], length: int, n_numbers: int = 0) -> CellTable:
    """Cells as the network wants them; an environment that is not told, or is no label, is NaN."""
    known = {label: i for i, label in enumerate(labels)}
    place = np.array([known.get(name, -1) for name in columns.environment], dtype=int)
    environment = np.full((len(place), len(labels) or n_numbers), np.nan)
    if labels:
        environment[place >= 0] = np.eye(len(labels))[place[place >= 0]]
    ligand = columns.ligands.reshape(len(place), length, -1)
    return CellTable(ligand, environment, columns.genes, np.ones(len(place)), place, numbers=columns.numbers)


def _labels(train: Readings, file: Path, name: str) -> tuple[str, ...]:
    counts = Counter(train.environment)
    labels = sorted(counts, key=_by_number)
    if len(labels) < 2:
        raise ValueError(
            f"{file}: column '{name}' is {labels[0]} everywhere; expected at least two environments: one dose only "
            "tells nothing of information; add cells of another dose, or of a control (0)"
        )
    few = [f"{label} ({counts[label]})" for label in labels if counts[label] < FEWEST]
    if few:
        raise ValueError(
            f"{file}: too few cells of {len(few)} of {len(labels)} values of '{name}': {', '.join(few[:8])}; expected "
            f"{FEWEST} cells of each, or more; measure more, or leave those rows out"
        )
    return tuple(labels)


def _outputs(file: Path, settings: SourceSettings) -> tuple[str, ...]:
    found = matching(file, settings.outputs)
    if settings.input in found:
        raise ValueError(
            f"{file}: --data.outputs {' '.join(settings.outputs)} name the input '{settings.input}', too: the cells "
            "would be shown the answer; name the outputs without it"
        )
    return found


def _check_outputs(train: Readings, ligands: Sequence[str], file: Path) -> None:
    constant = np.flatnonzero(np.ptp(train.ligands, axis=0) == 0)
    if len(constant):
        name, value = ligands[constant[0]], train.ligands[0, constant[0]]
        raise ValueError(
            f"{file}: column '{name}' is {value:g} in every cell: a constant output tells nothing; leave it out of "
            "--data.outputs, or check the export"
        )


def _by_number(text: str) -> tuple[float, str]:
    found = amount(text)
    return (found[0] if found else float("inf")), text


def _checked(table: CellTable, columns: Readings, names: Names) -> CellTable:
    strange = np.flatnonzero(table.stratum < 0)
    if len(strange):
        found = columns.environment[strange[0]]
        raise ValueError(f"'{found}' of column '{names.environment}' is in no training file: {', '.join(names.labels)}")
    return table


def set_apart(table: CellTable, share: float, seed: int) -> tuple[CellTable, CellTable]:
    """The rest, and this share of the cells of each environment, two at least."""
    rng = np.random.default_rng(seed)
    is_apart = np.zeros(len(table), dtype=bool)
    for stratum in np.unique(table.stratum):
        members = np.flatnonzero(table.stratum == stratum)
        is_apart[rng.permutation(members)[: max(2, round(share * len(members)))]] = True
    return _taken(table, ~is_apart), _taken(table, is_apart)


def _taken(table: CellTable, which: Array) -> CellTable:
    return CellTable(*(getattr(table, name)[which] for name in ("ligand", "environment", "genes", "weight", "stratum")))


def _as_often(train: CellTable, table: CellTable) -> CellTable:
    """Environments as often as in training: that is what p(E) means for measured cells."""
    wanted = train.environment.mean(0)
    found = np.bincount(table.stratum, minlength=len(wanted)) / len(table)
    return replace(table, weight=(wanted / np.where(found > 0, found, np.inf))[table.stratum])
