"""Figures: one style for every plot, safe for colour-blind readers, and any figure as an inline image.

Nothing here touches pyplot: figures are plain `matplotlib.figure.Figure` objects, and matplotlib is imported when the
first one is drawn.
"""

from __future__ import annotations

import base64
import io
import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Source: Okabe & Ito 2008, "Color Universal Design", less yellow and black; blue and vermilion first.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
PAPER, INK, FAINT, GRID = "#ffffff", "#1c232b", "#75808c", "#e3e7eb"

# What each colour of a light figure becomes on a dark page; others stay. Black and white are matplotlib's own.
_DARK = {PAPER: "#171c22", INK: "#e3e8ed", FAINT: "#8d98a5", GRID: "#2b333c", "#000000": "#e3e8ed"}
_DARK |= {"#0072b2": "#4da6dd", "#d55e00": "#ee7b33", "#009e73": "#2fbf95"}

LARGEST_SVG = 300_000  # bytes; beyond that a figure of many points is smaller and faster as PNG


def style() -> AbstractContextManager[None]:
    """matplotlib's settings for our figures, inside a `with`; the surrounding program's own come back after it."""
    import matplotlib
    from matplotlib.rcsetup import cycler

    lines = {"axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.7}
    lines |= {"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "lines.linewidth": 1.4}
    colours = {"axes.prop_cycle": cycler(color=PALETTE), "figure.facecolor": PAPER, "axes.facecolor": PAPER}
    colours |= {"axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "text.color": INK}
    colours |= {"axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK}
    words = {"font.size": 9.0, "axes.titlesize": 10.0, "axes.titleweight": "bold"}
    words |= {"axes.titlelocation": "left", "legend.frameon": False, "legend.fontsize": 8.5}
    every: Any = lines | colours | words | {"figure.constrained_layout.use": True}
    return matplotlib.rc_context(every)


def panels(
    n_rows: int = 1, n_columns: int = 1, *, width: float = 4.6, height: float = 2.8
) -> tuple[Figure, list[Axes]]:
    """A new figure in our style and its axes row by row; `width` and `height` of one panel in inches.

    Draw into it inside `with style():` too, so that legends and lines follow.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width * n_columns, height * n_rows))
        return figure, list(figure.subplots(n_rows, n_columns, squeeze=False).flat)


def data_uris(figure: Figure) -> tuple[str, str | None]:
    """A figure as a data URI for light pages and, where it can be recoloured, one for dark pages.

    SVG unless that is larger than `LARGEST_SVG`; then PNG, which has no dark twin. Same figure, same bytes.
    """
    light = _svg(figure)
    if len(light) > LARGEST_SVG:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=180, metadata={"Software": None})
        return _uri("image/png", stream.getvalue()), None
    dark = re.sub(r"#[0-9a-f]{6}\b", lambda found: _DARK.get(found[0], found[0]), light)
    return _uri("image/svg+xml", light.encode()), _uri("image/svg+xml", dark.encode())


def _svg(figure: Figure) -> str:
    import matplotlib

    stream = io.StringIO()
    # Letters as outlines look the same everywhere; the fixed salt and no date make the bytes reproducible.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "isometry"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
