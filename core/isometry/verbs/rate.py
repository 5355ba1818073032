"""`isometry rate APP`: which learning rate? A short run in which the rate rises until the loss diverges."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry.app import App
from isometry.choice import add_choice, with_choice
from isometry.events import as_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isometry.rate import RateRange

BARS = "▁▂▃▄▅▆▇█"
N_BARS = 60
PAGE = "rate.html"


def add(commands: Any) -> argparse.ArgumentParser:
    """The parser of this verb."""
    parser = commands.add_parser(
        "rate", help="find a learning rate: raise it until the loss diverges", add_help=False, allow_abbrev=False
    )
    add_choice(parser)
    parser.add_argument("--out", type=Path, metavar="PATH", help=f"write a page: FILE.html, or {PAGE} in a folder")
    parser.set_defaults(run=_run)
    return parser


@with_choice
def _run(options: argparse.Namespace, app: App, settings: Any) -> int:
    from isometry.rate import rate_range_of

    found = rate_range_of(app, settings)
    page = _write(found, options.out, f"{app.name}-{options.preset}") if options.out is not None else None
    if options.json:
        from dataclasses import asdict

        print(as_json(asdict(found)))
        return 0
    _print(found)
    if page is not None:
        print(f"report:   {page}")
    return 0


def rows(found: RateRange) -> list[dict[str, Any]]:
    """Every rate that has a meaning, smallest first."""
    named = {
        "loss falls fastest": found.steepest,
        "suggested": found.suggestion,
        "loss turns up": found.turn,
        "diverged": found.diverged,
        "2 / λ_max (plain descent diverges)": found.stable,
    }
    known = [(name, rate) for name, rate in (named | found.configured).items() if rate is not None]
    return [{"what": name, "rate": rate} for name, rate in sorted(known, key=lambda item: item[1])]


def sparkline(values: list[float], n: int = N_BARS) -> str:
    """Up to `n` bars, the lowest value lowest; what exceeds the first value twofold is cut."""
    values = values[:: max(-(-len(values) // n), 1)]
    if not values:
        return ""
    low = min(values)
    high = max(values[0] + (values[0] - low), low + 1e-12)
    return "".join(BARS[min(int((value - low) / (high - low) * len(BARS)), len(BARS) - 1)] for value in values)


def _print(found: RateRange) -> None:
    from isometry.spell import number
    from isometry.table import print_rows

    print_rows(rows(found))
    if found.rates:
        first, last = number(found.rates[0], 2), number(found.rates[-1], 2)
        print(f"loss:     {sparkline(found.smooth)}  rates {first} to {last}, {len(found.rates)} steps")
    if found.suggestion is None:
        print("suggest:  none, because the loss never fell; `isometry doctor` examines the network")
    else:
        print(f"suggest:  --optim.rate {found.suggestion:.2g} for {found.optimizer}")


def _write(found: RateRange, out: Path, name: str) -> Path:
    from isometry.report import write_report

    if out.suffix != ".html":
        out.mkdir(parents=True, exist_ok=True)
        out = out / PAGE
    summary = (
        "Loss against learning rate: one step per rate, the rate rising until the loss diverges. The suggestion is "
        "half the geometric mean of the rates at which the loss falls fastest and at which it diverged."
    )
    figures, tables = {"Loss by learning rate": _figure(found)}, {"Rates": rows(found)}
    return write_report(out, [], title=f"Learning rate: {name}", summary=summary, figures=figures, tables=tables)


def _figure(found: RateRange) -> Figure:
    from isometry.figures import FAINT, PALETTE, panels, style

    with style():
        figure, (axes,) = panels(width=7.0, height=3.6)
        axes.plot(found.rates, found.losses, ".", color=FAINT, markersize=3, label="steps")
        axes.plot(found.rates, found.smooth, color=PALETTE[0], label="smoothed")
        marks = [("suggested", found.suggestion, "-"), ("2 / λ_max", found.stable, ":")]
        marks += [(name, rate, "--") for name, rate in found.configured.items() if name == "these settings"]
        for place, (name, rate, line) in enumerate(marks, start=1):
            if rate is not None:
                axes.axvline(rate, linestyle=line, color=PALETTE[place], label=name)
        if found.smooth:
            low, first = min(found.smooth), found.smooth[0]
            axes.set_ylim(low - 0.2 * abs(first - low), first + max(first - low, 1e-12))
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
    return figure
