"""The columns of a table of measured cells that a network reads, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from isometry_data.columns import MISSING, Columns, read_columns
from isometry_data.doses import inputs_of
from isometry_data.units import amount, unit

Array = np.ndarray

N_SHOWN = 6  # columns that a message names
LARGEST = 1e18  # whose square is a number in float32
KINDS = ("mass per volume", "molar")  # of units that doses are written with


class Readings(NamedTuple):
    """Cells in the order of their files; those of which a ligand is missing are left out."""

    ligands: Array  # [n, n_ligands]
    genes: Array  # [n, n_genes]; NaN where missing
    environment: list[str]  # "" where it is not told
    notes: tuple[str, ...] = ()
    numbers: Array = np.empty(0, int)  # [n] of each cell among all that were read, from 1
    n_read: int = 0


def readings_of(
    file: Path, ligands: Sequence[str], genes: Sequence[str], environment: str, *, is_labelled: bool
) -> Readings:
    """The named columns of a file (CSV, Parquet, AnnData); genes may be missing, and so may be the environment.

    Args:
        is_labelled: whether there must be a column of the environment.
    Raises:
        ValueError: one line that names file, row and column of what cannot be used.
    """
    table = read_columns(file)
    values = np.stack([table.numbers(name) for name in ligands], axis=1)
    expression = np.full((table.n_rows, len(genes)), np.nan)
    for place, name in enumerate(genes):
        if name in table.columns:
            expression[:, place] = table.numbers(name)
    _check_size(table, ligands, values)
    is_whole = np.isfinite(values).all(1)
    if not is_whole.any():
        raise ValueError(
            f"{file}: no cell has a number in each of {_some(ligands)}; fill them in, or name other columns"
        )
    told = _environments(table, environment, is_labelled)
    for row in np.flatnonzero(is_whole) if is_labelled else ():
        if told[row].lower() in MISSING:
            raise ValueError(
                f"{file}, {table.place(int(row))}, column {environment!r}: found nothing; say what the cell was given "
                "(0 for a control), or leave the row out"
            )
    n_lost = int((~is_whole).sum())
    note = f"{file}: {n_lost} of {table.n_rows} cells left out, a value of {_some(ligands)} is missing"
    kept = [told[row] for row in np.flatnonzero(is_whole)]
    numbers = np.flatnonzero(is_whole) + 1
    return Readings(values[is_whole], expression[is_whole], kept, (note,) if n_lost else (), numbers, table.n_rows)


def _check_size(table: Columns, ligands: Sequence[str], values: Array) -> None:
    """Networks compute in float32."""
    places = np.argwhere(np.abs(values) > LARGEST)
    if len(places):
        row, column = map(int, places[0])
        raise ValueError(
            f"{table.path}, {table.place(row)}, column {ligands[column]!r}: found {values[row, column]:g}, expected at "
            f"most {LARGEST:g}; correct it, or choose another unit"
        )


def matching(file: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a file that the patterns name, in the order of the file."""
    return tuple(read_columns(file).matching(patterns)) if patterns else ()


def joined(parts: Sequence[Readings]) -> Readings:
    """Cells of several files, one after another."""
    before = np.cumsum([0, *(part.n_read for part in parts)])
    return Readings(
        np.concatenate([part.ligands for part in parts]),
        np.concatenate([part.genes for part in parts]),
        [name for part in parts for name in part.environment],
        tuple(note for part in parts for note in part.notes),
        np.concatenate([part.numbers + n for part, n in zip(parts, before, strict=False)]),
        int(before[-1]),
    )


def label(text: str) -> str:
    """A dose by its shortest spelling, a name as it is."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip()


def _environments(table: Columns, name: str, is_labelled: bool) -> list[str]:
    if not is_labelled and name not in table.columns:
        return [""] * table.n_rows
    texts = [label(text) for text in table.texts(name)]
    if not any(_is_dose(text) for text in set(texts)):
        return texts
    rows = [row for row, text in enumerate(texts) if text.lower() not in MISSING]
    given = inputs_of(table, [name], np.array(rows))
    for row, code in zip(rows, given.codes, strict=True):
        texts[row] = f"{given.labels[code]} {given.unit}"
    return texts


def _is_dose(text: str) -> bool:
    """Whether it is a number with a unit that is known."""
    found = amount(text)
    return found is not None and unit(found[1]).kind in KINDS


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:N_SHOWN]) + (" …" if len(names) > N_SHOWN else "")
