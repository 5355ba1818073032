"""Results as a table on disk: CSV, JSON lines, or Parquet where pyarrow is installed; whole or not at all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isometry.durable import check_writable, write_whole

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
NO_PYARROW = "writing .parquet needs pyarrow: pip install 'isometry[parquet]', or choose .csv"

Rows = Sequence[dict[str, Any]]

GAP = 2  # letters between two columns on a terminal


def check_table_path(path: Path, own_formats: Sequence[str] = ()) -> None:
    """Before work begins: is there a format by the ending of `path`, and can it be written?

    Raises ValueError when no format goes by the ending, OSError when the folder does not exist or cannot be written in.
    """
    if path.suffix not in (*FORMATS, *own_formats):
        known = ", ".join((*FORMATS, *own_formats))
        raise ValueError(f"{path}: no format is known by the ending '{path.suffix}'; expected one of {known}")
    if not path.parent.is_dir():
        if path.parent.exists():
            raise NotADirectoryError(f"{path}: {path.parent} is a file, expected a folder; name another place")
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; create it first")
    check_writable(path)
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ValueError(NO_PYARROW)


def check_not_read(path: Path, files: Sequence[Path]) -> None:
    """Raises ValueError when `path` is one of the files that are read: it would be lost."""
    for file in files:
        if file.exists() and path.exists() and path.samefile(file):
            raise ValueError(f"{path}: is one of the files to read, and would be overwritten; choose another --out")


def write_table(path: Path, rows: Rows, columns: Sequence[str] = ()) -> None:
    """Write rows with the union of their columns, in order of first appearance.

    Args:
        columns: that are there in any case, first; a table without rows has its header by them.
    """
    check_table_path(path)
    columns = list(dict.fromkeys([*columns, *(column for row in rows for column in row)]))
    encode: dict[str, Callable[[Rows, list[str]], bytes]] = {
        ".csv": lambda rows, columns: _separated(rows, columns, ","),
        ".tsv": lambda rows, columns: _separated(rows, columns, "\t"),
        ".jsonl": _json_lines,
        ".parquet": _parquet,
    }
    write_whole(path, encode[path.suffix](rows, columns))


def _separated(rows: Rows, columns: list[str], separator: str) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _json_lines(rows: Rows, _columns: list[str]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: Rows, columns: list[str]) -> bytes:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(NO_PYARROW) from None
    buffer = io.BytesIO()
    table = pyarrow.table({column: [row.get(column) for row in rows] for column in columns})
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def print_rows(rows: list[dict[str, Any]], n_shown: int = 40) -> None:
    """Rows under the union of their keys: on a terminal as many columns as fit, elsewhere all of them."""
    from rich.console import Console
    from rich.table import Table

    from isometry.spell import number

    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = {column: [number(row.get(column), 6) for row in rows[:n_shown]] for column in columns}
    widths = [max(map(len, (column, *of))) + GAP for column, of in cells.items()]
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(sum(widths), 1))
    n_columns = _that_fit(widths, console.width)
    table = Table(box=None, pad_edge=False)
    for column in columns[:n_columns]:
        is_text = any(isinstance(row.get(column), str) for row in rows)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in zip(*(cells[column] for column in columns[:n_columns]), strict=True):
        table.add_row(*row)
    console.print(table)
    left = {"rows": len(rows) - n_shown, "columns": len(columns) - n_columns}
    if more := " and ".join(f"{n} more {name}" for name, n in left.items() if n > 0):
        print(f"… and {more}; a file written by --out has all of them")


def _that_fit(widths: list[int], room: int) -> int:
    """Columns, the first at least, whose widths together need no more than the room."""
    n = 0
    while n < len(widths) and sum(widths[: n + 1]) - GAP <= room:
        n += 1
    return max(n, 1)
