"""A table of measured cells: which columns are what, and their values cell by cell."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

Array = np.ndarray

N_SHOWN = 12  # columns that a message names
MISSING = ("", "na", "nan")


class Columns(NamedTuple):
    """Cells as they are read, in order."""

    ligands: Array  # [n, n_ligands]
    genes: Array  # [n, n_genes]; NaN where missing
    environment: list[str]  # "" where it is not told
    notes: tuple[str, ...] = ()


def read_columns(
    file: Path, ligands: Sequence[str], genes: Sequence[str], environment: str, *, is_labelled: bool
) -> Columns:
    """The named columns of a CSV file (.csv, .csv.gz); cells of which a ligand is missing are left out.

    Args:
        is_labelled: whether there must be a column of the environment.
    Raises:
        ValueError: one line that names file, line and column of what cannot be used.
    """
    header, rows = _rows(file)
    missing = [name for name in (*ligands, *([environment] if is_labelled else [])) if name not in header]
    if missing:
        raise ValueError(f"{file}: no column '{missing[0]}'; found {_some(header)}")
    values, expression = (_numbers(file, header, rows, names) for names in (ligands, genes))
    is_whole = np.isfinite(values).all(1)
    if not is_whole.any():
        raise ValueError(f"{file}: no cell has a number in each of {_some(ligands)}; choose other columns")
    n_lost = int((~is_whole).sum())
    note = f"{file}: {n_lost} of {len(rows)} cells left out, a value of {_some(ligands)} is missing"
    place = header.index(environment) if environment in header else None
    told = ["" if place is None else label(rows[i][1][place]) for i in np.flatnonzero(is_whole)]
    return Columns(values[is_whole], expression[is_whole], told, (note,) if n_lost else ())


def matching(file: Path, patterns: Sequence[str], what: str) -> tuple[str, ...]:
    """The columns of a file that the patterns name, in the order of the file."""
    header, _ = _rows(file)
    found = tuple(name for name in header if any(fnmatchcase(name, pattern) for pattern in patterns))
    if patterns and not found:
        raise ValueError(f"{file}: no column fits {what} {' '.join(patterns)}; found {_some(header)}")
    return found


def joined(parts: Sequence[Columns]) -> Columns:
    """Cells of several files, one after another."""
    return Columns(
        np.concatenate([part.ligands for part in parts]),
        np.concatenate([part.genes for part in parts]),
        [name for part in parts for name in part.environment],
        tuple(note for part in parts for note in part.notes),
    )


def label(text: str) -> str:
    """A dose by its shortest spelling, a name as it is."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text.strip()


def _rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with its line number."""
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else open(file, encoding="utf-8") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{file}: two columns are called '{twice}'; rename one")
    if not rows:
        raise ValueError(f"{file}: no cells; expected a header and a row for each cell")
    wrong = next(((line, row) for line, row in rows if len(row) != len(header)), None)
    if wrong is not None:
        raise ValueError(f"{file}, line {wrong[0]}: found {len(wrong[1])} fields, expected {len(header)}")
    return header, rows


def _numbers(file: Path, header: list[str], rows: list[tuple[int, list[str]]], names: Sequence[str]) -> Array:
    """[n, n_names]; NaN where a value or the whole column is missing."""
    values = np.full((len(rows), len(names)), np.nan)
    for k, name in enumerate(names):
        if name in header:
            place = header.index(name)
            values[:, k] = [_number(row[place], file, line, name) for line, row in rows]
    return values


def _number(text: str, file: Path, line: int, name: str) -> float:
    if text.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{file}, line {line}: column '{name}' holds '{text}', expected a number") from None


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:N_SHOWN]) + (" …" if len(names) > N_SHOWN else "")
