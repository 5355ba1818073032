"""An examination as plots per layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from isometry.figures import PALETTE, panels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isometry.doctor.examination import Examination

Numbers = Sequence[float | None]


def plots(found: Examination) -> Iterator[tuple[str, str, Figure]]:
    """(name, what it shows, figure) for each measure that the examination holds."""
    for name, note, is_there, draw in _PLOTS:
        if is_there(found):
            figure, axes = panels(width=5.4, height=2.7)
            with style():
                draw(axes[0], found)
            yield name, note, figure


def _signal(axes: Axes, found: Examination) -> None:
    rows = found.forward.rows if found.forward else []
    _line(axes, [row.moment for row in rows], "measured")
    theory = {row.name: row.moment for row in found.predicted.rows} if found.predicted else {}
    _line(axes, [theory.get(row.name) for row in rows], "mean-field theory", "--")
    _of_layers(axes, "E[x²]", is_log=True)


def _gradient(axes: Axes, found: Examination) -> None:
    rows = found.backward.rows if found.backward else []
    _line(axes, [row.rms for row in rows], "RMS of the loss's gradient")
    _of_layers(axes, "gradient", is_log=True)


def _inputs(axes: Axes, found: Examination) -> None:
    rows = found.forward.rows if found.forward else []
    _line(axes, [row.correlation for row in rows], "cosine of two records")
    _line(axes, [row.rank_share for row in rows], "effective rank, share of what is possible")
    axes.set_ylim(-0.25, 1.05)
    _of_layers(axes, "")


def _units(axes: Axes, found: Examination) -> None:
    rows = found.forward.rows if found.forward else []
    _line(axes, [row.dead for row in rows], "dead channels")
    _line(axes, [row.saturated for row in rows], "saturated entries")
    axes.set_ylim(-0.03, 1.03)
    _of_layers(axes, "share")


def _growth(axes: Axes, found: Examination) -> None:
    growth = (found.jacobian.growth if found.jacobian else None) or []
    _line(axes, [step.log_gain for step in growth], "ln ‖J v‖ / ‖v‖")
    _of_layers(axes, "nats")


def _half(axes: Axes, found: Examination) -> None:
    tensors = [t for t in found.half.tensors if t.of == "activation"] if found.half else []
    _line(axes, [t.unscaled.flushed if t.unscaled else None for t in tensors], "without loss scaling")
    _line(axes, [t.scaled.flushed if t.scaled else None for t in tensors], "at the start scale")
    axes.set_ylim(-0.03, 1.03)
    _of_layers(axes, "flushed to zero")


def _time(axes: Axes, found: Examination) -> None:
    for layer in found.recurrence:
        points = [(s.distance, 10**s.log10_share) for s in layer.shares or [] if math.isfinite(s.log10_share)]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{layer.name}[{layer.layer}]")
    axes.set(xlabel="steps back", ylabel="share of the gradient", xscale="log", yscale="log")
    axes.legend()


def _line(axes: Axes, values: Numbers, label: str, line: str = "-") -> None:
    """What is not known or not finite leaves a gap."""
    known = [(place, value) for place, value in enumerate(values) if value is not None and math.isfinite(value)]
    if known:
        colour = PALETTE[len(axes.lines) % len(PALETTE)]
        axes.plot(*zip(*known, strict=True), line, label=label, color=colour, marker="." if len(known) < 60 else "")


def _of_layers(axes: Axes, label: str, is_log: bool = False) -> None:
    positive = [y for line in axes.lines for y in map(float, line.get_ydata()) if y > 0]  # pyright: ignore
    if is_log and positive:
        axes.set_yscale("log")
    axes.set(xlabel="layer, in the order of execution", ylabel=label)
    if axes.lines:
        axes.legend()


def _has_shares(found: Examination) -> bool:
    return any(layer.shares for layer in found.recurrence)


_Plot = tuple[str, str, "Callable[[Examination], Any]", "Callable[[Axes, Examination], None]"]
_PLOTS: tuple[_Plot, ...] = (
    ("Signal", "Second moment of what each layer hands on.", lambda f: f.forward and f.forward.rows, _signal),
    ("Gradient", "What comes back to each layer's output.", lambda f: f.backward and f.backward.rows, _gradient),
    ("Inputs", "Do different records stay apart?", lambda f: f.forward and f.forward.rows, _inputs),
    ("Units", "What no longer takes part.", lambda f: f.forward and f.forward.rows, _units),
    ("Growth", "Of a small disturbance of the input.", lambda f: f.jacobian and f.jacobian.growth, _growth),
    ("Half precision", "Forecast for fp16.", lambda f: f.half and f.half.tensors, _half),
    ("Time", "What comes back to earlier steps.", _has_shares, _time),
)
