"""Columns of inputs as a list of what was given, in order of dose, and which of them each row got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isometry_data.columns import MISSING, Columns
from isometry_data.units import Unit, amount, has_comma, unit, unit_of_header

WITHOUT_COMMA = "write decimals with a point and thousands without a mark (0.5, 1000); what is no dose, with letters"


@dataclass(frozen=True)
class Inputs:
    """What cells were given."""

    name: str
    """The column, or several joined by " × "."""
    labels: tuple[str, ...]
    """[n_inputs] in order of dose"""
    amounts: np.ndarray | None
    """[n_inputs] float64 in `unit`, 0 among them where a control is; None: names, or several columns."""
    unit: str
    codes: np.ndarray
    """[n_rows] 0 … n_inputs - 1"""


def inputs_of(table: Columns, names: Sequence[str], rows: np.ndarray, given_unit: str = "") -> Inputs:
    """The inputs of some rows.

    A column of numbers, with or without units, is doses; one of which no entry is a number is names. With several
    columns each combination is an input, and doses of each name may have a unit of their own.

    Raises:
        ValueError: an input is missing, or a column mixes numbers and text, kinds of units, or doses with and without;
            doses have commas.
    """
    texts = [_texts(table, name, rows) for name in names]
    is_name = [not any(amount(text) for text in set(column)) for column in texts]
    for name, column in zip(names, texts, strict=True):
        if all(has_comma(text) for text in set(column)):
            place = f"{table.path}, {table.place(int(rows[0]))}, column {name!r}"
            raise ValueError(f"{place}: found {column[0]!r}, and a comma in all other doses, too; {WITHOUT_COMMA}")
    of_name = list(zip(*(column for column, named in zip(texts, is_name, strict=True) if named), strict=True))
    parts: list[list[tuple[float, str]]] = []
    units: set[str] = set()
    for name, column, named in zip(names, texts, is_name, strict=True):
        if named:
            parts.append([(0.0, text) for text in column])
        else:
            found = _amounts(table, name, column, rows, of_name or [()] * len(rows), given_unit)
            units |= {written for _, written in found}
            parts.append(found)
    keys = list(zip(*parts, strict=True))
    order = sorted(
        set(keys),
        key=lambda key: [(text if named else "", value) for (value, text), named in zip(key, is_name, strict=True)],
    )
    place = {key: i for i, key in enumerate(order)}
    is_one_dose = len(names) == 1 and not is_name[0]
    return Inputs(
        " × ".join(names),
        tuple(_label(key, is_name, len(names) > 1) for key in order),
        np.array([key[0][0] for key in order]) if is_one_dose else None,
        next(iter(units)) if is_one_dose else "",
        np.array([place[key] for key in keys]),
    )


def _label(key: tuple[tuple[float, str], ...], is_name: list[bool], with_unit: bool) -> str:
    words = [
        text if named else f"{value:g} {text if with_unit else ''}".strip()
        for (value, text), named in zip(key, is_name, strict=True)
    ]
    return " ".join(words)


def _texts(table: Columns, name: str, rows: np.ndarray) -> list[str]:
    every = table.texts(name)
    column = [every[row].strip() for row in rows]
    for row, text in zip(rows, column, strict=True):
        if text.lower() in MISSING:
            raise ValueError(
                f"{table.path}, {table.place(int(row))}, column {name!r}: the input is missing (found {text!r}); "
                "say what the cell was given (0 for a control), or leave the row out"
            )
    return column


def _amounts(
    table: Columns, name: str, column: list[str], rows: np.ndarray, of_name: Sequence[tuple[str, ...]], given: str
) -> list[tuple[float, str]]:
    """(amount, unit) of each row, in the first unit written for its name."""
    header = given or unit_of_header(name)
    first: dict[tuple[str, ...], tuple[Unit, int]] = {}
    known: dict[tuple[tuple[str, ...], str], tuple[float, str]] = {}
    for i, key in enumerate(zip(of_name, column, strict=True)):
        if key not in known:
            known[key] = _amount(table, name, column[i], int(rows[i]), header, first, key[0])
    # A zero before the first unit was seen takes that unit.
    return [
        (value, first[of][0].name if of in first else "")
        for of, text in zip(of_name, column, strict=True)
        for value, _ in [known[of, text]]
    ]


def _amount(
    table: Columns, name: str, text: str, row: int, header: str, first: dict, of: tuple[str, ...]
) -> tuple[float, str]:
    place = f"{table.path}, {table.place(row)}, column {name!r}"
    found = amount(text)
    if found is None:
        remedy = f"; {WITHOUT_COMMA}" if has_comma(text) else ""
        raise ValueError(f"{place}: found {text!r} among doses, expected a number, with or without a unit{remedy}")
    value, written = found
    if value < 0 or not np.isfinite(value):
        raise ValueError(f"{place}: found the dose {text!r}, expected 0 or more; doses are amounts, not logarithms")
    own = unit(written or header)
    if value == 0 and not written:
        return 0.0, ""
    if of not in first:
        first[of] = own, row
    before, at = first[of]
    if own.kind != before.kind:
        raise ValueError(
            f"{place}: found {text!r}, but {table.place(at)} is in {before.name or 'no unit'!r}: doses of one column "
            "need units of one kind; convert them (by the molar mass), or write the unit everywhere"
        )
    return float(f"{value * own.size / before.size:.12g}"), before.name
