"""Rows of a table that come one by one, and are written as they come; the file is whole or absent."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from isometry.table import write_table
from isometry_data.written_whole import written_whole

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def write_rows(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Rows with the same columns, as `isometry.table.write_table` does; all at once only where the format needs it."""
    if out.suffix not in (*SEPARATORS, ".jsonl"):
        write_table(out, list(rows))
        return
    with written_whole(out) as stream:
        if out.suffix in SEPARATORS:
            _separated(stream, iter(rows), SEPARATORS[out.suffix])
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)


def _separated(stream: TextIO, rows: Iterator[dict[str, Any]], separator: str) -> None:
    first = next(rows, None)
    if first is None:
        return
    writer = csv.DictWriter(stream, list(first), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerow(first)
    writer.writerows(rows)
