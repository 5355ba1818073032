"""Tables of single cells, what each was given and how it responded, as checked records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isometry_data.columns import Columns, read_columns
from isometry_data.doses import Inputs, inputs_of

LEAST_CELLS = 10  # of each input


@dataclass(frozen=True)
class CellTable:
    """n cells, what they were given and d numbers measured of each."""

    path: str
    inputs: Inputs
    responses: np.ndarray
    """[n, d] float64, NaN where missing"""
    response_names: tuple[str, ...]
    batch: np.ndarray | None = None
    """[n] codes into `batch_names`: the replicate or day of each cell"""
    batch_names: tuple[str, ...] = ()
    group: np.ndarray | None = None
    """[n] codes: what belongs together, as cells of one well or one mother"""
    left_out: tuple[str, ...] = ()
    """What rows were not taken, in words"""

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def is_complete(self) -> np.ndarray:
        """[n] whether no response is missing."""
        return np.logical_not(np.isnan(self.responses).any(axis=1))

    def chosen(self, rows: np.ndarray, why: str = "") -> CellTable:
        """Some of the cells [n] bool, with the inputs that they have; `why` is added to `left_out`."""
        used, codes = np.unique(self.inputs.codes[rows], return_inverse=True)
        amounts = None if self.inputs.amounts is None else self.inputs.amounts[used]
        inputs = replace(self.inputs, labels=tuple(self.inputs.labels[i] for i in used), amounts=amounts, codes=codes)
        return replace(
            self,
            inputs=inputs,
            responses=self.responses[rows],
            batch=None if self.batch is None else self.batch[rows],
            group=None if self.group is None else self.group[rows],
            left_out=(*self.left_out, why) if why else self.left_out,
        )


def read_cells(
    path: str | os.PathLike[str],
    *,
    inputs: Sequence[str],
    responses: Sequence[str] = ("response_*",),
    batch: str | None = None,
    group: str | None = None,
    unit: str = "",
    where: Mapping[str, str] | None = None,
) -> CellTable:
    """Reads CSV, TSV (also .gz), Parquet or AnnData (.h5ad: columns of `obs`, variables of `X`), one row per cell.

    Args:
        inputs: columns of what cells were given: doses, with or without units, or names.
        responses: columns of what was measured, by name or pattern.
        batch, group: columns of replicates, and of what belongs together.
        unit: of doses written without one; else the column's name may end in it, `dose_ng_ml`.
        where: column -> value: only the rows that have it.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file, line and column: what was found, expected, and what to do.
    """
    table = read_columns(path)
    names = [name for name in table.matching(responses) if name not in (*inputs, batch, group)]
    if not names:
        raise ValueError(
            f"{table.path}: the responses {', '.join(responses)} name only inputs, batch or group; name a column of "
            "what was measured"
        )
    for name in (*inputs, *filter(None, (batch, group))):
        table.column(name)
    rows = _selected(table, where or {})
    values = np.stack([table.numbers(name)[rows] for name in names], axis=1)
    _check_responses(table, names, values)
    given = inputs_of(table, inputs, rows, unit)
    if len(given.labels) == 1:
        raise ValueError(
            f"{table.path}: column {given.name!r} is {given.labels[0]!r} in every row: one dose only tells nothing of "
            "information; add cells of another dose, or of a control (0)"
        )
    batch_names, batch_codes = _codes(table, batch, rows)
    return CellTable(table.path, given, values, tuple(names), batch_codes, batch_names, _codes(table, group, rows)[1])


def check_counts(table: CellTable, least: int = LEAST_CELLS) -> None:
    """Raises ValueError where an input has too few cells to be learnt and scored, or a response is constant."""
    counts = np.bincount(table.inputs.codes, minlength=len(table.inputs.labels))
    few = [f"{table.inputs.labels[i]} ({counts[i]})" for i in np.flatnonzero(counts < least)]
    if few:
        raise ValueError(
            f"{table.path}: too few cells of {len(few)} of {len(counts)} inputs in column {table.inputs.name!r}: "
            f"{', '.join(few[:8])}; expected {least} or more of each (100 for a number worth telling); measure "
            "more, leave those rows out, or put doses that are measured themselves into a few classes"
        )


def _selected(table: Columns, where: Mapping[str, str]) -> np.ndarray:
    taken = np.ones(table.n_rows, dtype=bool)
    for name, wanted in where.items():
        texts = table.texts(name)
        taken &= np.array([text.strip() == wanted for text in texts])
        if not taken.any():
            known = sorted(set(texts))
            raise ValueError(f"{table.path}: no row has {name} = {wanted!r}; found {', '.join(known[:8])}")
    return np.flatnonzero(taken)


def _check_responses(table: Columns, names: Sequence[str], values: np.ndarray) -> None:
    for name, column in zip(names, values.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known):
            raise ValueError(f"{table.path}: column {name!r} is empty; leave it out of the responses")
        if np.ptp(known) == 0:
            raise ValueError(
                f"{table.path}: column {name!r} is {known[0]:g} in every row: a constant response tells nothing; "
                "leave it out, or check the export"
            )


def _codes(table: Columns, name: str | None, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray | None]:
    if name is None:
        return (), None
    texts = table.texts(name)
    known, codes = np.unique([texts[row].strip() for row in rows], return_inverse=True)
    return tuple(known.tolist()), codes
