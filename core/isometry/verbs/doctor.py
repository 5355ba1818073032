"""`isometry doctor APP`: examine an app's network on its first training batch, before a step is taken."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from isometry.app import App
from isometry.choice import add_choice, with_choice

EXIT_FATAL = 1


def add(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "doctor", help="examine an app's network before it trains", add_help=False, allow_abbrev=False
    )
    add_choice(parser)
    parser.add_argument(
        "--run", dest="checkpoint", metavar="RUN", help="examine the weights of this run or checkpoint, not fresh ones"
    )
    parser.add_argument("--fix", action="store_true", help="try the safe remedies; show before and after")
    parser.add_argument(
        "--attack",
        type=float,
        nargs="+",
        metavar="EPSILON",
        help="also move every number of the input by EPSILON to where the loss rises (fast gradient sign)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots per layer")
    parser.set_defaults(run=_run)
    return parser


@with_choice
def _run(options: argparse.Namespace, app: App, settings: Any) -> int:
    """Exit code 1 where something fatal remains."""
    if options.fix and options.checkpoint:
        raise ValueError("--fix begins weights anew, which would throw away those of --run; give one of the two")
    if options.fix and options.attack:
        raise ValueError("--fix shows the treated network, --attack a fresh one; give one of the two")
    if options.html is not None and not options.html.parent.is_dir():
        raise ValueError(f"{options.html}: the folder {options.html.parent} does not exist; create it first")
    from isometry.doctor.visit import examine_app, treat_app

    if options.fix:
        treatment = treat_app(app, settings)
        after = treatment.after
    else:
        treatment, after = None, examine_app(app, settings, options.checkpoint)
    if options.html is not None:
        after.write_html(options.html)
    attacked = None
    if options.attack:
        from isometry.doctor.attacked import attack_app

        attacked = attack_app(app, settings, options.checkpoint, options.attack)
    _tell(after, treatment, attacked, app.name, options)
    return EXIT_FATAL if after.verdict == "fatal" else 0


def _tell(after: Any, treatment: Any, attacked: dict[str, Any] | None, app: str, options: argparse.Namespace) -> None:
    if options.json:
        from isometry.events import as_json

        told = after.as_dict() if treatment is None else treatment.as_dict()
        print(as_json(told if attacked is None else {**told, "attack": attacked}))
        return
    from rich.console import Console

    from isometry.doctor.telling import show, show_attack, show_treatment

    console = Console(soft_wrap=False)
    if treatment is None:
        show(after, console)
    else:
        show_treatment(treatment, console, app)
    if attacked is not None:
        show_attack(attacked, console)
    if options.html is not None:
        print(f"written: {options.html}")
