"""Labels of whole proteins: numbers or a class for each name, from a CSV file."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from isometry_data.state_tables import is_state_table
from isometry_data.text_files import lines_of

from isometry_protein.model import ModelSettings, names_of_classes, names_of_values


class WholeLabels(NamedTuple):
    values: dict[str, tuple[float, ...]]
    """Numbers by the protein's name; NaN where unknown."""
    kinds: dict[str, int]
    """Index into `classes` by the protein's name."""
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def read_whole(path: Path | None) -> WholeLabels:
    """A column `name`; a column `class`, if any, holds classes by name, every other column numbers; gz, too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line: no column `name`, two columns of one name, a protein's name missing or
            given twice, or something that is no finite number.
    """
    if path is None:
        return WholeLabels({}, {})
    reader = csv.reader(lines_of(path))
    columns = [column.strip() for column in next(reader, [])]
    if "name" not in columns or len(columns) < 2:
        raise ValueError(
            f"{path}, line 1: columns {', '.join(columns) or 'none'}; expected name and labels, with commas between"
        )
    if twice := [column for column, n in Counter(columns).items() if n > 1]:
        raise ValueError(f"{path}, line 1: two columns {twice[0]!r}; give each a name of its own, or leave one out")
    if "sequence" in columns:
        raise ValueError(
            f"{path}, line 1: a column sequence; write sequences as FASTA, under the same names, and leave it out here"
        )
    rows = [(f"{path}, line {reader.line_num}", _row(columns, row, path, reader.line_num)) for row in reader if row]
    _check_names(rows)
    numbers = tuple(column for column in columns if column not in ("name", "class"))
    classes = tuple(sorted({row["class"] for _, row in rows if row.get("class")}))
    values = {row["name"]: tuple(_number(row[column], where) for column in numbers) for where, row in rows}
    kinds = {row["name"]: classes.index(row["class"]) for _, row in rows if row.get("class")}
    return WholeLabels(values if numbers else {}, kinds, numbers, classes)


def is_table(path: Path) -> bool:
    """Whether a file is one of labels by its name, and not one of sequences with states."""
    return str(path).lower().removesuffix(".gz").endswith(".csv") and not is_state_table(path)


def known_to(model: ModelSettings, whole: WholeLabels, path: Path | None) -> WholeLabels:
    """The numbers in the order of the network's, NaN for those that the table has not; classes as it counts them.

    Raises:
        ValueError: a class that the network does not know, or nothing that it has a head for.
    """
    if path is None:
        return whole._replace(columns=names_of_values(model))
    wanted = names_of_values(model) if "regression" in model.heads else ()
    names = names_of_classes(model) if "classes" in model.heads else ()
    if not set(wanted) & set(whole.columns) and not (names and whole.classes):
        told = ", ".join([*wanted, *(["class"] if names else [])])
        raise ValueError(
            f"{path}: no column that this network has a head for; "
            + (f"expected {told}" if told else "leave the file out")
        )
    strange = sorted(set(whole.classes) - set(names)) if names else []
    if strange:
        raise ValueError(
            f"{path}: class {strange[0]!r}, which this network did not learn; expected {', '.join(names)}, or nothing"
        )
    places = [whole.columns.index(name) if name in whole.columns else None for name in wanted]
    return WholeLabels(
        {name: tuple(math.nan if i is None else own[i] for i in places) for name, own in whole.values.items()},
        {name: names.index(whole.classes[kind]) for name, kind in whole.kinds.items()} if names else {},
        wanted,
        names,
    )


def _row(columns: list[str], row: list[str], path: Path, line: int) -> dict[str, str]:
    if len(row) != len(columns):
        raise ValueError(
            f"{path}, line {line}: {len(row)} columns; expected {len(columns)}, as in line 1, empty where unknown"
        )
    return dict(zip(columns, (cell.strip() for cell in row), strict=True))


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
