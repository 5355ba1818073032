"""`isometry plane`: the whole information plane of a network, certified, beside the exact curve where there is one."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry.choice import chosen
from isometry.events import as_json

if TYPE_CHECKING:
    from isometry_signaling.plane import PlanePoint
    from isometry_signaling.truth import Truth

FIGURES = (".png", ".svg", ".pdf")
LOWEST_BETA, N_BETAS = 1.05, 30


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser(
        "plane",
        help="trace what a cell's state can know for what it pays, and certify it (signaling)",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--run", dest="model", metavar="RUN", help="a trained network to follow (default: train one)")
    parser.add_argument("--preset", default="tiny", help="ready-made settings to start from (default: tiny)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with settings that differ from it")
    parser.add_argument("--betas", type=int, default=N_BETAS, metavar="N", help=f"how many (default: {N_BETAS})")
    parser.add_argument("--low", type=float, metavar="BETA", help="the smallest (default: where the curve begins)")
    parser.add_argument("--high", type=float, metavar="BETA", help="the largest (default: where the curve is flat)")
    parser.add_argument("--steps", type=int, metavar="N", help="quasi-Newton steps for each (default: 300)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="table or figure by its ending; repeatable",
    )
    parser.add_argument("-h", "--help", action="store_true", help="with --preset: every setting of the app, too")
    parser.set_defaults(run=_run, takes_settings=True, parser=parser, app="signaling")
    return parser


def _run(options: argparse.Namespace, flags: list[str]) -> int:
    from isometry.table import check_not_read, check_table_path, print_rows

    if options.help:
        options.parser.print_help()
    for out in options.out:
        check_table_path(out, FIGURES)
        check_not_read(out, [options.config] if options.config is not None else [])
    if options.model is not None and flags:
        raise ValueError(f"{options.model} has its settings already; leave out {flags[0]}, or train another run")
    choice = chosen(options, flags)
    assert choice is not None
    points, truth = trace(*choice, options)
    from isometry_signaling.plane import as_rows

    rows = as_rows(points, truth.relevance_at if truth else None)
    for out in options.out:
        _write(out, rows, points, truth)
    if options.json:
        print(as_json(_told(rows, truth)))
        return 0
    shown = ("beta", "rate_upper", "relevance_lower", "exact_relevance", "gap")
    print_rows([{name: row[name] for name in shown if name in row} for row in rows])
    for line in [*_summary(rows, truth), *(f"written: {out}" for out in options.out)]:
        print(line)
    return 0


def trace(app: Any, settings: Any, options: argparse.Namespace) -> tuple[list[PlanePoint], Truth | None]:
    """The points of the chosen run, or of one trained for them, and what is known exactly."""
    from isometry import story
    from isometry.fleet import on_threads
    from isometry.table import check_not_read

    from isometry_signaling.plane import N_STEPS, betas_between, follow
    from isometry_signaling.truth import truth_of

    loaded = story.load(app, options.model, device="cpu") if options.model is not None else None
    settings = loaded.settings if loaded is not None else settings
    for out in options.out:
        check_not_read(out, [*settings.data.train, *settings.data.valid, *settings.data.test])
    truth = truth_of(settings.data)
    low, high = options.low, options.high
    if low is None:
        low = truth.first_beta * 1.01 if truth else LOWEST_BETA
    if high is None:
        high = max(low, truth.last_beta if truth else settings.loss.beta)
    betas = betas_between(low, high, options.betas)
    n_steps = N_STEPS if options.steps is None else options.steps
    if n_steps < 1:
        raise ValueError(f"--steps {n_steps}: expected at least 1")
    with on_threads(settings.threads), tempfile.TemporaryDirectory() as folder:
        if loaded is None:
            story.train(app, settings.changed(device="cpu"), Path(folder) / "run", is_quiet=True)
            loaded = story.load(app, Path(folder) / "run", device="cpu")
        data = app.data(loaded.settings)
        points = follow(
            loaded.model,  # type: ignore[arg-type]
            loaded.settings.loss,
            data.train,
            data.test or data.valid,
            betas,
            n_steps=n_steps,
        )
    return points, truth


def _write(out: Path, rows: list[dict[str, float]], points: Sequence[PlanePoint], truth: Truth | None) -> None:
    from isometry.durable import write_whole
    from isometry.table import write_table

    from isometry_signaling.findings import plane_figure

    if out.suffix not in FIGURES:
        write_table(out, rows)
        return
    import io

    stream = io.BytesIO()
    plane_figure(points, truth).savefig(stream, format=out.suffix[1:], dpi=180)
    write_whole(out, stream.getvalue())


def _told(rows: list[dict[str, float]], truth: Truth | None) -> dict[str, Any]:
    told: dict[str, Any] = {"points": rows}
    if truth is not None:
        told |= {"information": truth.information, "largest_gap": max(row["gap"] for row in rows)}
        told["stages"] = {name: at._asdict() for name, at in truth.stages.items()}
    return told


def _summary(rows: list[dict[str, float]], truth: Truth | None) -> list[str]:
    lines = [f"all bounds hold together with {rows[0]['confidence']:.0%} confidence"]
    if truth is not None:
        gap = max(row["gap"] for row in rows)
        lines.append(f"largest gap to the exact curve: {gap:.4f} bits; most relevance: {truth.information:.4f} bits")
    return lines
