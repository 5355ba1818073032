"""Curves: what the events of a run look like over its steps, one figure for each quantity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isometry.events import Event
from isometry.figures import FAINT, INK, PALETTE, panels, style
from isometry.spell import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 300  # of a line; more are averaged in bins, with their range as a band
LARGEST_RATIO = 30.0  # of the largest to the smallest value on a linear axis, if all are positive


class Curve(NamedTuple):
    name: str
    caption: str
    figure: Figure


class Series(NamedTuple):
    """Finite values over ascending steps, both [n_points]."""

    steps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, events: Iterable[Event], read: Callable[[Event], Any]) -> Series:
        """What `read` finds in the events. A step told twice (after going back to a good state) counts as last told."""
        told = {event["step"]: _real(read(event)) for event in events if "step" in event}
        steps = np.array(sorted(told), dtype=float)
        values = np.array([told[step] for step in sorted(told)], dtype=float)
        is_finite = np.isfinite(values)
        return cls(steps[is_finite], values[is_finite])


def curves(events: list[Event]) -> list[Curve]:
    """Loss, validation scores, rate, gradient norm, loss scale, mean squared gradient: those that have a number."""
    steps = [event for event in events if event["event"] == "step"]
    evaluations = [event for event in events if event["event"] == "eval"]
    valid = [event for event in evaluations if event.get("split", "valid") == "valid"]
    faults = [event["step"] for event in events if event["event"] == "fault" and "step" in event]
    with style():
        found = [_loss(steps, valid, faults), *_scores(valid)]
        found += [
            _single("Learning rate", Series.of(steps, lambda event: event.get("rate"))),
            _single("Gradient norm", Series.of(steps, lambda event: event.get("gradient_norm")), faults=faults),
            _single("Loss scale", Series.of(steps, lambda event: event.get("scale")), faults=faults, base=2),
            _single("Mean squared gradient", Series.of(evaluations, lambda event: event.get("mean_square_gradient"))),
        ]
    return [curve for curve in found if curve is not None]


def _loss(steps: list[Event], valid: list[Event], faults: list[float]) -> Curve | None:
    train = Series.of(steps, lambda event: event.get("loss"))
    checked = Series.of(valid, lambda event: event.get("loss"))
    if not (train.steps.size or checked.steps.size):
        return None
    figure, (axes,) = panels()
    drawn = [("training", train, INK), ("validation", checked, PALETTE[1])]
    names = list(dict.fromkeys(name for event in steps for name in event.get("parts") or {}))
    for place, name in enumerate(names):
        part = Series.of(steps, lambda event, name=name: (event.get("parts") or {}).get(name))
        drawn.append((name, part, (PALETTE[0], *PALETTE[2:])[place % (len(PALETTE) - 1)]))
    for name, series, colour in drawn:
        _draw(axes, series, colour, label=name, marker="o" if series is checked else "")
    _finish(axes, "loss", np.concatenate([series.values for _, series, _ in drawn]), faults)
    if len(axes.lines) > 1 + bool(faults):
        figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, columnspacing=1.2)
    last = f"training {number(train.values[-1])} at the last logged step" if train.steps.size else "validation only"
    return Curve("Loss", last + _fault_note(faults), figure)


def _scores(valid: list[Event]) -> list[Curve | None]:
    names = dict.fromkeys(name for event in valid for name in event.get("scores") or {} if "/" not in name)
    best = next((event["step"] for event in reversed(valid) if event.get("is_best")), None)
    return [
        _score(name, Series.of(valid, lambda event, name=name: (event.get("scores") or {}).get(name)), best)
        for name in names
    ]


def _score(name: str, series: Series, best: float | None) -> Curve | None:
    if not series.steps.size:
        return None
    figure, (axes,) = panels()
    _draw(axes, series, PALETTE[0], marker="o" if series.steps.size <= 40 else "")
    caption = f"last {number(series.values[-1])}"
    if best is not None and best in series.steps:
        value = series.values[series.steps == best][0]
        axes.plot([best], [value], "*", color=PALETTE[1], markersize=13, markeredgecolor="none", zorder=4)
        caption = f"kept (★) {number(value)} at step {number(best)}, {caption}"
    _finish(axes, name, series.values)
    return Curve(f"Validation: {name}", caption, figure)


def _single(name: str, series: Series, *, faults: Iterable[float] = (), base: int = 10) -> Curve | None:
    if not series.steps.size:
        return None
    figure, (axes,) = panels()
    _draw(axes, series, PALETTE[0])
    _finish(axes, name.lower(), series.values, list(faults), base)
    low, high = number(series.values.min(), 3), number(series.values.max(), 3)
    return Curve(name, (f"constant {low}" if low == high else f"{low} to {high}") + _fault_note(faults), figure)


def _draw(axes: Axes, series: Series, colour: str, *, label: str | None = None, marker: str = "") -> None:
    """A line; one of many points as the means of bins under a band from their smallest to their largest value."""
    if not series.steps.size:
        return
    bins = np.array_split(np.arange(series.steps.size), min(series.steps.size, MOST_POINTS))
    steps, means, lows, highs = np.array(
        [
            (series.steps[b].mean(), series.values[b].mean(), series.values[b].min(), series.values[b].max())
            for b in bins
        ]
    ).T
    if series.steps.size > MOST_POINTS:
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        steps, means, color=colour, label=label, marker=marker or ("." if len(steps) == 1 else ""), markersize=3.5
    )


def _finish(axes: Axes, name: str, values: np.ndarray, faults: Iterable[float] = (), base: int = 10) -> None:
    from matplotlib.ticker import MaxNLocator

    is_wide = values.min() > 0 and values.max() > LARGEST_RATIO * values.min()
    if is_wide or (base == 2 and values.min() > 0):
        axes.set_yscale("log", base=base)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel(name, fontsize=min(9.0, 300.0 / max(len(name), 1)))  # points; long names shrink to the height
    faulty = sorted(set(faults))
    if faulty:
        # In axes' height: just above the frame's lower edge, whatever the scale.
        axes.plot(
            faulty, [0.02] * len(faulty), "|", color=PALETTE[1], transform=axes.get_xaxis_transform(), markersize=8
        )
    axes.tick_params(which="minor", color=FAINT, labelsize=7.5)


def _fault_note(faults: Iterable[float]) -> str:
    return "; ticks at the lower edge: faults" if list(faults) else ""


def _real(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
