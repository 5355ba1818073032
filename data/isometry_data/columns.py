"""Named columns of a table file, CSV, Parquet or AnnData, as text or numbers; every failure names its place."""

from __future__ import annotations

import csv
import difflib
import fnmatch
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isometry_data.text_files import lines_of, name_of

MISSING = frozenset({"", "na", "nan", "n/a", "null", "none", "-"})
FORMATS = (".csv", ".tsv", ".txt", ".parquet", ".h5ad")
MOST_NAMED = 12


@dataclass(frozen=True)
class Columns:
    """A table in memory."""

    path: str
    columns: dict[str, Any]
    """name -> list of text (CSV), or an array"""
    n_rows: int
    first_place: int
    """How the first row is counted: line 2 of a CSV file, row 1 elsewhere."""
    row_word: str

    def place(self, row: int) -> str:
        return f"{self.row_word} {row + self.first_place}"

    def column(self, name: str) -> Any:
        """Raises ValueError that names the nearest columns where there is none of that name."""
        if name not in self.columns:
            near = difflib.get_close_matches(name, list(self.columns), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{self.path}: no column {name!r}{hint}; its columns: {_listed(list(self.columns))}")
        return self.columns[name]

    def matching(self, patterns: Sequence[str]) -> list[str]:
        """The columns that any pattern (`response_*`) names, in the file's order; ValueError where one names none."""
        for pattern in patterns:
            if pattern not in self.columns and not fnmatch.filter(self.columns, pattern):
                found = _listed(list(self.columns))
                raise ValueError(f"{self.path}: no column is called {pattern!r}; its columns: {found}")
        # A name may have brackets of its own: "pSTAT [a.u.]".
        return [
            name
            for name in self.columns
            if any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]

    def texts(self, name: str) -> list[str]:
        """A column as text; a whole number without its ".0"; missing is ""."""
        values = self.column(name)
        return values if isinstance(values, list) else [_as_text(value) for value in values]

    def numbers(self, name: str) -> np.ndarray:
        """[n_rows] float64, NaN where missing. Raises ValueError at the first text or infinite number."""
        values = self.column(name)
        if not isinstance(values, list) and np.asarray(values).dtype.kind in "fiub":
            found = np.asarray(values, dtype=float)
        else:
            found = self._parsed(name, [_as_text(value) for value in values])
        if np.isinf(found).any():
            row = int(np.flatnonzero(np.isinf(found))[0])
            raise ValueError(
                f"{self.path}, {self.place(row)}, column {name!r}: found an infinite number; "
                "leave the field empty where the value is missing"
            )
        return found

    def _parsed(self, name: str, texts: list[str]) -> np.ndarray:
        known = ["nan" if text.strip().lower() in MISSING else text for text in texts]
        try:
            return np.array(known, dtype=float)
        except ValueError:
            row = next(row for row, text in enumerate(known) if not _is_number(text))
            raise ValueError(
                f"{self.path}, {self.place(row)}, column {name!r}: found {texts[row].strip()!r}, expected a number "
                "(decimals with a point) or an empty field"
            ) from None


def read_columns(path: str | os.PathLike[str]) -> Columns:
    """The whole table, its format by the ending (text also .gz; any other name is CSV).

    Raises:
        FileNotFoundError: no such file.
        ValueError: two columns of one name, rows of other lengths, no rows, a reader that is not installed.
    """
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    if ending in (".parquet", ".h5ad") and not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if ending == ".parquet":
        return _parquet(str(path))
    return _anndata(str(path)) if ending == ".h5ad" else _separated(str(path))


def _separated(path: str) -> Columns:
    lines = lines_of(path)
    separator = max(",\t;", key=lines[0].count)
    rows = csv.reader(lines, delimiter=separator)
    names = [name.strip() for name in next(rows)]
    _check_names(name_of(path), names)
    table = list(rows)
    while table and not any(table[-1]):
        table.pop()
    for number, row in enumerate(table, start=2):
        if len(row) != len(names):
            raise ValueError(
                f"{name_of(path)}, line {number}: found {len(row)} fields, expected {len(names)} as in the header; "
                "correct the line, or save the table again as CSV"
            )
    if not table:
        raise ValueError(
            f"{name_of(path)}: a header without rows; expected one row per cell; name another file, or export it again"
        )
    columns = dict(zip(names, map(list, zip(*table, strict=True)), strict=True))
    return Columns(name_of(path), columns, len(table), 2, "line")


def _parquet(path: str) -> Columns:
    try:
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path}: reading .parquet needs pyarrow: pip install 'isometry[parquet]'") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet table ({str(error).splitlines()[0][:120]})") from None
    _check_names(path, table.column_names)
    return _in_rows(path, {name: _plain(table.column(name)) for name in table.column_names})


def _plain(column: Any) -> np.ndarray:
    """A column of Arrow without the help of pandas; categories by their values, for a missing one has no number."""
    from pyarrow import types  # pyright: ignore[reportMissingImports]

    return (column.cast(column.type.value_type) if types.is_dictionary(column.type) else column).to_numpy()


def _anndata(path: str) -> Columns:
    """Columns of `obs`, and each variable's values in `X`."""
    try:
        import anndata  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path}: reading .h5ad needs anndata: pip install 'isometry[anndata]'") from None
    try:
        data = anndata.read_h5ad(path)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not an AnnData file ({str(error).splitlines()[0][:120]})") from None
    matrix: Any = data.X
    values = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    _check_names(path, [*map(str, data.obs.columns), *map(str, data.var_names)])
    columns = {str(name): data.obs[name].to_numpy() for name in data.obs.columns}
    if values is not None:
        columns |= {str(name): np.asarray(values)[:, i].astype(float) for i, name in enumerate(data.var_names)}
    return _in_rows(path, columns)


def _in_rows(path: str, columns: dict[str, Any]) -> Columns:
    n_rows = min((len(column) for column in columns.values()), default=0)
    if n_rows == 0:
        raise ValueError(f"{path}: a table without rows; expected one row per cell")
    return Columns(path, columns, n_rows, 1, "row")


def _check_names(path: str, names: Sequence[str]) -> None:
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        places = " and ".join(str(i) for i, name in enumerate(names, start=1) if name == twice[0])
        raise ValueError(f"{path}: columns {places} have one name, {twice[0]!r}; rename one of them")


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    return f"{value:g}" if isinstance(value, float | np.floating) and value == round(value, 12) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
