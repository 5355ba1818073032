"""`isometry compare RUN RUN …`: the settings in which runs differ, and what each reached."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser("compare", help="tabulate the settings in which runs differ, and their scores")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="run folders or checkpoint folders")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write one row per run; the ending chooses the format")
    parser.set_defaults(run=_run)
    return parser


def _run(options: argparse.Namespace, _rest: list[str]) -> int:
    from isometry.compare import as_rows, compare, differing
    from isometry.events import plain
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
        print(json.dumps(plain({"app": entries[0].app, "runs": told}), indent=2))
    else:
        _print(rows, list(differing(entries)))
        if options.out is not None:
            print(f"written: {options.out}")
    return 0


def _print(rows: list[dict[str, Any]], settings: list[str]) -> None:
    """Settings, then results: side by side they rarely fit a terminal. Scores of parts ("a/b") are left to --out."""
    from isometry.table import print_rows

    if settings:
        print_rows([{"run": row["run"]} | {name: row[name] for name in settings} for row in rows])
        print()
    else:
        print("the settings are the same in all of them")
    print_rows([{name: row[name] for name in row if name not in settings and "/" not in name} for row in rows])
