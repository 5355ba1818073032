"""Ensembles: several trained models asked the same, their mean and how far they are apart.

Training has no unique answer: other seeds, other data orders, other networks fit the training data as well. Where the
members disagree, the data did not decide (Lakshminarayanan et al. 2017, arXiv:1612.01474). Predictions are averaged,
never weights: the hidden units of two members come in different orders.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from isometry.loaded import NO_LABEL, Loaded, own_test_set, scored
from isometry.manifest import WEIGHTS
from isometry.order import Records
from isometry.table import FORMATS, check_not_read, check_table_path, write_table

SPREAD = "_spread"
N_COMPARED = 100  # records of two test sets, to tell that they are one

Rows = list[dict[str, Any]]


class Scores(NamedTuple):
    """Of an ensemble on one data set."""

    together: dict[str, float]
    """Of the members' averaged answers."""
    members: list[dict[str, float]]
    """Of each alone."""
    spread: dict[str, float]
    """Standard deviation of each score over the members that have it (n - 1 in its denominator)."""
    rows: dict[str, np.ndarray]
    """Measured of the averaged answers, from which `together` follows."""


def predict_together(members: Sequence[Loaded], files: Sequence[Path], out: Path | None = None) -> Rows:
    """One row per record of `files` as the members' `predict` gives them, put together by `average_rows`.

    An app that makes one network of the members (`App.together`) is asked for that one's rows and formats of its own;
    of the members' rows then only the spreads are told, of the columns that all members have.

    Raises ValueError if the members are not of one app, fewer than two, twice the same, or `out` has a format that
    several models have no part in.
    """
    app = _check(members, files)
    is_own = out is not None and out.suffix in app.own_formats
    if is_own and app.together is None:
        raise ValueError(f"{out}: several models are written as a table; choose one of {', '.join(FORMATS)}")
    if out is not None:
        check_table_path(out, app.own_formats if is_own else ())
        check_not_read(out, files)
    read = app.to_predict or app.read
    tables = [app.predict(m.model, m.settings, read(m.settings, files), None) for m in members]
    rows = average_rows(tables if app.together is None else _that_all_tell(tables))
    if app.together is not None:
        first = members[0]
        one = app.together([member.model for member in members]).eval()
        own = app.predict(one, first.settings, read(first.settings, files), out if is_own else None)
        rows = [_with_spreads(row, averaged) for row, averaged in zip(own, rows, strict=True)]
    if out is not None and not is_own:
        write_table(out, rows)
    return rows


def _that_all_tell(tables: Sequence[Rows]) -> list[Rows]:
    """The tables with the columns that all of them have."""
    told = set.intersection(*(set(_columns([table])) for table in tables))
    return [[{name: value for name, value in row.items() if name in told} for row in table] for table in tables]


def _with_spreads(row: dict[str, Any], averaged: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, value in row.items():
        told[name] = value
        if (spread := name + SPREAD) in averaged:
            told[spread] = averaged[spread]
    return told


def average_rows(tables: Sequence[Rows]) -> Rows:
    """One table of several members' tables, row by row.

    A real number (or a list of them) becomes the members' mean, and a column `<name>_spread` with their standard
    deviation (n - 1 in its denominator) is added; nan or nothing in one member stays nan or nothing. Whole numbers,
    texts and truth values stay where all members agree; a column in which they do not holds the commonest value (of
    equals the first member's), and `<name>_agreement` the share of members that gave it.

    Raises ValueError if the tables differ in length, in columns, or in a first column that names the records.
    """
    _check_same_records(tables)
    columns = {name: [[row[name] for row in rows] for rows in zip(*tables, strict=True)] for name in _columns(tables)}
    merged = {key: column for name, values in columns.items() for key, column in _merged(name, values).items()}
    return [dict(zip(merged, row, strict=True)) for row in zip(*merged.values(), strict=True)]


def evaluate_together(members: Sequence[Loaded], files: Sequence[Path] = ()) -> Scores:
    """Scores of the members' averaged rows (`Objective.measure`) on labelled files, or on their common test set.

    Without `App.together` this is the score of the mean prediction as far as rows are linear in what is predicted:
    residuals and probabilities are; a row that is already a loss is averaged as such, and rows of whole numbers hold
    the commonest value.

    Raises ValueError as `predict_together`, and where the members' own test sets differ: one's may be another's
    training data.
    """
    app = _check(members, files)
    sets = [app.read(m.settings, files) if files else own_test_set(m) for m in members]
    if not files and not all(_same_records(sets[0], other) for other in sets[1:]):
        raise ValueError("the members' test sets differ: one may have been trained on another's; name files instead")
    alone, measured = zip(*(scored(m, records) for m, records in zip(members, sets, strict=True)), strict=True)
    first = members[0]
    if app.together is None:
        rows = _averaged(measured)
        together = app.objective(first.settings).score(rows)
    else:
        one = app.together([member.model for member in members]).eval()
        together, rows = scored(replace(first, model=one), sets[0])
    if not together:
        raise ValueError(NO_LABEL)
    spread = {name: _deviation([scores[name] for scores in alone if name in scores]) for name in together}
    return Scores(together, list(alone), spread, rows)


# What must be the same


def _check(members: Sequence[Loaded], files: Sequence[Path]) -> Any:
    """The members' app."""
    if pipes := [file for file in files if file.is_fifo()]:
        raise ValueError(f"{pipes[0]}: is a pipe, read once, and each member reads its files; write it to a file first")
    if len(members) < 2:
        raise ValueError(f"found {len(members)} model, expected two or more to average")
    names = sorted({member.app.name for member in members})
    if len(names) > 1:
        raise ValueError(f"the members are of the apps {', '.join(names)}; expected one app")
    twice = [path for path, n in Counter(member.checkpoint.path.resolve() for member in members).items() if n > 1]
    if twice:
        raise ValueError(f"{twice[0]}: named twice; the members of an ensemble must differ")
    seen: dict[str, Path] = {}
    for checkpoint in (member.checkpoint for member in members):
        first = seen.setdefault(checkpoint.manifest["files"][WEIGHTS]["sha256"], checkpoint.path)
        if first != checkpoint.path:
            raise ValueError(f"{checkpoint.path}: has the weights of {first}; the members of an ensemble must differ")
    return members[0].app


_ALIKE = "name members that say the same things of a file, such as runs of one preset"


def _check_same_records(tables: Sequence[Rows]) -> None:
    for number, (one, other) in enumerate(pairwise(tables), start=2):
        if one and other and list(_columns([one])) != list(_columns([other])):
            differing = ", ".join(sorted(_columns([one]).keys() ^ _columns([other]).keys())) or "their order"
            raise ValueError(
                f"member {number} gives other columns than the one before it; they differ in {differing}: {_ALIKE}"
            )
        if len(one) != len(other):
            raise ValueError(
                f"member {number} gives {len(other)} rows, the one before it {len(one)}; expected as many: {_ALIKE}"
            )
        for place, (left, right) in enumerate(zip(one, other, strict=True), start=1):
            first = next(iter(left), None)
            if first is not None and not isinstance(left[first], float) and left[first] != right[first]:
                raise ValueError(
                    f"row {place}: member {number} speaks of {first} {right[first]!r}, the one before it of "
                    f"{left[first]!r}; expected the same records in the same order"
                )


def _columns(tables: Sequence[Rows]) -> dict[str, None]:
    """Raises ValueError if the rows of a member do not all have the same columns."""
    for table in tables:
        if any(row.keys() != table[0].keys() for row in table):
            raise ValueError("a member's rows differ in their columns; expected the same in each row")
    return dict.fromkeys(name for table in tables for row in table[:1] for name in row)


def _same_records(one: Records, other: Records) -> bool:
    if len(one) != len(other):
        return False
    places = np.unique(np.linspace(0, len(one) - 1, N_COMPARED).astype(int)).tolist()
    return all(_same(one[i], other[i]) for i in places)


def _same(one: Any, other: Any) -> bool:
    """Whether two items of a data set are equal: tensors, arrays, dicts, sequences, dataclasses, PyG data."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"))
    if hasattr(one, "to_dict"):
        return _same(one.to_dict(), other.to_dict())
    if is_dataclass(one):
        return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(left, right) for left, right in zip(one, other, strict=True))
    return bool(one == other) or (one != one and other != other)


# Putting together


def _merged(name: str, values: list[list[Any]]) -> dict[str, list[Any]]:
    """The columns that come of one: `values` holds for each row what each member says."""
    if any(_is_real(value) for row in values for value in row):
        told = [_mean_and_spread(row) for row in values]
        return {name: [mean for mean, _ in told], f"{name}{SPREAD}": [spread for _, spread in told]}
    if all(value == row[0] for row in values for value in row):
        return {name: [row[0] for row in values]}
    commonest = [max(row, key=row.count) for row in values]
    shares = [row.count(value) / len(row) for row, value in zip(values, commonest, strict=True)]
    return {name: commonest, f"{name}_agreement": shares}


def _is_real(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list | tuple) and any(_is_real(below) for below in value))


def _mean_and_spread(values: list[Any]) -> tuple[Any, Any]:
    if any(value is None for value in values):
        return None, None
    array = np.array(values, dtype=np.float64)
    # Equal numbers have themselves as their mean and no spread, which sums need not give back.
    is_same = (array == array[0]).all(0)
    mean, spread = np.where(is_same, array[0], array.mean(0)), np.where(is_same, 0.0, array.std(0, ddof=1))
    return mean.tolist(), spread.tolist()


def _averaged(measured: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: _averaged_row(name, [rows[name] for rows in measured]) for name in measured[0]}


def _averaged_row(name: str, rows: list[np.ndarray]) -> np.ndarray:
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"the members measure '{name}' in different shapes; they do not speak of the same records")
    stacked = np.stack(rows)
    return stacked.mean(0) if stacked.dtype.kind == "f" else _commonest(stacked)


def _commonest(stacked: np.ndarray) -> np.ndarray:
    """[n_members, ...] -> [...]; of equals the first."""
    n_alike = (stacked[:, None] == stacked[None]).sum(1)
    return np.take_along_axis(stacked, n_alike.argmax(0)[None], 0)[0]


def _deviation(values: list[float]) -> float:
    """NaN where fewer than two members have the score."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
