"""`isometry sweep APP --over SETTING=LOW:HIGH`: the U-curve of a setting, by training at many values of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from isometry.app import App
from isometry.choice import add_choice, with_choice
from isometry.events import as_json


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser(
        "sweep", help="train at many values of a setting and find the best one", add_help=False, allow_abbrev=False
    )
    add_choice(parser)
    parser.add_argument(
        "--over",
        metavar="SETTING=LOW:HIGH",
        action="append",
        default=[],
        help="a range, in the logarithm, or values A,B,C; again for further settings",
    )
    parser.add_argument("--trials", type=int, default=9, metavar="N", help="points of a range (default: 9)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each point (default: 3)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    parser.add_argument("--linear", action="store_true", help="cut ranges evenly, not in the logarithm")
    parser.add_argument(
        "--strength",
        action=argparse.BooleanOptionalAction,
        help="more of the setting means more regularisation (default: judged by its name and the training score)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the sweep's folder (default: sweeps/APP-PRESET)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run)
    return parser


@with_choice
def _run(options: argparse.Namespace, app: App, settings: Any) -> int:
    if not options.over and not options.worker:
        raise ValueError("say what to sweep over: --over SETTING=LOW:HIGH, as in --over optim.decay=1e-6:1e-1")
    from isometry.sweep import join, sweep
    from isometry.swept import as_data

    out = options.out or Path("sweeps") / f"{app.name}-{options.preset}"
    if options.worker:
        join(app, out, _ignore if options.json else _tell)
        return 0
    swept = sweep(
        app,
        settings,
        options.over,
        out,
        trials=options.trials,
        seeds=options.seeds,
        processes=options.processes,
        is_linear=options.linear,
        is_strength=options.strength,
        tell=None if options.json else _tell,
    )
    if options.json:
        print(as_json({"sweep": out} | as_data(swept)))
    else:
        _print(swept)
    return 0


def _print(swept: Any) -> None:
    from isometry.swept import as_told
    from isometry.table import print_rows

    print_rows([as_told(row) for row in swept.rows])
    if swept.failed:
        print_rows(swept.failed)
    print(swept.summary())
    print(f"report:   {swept.folder / 'report.html'}")


def _tell(line: str) -> None:
    print(line, flush=True)


def _ignore(_line: str) -> None:
    """For --json: nothing but the result is printed."""
