"""Reliability diagram: what comes true over what was promised, before a head was calibrated and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isometry.figures import FAINT, PALETTE, panels, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isometry.calibrate import Calibration


def reliability_figure(before: Calibration, after: Calibration) -> Figure:
    """Left: accuracy over confidence, 95 % intervals, the diagonal is perfect. Right: how often each confidence comes.

    Source of the diagram: DeGroot & Fienberg 1983; Niculescu-Mizil & Caruana 2005.
    """
    figure, (left, right) = panels(1, 2, width=3.6, height=3.2)
    with style():
        left.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle="--")
        for name, found, colour, marker in (("before", before, PALETTE[1], "o"), ("after", after, PALETTE[0], "s")):
            _accuracies(left, found, colour, marker, f"{name}: error {found.expected_error:.3g}")
            _counts(right, found, colour)
        left.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        left.legend(loc="upper left", handlelength=1.2)
        right.set(xlabel="confidence", ylabel="share of predictions", xlim=(0, 1), ylim=(0, None))
    return figure


def _accuracies(axes: Axes, found: Calibration, colour: str, marker: str, label: str) -> None:
    filled = [each for each in found.bins if each.count]
    confidence = np.array([each.confidence for each in filled])
    accuracy = np.array([each.accuracy for each in filled])
    lows, highs = (np.array([getattr(each, name) for each in filled]) for name in ("accuracy_low", "accuracy_high"))
    reach = np.array([accuracy - lows, highs - accuracy]).clip(0)
    axes.errorbar(confidence, accuracy, reach, color=colour, marker=marker, markersize=3.5, elinewidth=0.8, label=label)


def _counts(axes: Axes, found: Calibration, colour: str) -> None:
    shares = [each.count / max(found.n, 1) for each in found.bins]
    edges = [*(each.low for each in found.bins), found.bins[-1].high]
    axes.stairs(shares, edges, color=colour, linewidth=1.4)
