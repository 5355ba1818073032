"""A picture of a region: the sequence as a logo of what its bases are worth, and a heat map of all substitutions."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isometry.durable import write_whole
from isometry.figures import PALETTE, panels, style

from isometry_genome.letters import BASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline

    from isometry_genome.mutagenesis import Map

COLOURS = dict(zip(BASES, (PALETTE[2], PALETTE[0], PALETTE[4], PALETTE[1]), strict=True))
WIDTH_OF_A_BASE, NARROWEST, WIDEST, HEIGHT = 0.11, 5.0, 60.0, 1.7  # inches
INCHES_OF_A_TICK = 1.0
MOST_LETTERS = 500
"""In a logo; a longer region has bars."""
DPI = 150


def write_picture(out: Path, told: Map) -> None:
    """Whole or not at all; same map, same bytes."""
    import matplotlib

    stream = io.BytesIO()
    unstamped: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with style(), matplotlib.rc_context({"svg.hashsalt": "isometry", "savefig.dpi": DPI}):
        picture(told).savefig(stream, format=out.suffix[1:], metadata=unstamped[out.suffix])
    write_whole(out, stream.getvalue())


def picture(told: Map) -> Figure:
    """Positions from left to right; 0-based, as in tables."""
    from matplotlib.ticker import MaxNLocator

    n = len(told.codes)
    width = float(np.clip(WIDTH_OF_A_BASE * n, NARROWEST, WIDEST))
    figure, axes = panels(2 if told.slopes is None else 3, width=width, height=HEIGHT)
    with style():
        _logo(axes[0], told, worth(told), f"{told.target.name}: what a substitution costs, mean of three")
        _heat_map(figure, axes[1], told)
        if told.slopes is not None:
            _logo(axes[2], told, told.slopes.contributions, "gradient × input")
        for each in axes:
            each.set_xlim(told.place.start - 0.5, told.place.end - 0.5)
            each.xaxis.set_major_locator(MaxNLocator(max(round(width / INCHES_OF_A_TICK), 2), integer=True))
            each.ticklabel_format(axis="x", useOffset=False, style="plain")
        axes[-1].set_xlabel(f"{told.place.chrom}, base (from 0)")
    return figure


def worth(told: Map) -> np.ndarray:
    """[n] how much the target loses, on average, when the base is another one."""
    n_others = (told.codes[:, None] != 1 << np.arange(len(BASES))).sum(1)
    return -told.effects.sum(1) / n_others


def _logo(axes: Axes, told: Map, heights: np.ndarray, title: str) -> None:
    axes.set_title(title)
    axes.set_ylabel(told.target.unit)
    axes.axhline(0, color="#75808c", linewidth=0.6)
    at = told.place.start + np.arange(len(heights))
    if len(heights) > MOST_LETTERS:
        axes.bar(at, heights, width=1.0, color=PALETTE[0])
        return
    from matplotlib.patches import PathPatch

    for x, code, height in zip(at, told.codes.tolist(), heights.tolist(), strict=True):
        letter = BASES[code.bit_length() - 1] if code in (1, 2, 4, 8) else "N"
        outline = _placed(_outline(letter), float(x), height)
        axes.add_patch(PathPatch(outline, color=COLOURS.get(letter, "#75808c"), linewidth=0))
    low, high = min(heights.min(), 0), max(heights.max(), 0)
    room = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - room, high + room)


@cache
def _outline(letter: str) -> Outline:
    """Filling the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    drawn = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = drawn.get_extents()
    return Affine2D().translate(-box.x0, -box.y0).scale(1 / box.width, 1 / box.height).transform_path(drawn)


def _placed(outline: Outline, x: float, height: float) -> Outline:
    """Below the axis letters stand on their heads."""
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(0.92, height).translate(x - 0.46, 0).transform_path(outline)


def _heat_map(figure: Figure, axes: Axes, told: Map) -> None:
    most = float(np.abs(told.effects).max()) or 1.0
    image = axes.imshow(
        told.effects.T,
        cmap="RdBu_r",
        vmin=-most,
        vmax=most,
        aspect="auto",
        interpolation="nearest",
        extent=(told.place.start - 0.5, told.place.end - 0.5, len(BASES) - 0.5, -0.5),
    )
    axes.grid(False)
    axes.set_yticks(range(len(BASES)), list(BASES))
    axes.set_title("each substitution; dots: the base that is there")
    at, base = np.nonzero(told.codes[:, None] == 1 << np.arange(len(BASES)))
    if len(told.codes) <= MOST_LETTERS:
        axes.plot(told.place.start + at, base, ".", color="#1c232b", markersize=2)
    figure.colorbar(image, ax=axes, label=told.target.unit, pad=0.01)
