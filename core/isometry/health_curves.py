"""What the looks at a network's health show over a run: one map of layers against steps for each measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from isometry.curves import Curve
from isometry.events import Event
from isometry.figures import PALETTE, PAPER, panels, style
from isometry.spell import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LOOKS, MOST_NAMES = 120, 12  # columns of a map, layers named beside it
LONGEST_NAME = 22  # letters beside a map


class Measure(NamedTuple):
    """One number of a layer, as it is drawn."""

    key: str
    name: str
    caption: Callable[[np.ndarray], str]
    """Of the last look: [n_layers]."""
    is_share: bool = False


MEASURES = (
    Measure("gradient", "Gradient per weight (rms)", lambda last: f"spread at the end {_nats(last)} nats"),
    Measure("update", "Update to weight, ‖Δw‖/‖w‖", lambda last: f"at the end {_range(last)}; 1e-3 is usual"),
    Measure("activation", "Activation (rms)", lambda last: f"at the end {_range(last)}"),
    Measure("dead", "Dead units", lambda last: f"at the end at most {np.nanmax(last):.0%} of a layer", is_share=True),
)


def health_curves(events: list[Event]) -> list[Curve]:
    """Gradient, update, activation and dead units by layer and step: those that were measured; dead units only where
    there were any. A step looked at twice (after going back to a good state) counts as last told."""
    looks = {event["step"]: event for event in events if event["event"] == "health" and "step" in event}
    steps = sorted(looks)
    with style():
        found = [_map(measure, steps, [looks[step].get("layers") or {} for step in steps]) for measure in MEASURES]
    return [curve for curve in found if curve is not None]


def findings_told(events: list[Event]) -> list[dict[str, Any]]:
    """One row per finding, when it first appeared."""
    rows: dict[tuple[Any, Any], dict[str, Any]] = {}
    for event in events:
        for found in (event.get("findings") or []) if event["event"] == "health" else []:
            columns = {"finding": "name", "where": "where", "reason": "reason", "remedy": "remedy"}
            row = {"step": event.get("step"), "severity": found.get("severity")}
            rows.setdefault(
                (found.get("name"), found.get("where")), row | {c: found.get(k) for c, k in columns.items()}
            )
    return list(rows.values())


def _map(measure: Measure, steps: list[int], looks: list[dict[str, dict[str, Any]]]) -> Curve | None:
    names = list(
        dict.fromkeys(name for layers in reversed(looks) for name, seen in layers.items() if measure.key in seen)
    )
    values = np.array([[_real(layers.get(name, {}).get(measure.key)) for layers in looks] for name in names])
    if not np.isfinite(values).any() or (measure.is_share and np.nanmax(values) == 0):
        return None
    last = values[:, np.isfinite(values).any(0)][:, -1]
    figure, (axes,) = panels(height=2.0 + 0.12 * min(len(names), MOST_NAMES))
    _draw(axes, measure, _binned(values))
    _label(axes, names, steps)
    has_none = not measure.is_share and bool((~(values > 0) & ~np.isnan(values)).any())
    return Curve(measure.name, measure.caption(last) + ("; vermilion: exactly 0" if has_none else ""), figure)


def _draw(axes: Axes, measure: Measure, values: np.ndarray) -> None:
    from matplotlib.colors import LogNorm

    if measure.is_share:
        image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="magma_r", vmin=0, vmax=1)
    else:
        positive = values[np.isfinite(values) & (values > 0)]
        low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
        norm = LogNorm(low, high if high > low else 10 * low)
        shown = np.ma.masked_invalid(np.where(values > 0, values, np.nan))
        image = axes.imshow(shown, aspect="auto", interpolation="nearest", cmap="viridis", norm=norm)
        axes.set_facecolor(PALETTE[1] if positive.size < np.isfinite(values).sum() else PAPER)  # exactly 0
    axes.figure.colorbar(image, ax=axes)
    axes.grid(False)


def _label(axes: Axes, names: list[str], steps: list[int]) -> None:
    """The first layer on top; of many, some are named."""
    rows = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_NAMES)).round().astype(int))
    axes.set_yticks(rows, [_cut(names[row]) for row in rows], fontsize=6.5)
    n_columns = min(len(steps), MOST_LOOKS)
    columns = np.unique(np.linspace(0, n_columns - 1, min(n_columns, 5)).round().astype(int))
    ends = [steps[bin[-1]] for bin in np.array_split(np.arange(len(steps)), n_columns)]
    axes.set_xticks(columns, [number(ends[column]) for column in columns])
    axes.set_xlabel("step")


def _binned(values: np.ndarray) -> np.ndarray:
    """[n_layers, n_looks] with at most `MOST_LOOKS` columns: the last look of each bin."""
    bins = np.array_split(np.arange(values.shape[1]), min(values.shape[1], MOST_LOOKS))
    return values[:, [bin[-1] for bin in bins]]


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return f"{number(finite.min(), 3)} to {number(finite.max(), 3)}" if finite.size else "not finite"


def _nats(values: np.ndarray) -> str:
    positive = values[np.isfinite(values) & (values > 0)]
    return number(float(np.log(positive.max() / positive.min())), 3) if positive.size else "–"


def _real(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
