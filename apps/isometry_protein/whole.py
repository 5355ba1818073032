"""Labels of whole proteins: numbers or a class for each name, from a CSV file."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from isometry_data.text_files import lines_of


class WholeLabels(NamedTuple):
    values: dict[str, tuple[float, ...]]
    """Numbers by the protein's name; NaN where unknown."""
    kinds: dict[str, int]
    """Index into `classes` by the protein's name."""
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def read_whole(path: Path | None) -> WholeLabels:
    """A column `name`; a column `class`, if any, holds classes by name, every other column numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line: no column `name`, a name missing or given twice, or something that is
            no finite number.
    """
    if path is None:
        return WholeLabels({}, {})
    reader = csv.reader(lines_of(path))
    columns = next(reader, [])
    if "name" not in columns or len(columns) < 2:
        raise ValueError(
            f"{path}, line 1: columns {', '.join(columns) or 'none'}; expected name and labels, with commas between"
        )
    rows = [(f"{path}, line {reader.line_num}", _row(columns, row, path, reader.line_num)) for row in reader if row]
    _check_names(rows)
    numbers = tuple(column for column in columns if column not in ("name", "class"))
    classes = tuple(sorted({row["class"] for _, row in rows if row.get("class")}))
    values = {row["name"]: tuple(_number(row[column], where) for column in numbers) for where, row in rows}
    kinds = {row["name"]: classes.index(row["class"]) for _, row in rows if row.get("class")}
    return WholeLabels(values if numbers else {}, kinds, numbers, classes)


def _row(columns: list[str], row: list[str], path: Path, line: int) -> dict[str, str]:
    if len(row) != len(columns):
        raise ValueError(
            f"{path}, line {line}: {len(row)} columns; expected {len(columns)}, as in line 1, empty where unknown"
        )
    return dict(zip(columns, row, strict=True))


def _check_names(rows: list[tuple[str, dict[str, str]]]) -> None:
    seen: dict[str, str] = {}
    for where, row in rows:
        name = row["name"]
        if not name:
            raise ValueError(f"{where}: no name; expected that of a protein")
        if name in seen:
            raise ValueError(f"{where}: {name} has labels already ({seen[name]}); leave one of the two out")
        seen[name] = where


def _number(text: str, where: str) -> float:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"{where}: found {text!r}, expected a number, or nothing where it is unknown")
    return value
