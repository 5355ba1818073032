"""`isometry compare RUN RUN …`: the settings in which runs differ, and what each reached."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from isometry.events import as_json

MOST_COLUMNS = 5  # of runs side by side


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("compare", help="tabulate the settings in which runs differ, and their scores")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders or checkpoint folders")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write one row per run; the ending chooses the format")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    from isometry.compare import as_rows, compare, differing
    from isometry.table import check_table_path, write_table

    if options.out is not None:
        check_table_path(options.out)
    entries = compare(options.runs)
    rows = as_rows(entries)
    if options.out is not None:
        write_table(options.out, rows)
    if options.json:
        names = differing(entries)
        told = [
            {
                "run": str(entry.path),
                "state": entry.state,
                "settings": {name: values[place] for name, values in names.items()},
                "scores": entry.scores,
                "calibration": entry.calibration,
                "steps": entry.steps,
                "seconds": entry.seconds,
                "parameters": entry.n_parameters,
            }
            for place, entry in enumerate(entries)
        ]
        print(as_json({"app": entries[0].app, "runs": told}))
    else:
        _print(rows, list(differing(entries)))
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _print(rows: list[dict[str, Any]], settings: list[str]) -> None:
    """A column for each of a few runs, a row for each of many. Scores of parts ("a/b") are left to --out."""
    from isometry.table import print_rows

    if not settings:
        print("the settings are the same in all of them")
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if "/" not in name]
    runs = _short([row["run"] for row in rows])
    if len(rows) > MOST_COLUMNS:
        print_rows(
            [{"run": run} | {name: row.get(name) for name in names[1:]} for run, row in zip(runs, rows, strict=True)]
        )
        return
    columns = list(zip(runs, rows, strict=True))
    print_rows([{"": name} | {run: _spelled(row.get(name)) for run, row in columns} for name in names[1:]])


def _short(runs: list[str]) -> list[str]:
    """The paths without the folders that all of them are in."""
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(run)) for run in runs])
    short = [os.path.relpath(os.path.abspath(run), shared) for run in runs]
    return short if len(set(short)) == len(short) else [f"{place}: {run}" for place, run in enumerate(short, 1)]


def _spelled(value: Any) -> str:
    from isometry.spell import number

    return number(value, 6)
