"""A picture of each protein: its states and how sure they are, accessibility, disorder, and the map of its contacts."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from isometry.figures import FAINT, INK, PALETTE, PAPER, style
from isometry_data.contacts import SHORT
from isometry_data.protein_records import THREE_STATES, ProteinRecord

from isometry_protein.contacts import ContactMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isometry_protein.predict import Prediction

PICTURES = (".pdf", ".png", ".svg")
COLOURS = {"H": PALETTE[1], "E": PALETTE[0], "C": "#c3cad1"}
MOST_ROWS = 16
LETTERS_A_ROW = 100
"""Residues of a row; where that would take too many rows, a row has more residues, and no letters."""
TURN = 3.6  # residues of a turn of a helix
DPI = 150
MOST_STEPS = 500
"""Of a row; where a row has more residues, some neighbours are drawn as their mean."""
SIDE = 1400
"""Cells of a map of contacts, along its longer side."""
WIDTH, LEFT, RIGHT, HEAD, FOOT = 9.2, 0.85, 0.35, 0.75, 0.25  # inches: of the rows, and around them
RULER, GAP = 0.2, 0.22  # inches: of a row's numbers, and below the row
HEIGHTS = {"letters": 0.15, "states": 0.26, "confidence": 0.36, "accessibility": 0.28, "disorder": 0.28}
MAP, BAND, BELOW = 4.6, 1.9, 0.75  # inches: height of the map of contacts, of a band of it, and of its axis

Track = tuple[str, float]
"""A name of `HEIGHTS`, and how far below the top of its row it begins, in inches."""


class Page(NamedTuple):
    """What is known of one protein."""

    record: ProteinRecord
    said: Prediction
    contacts: ContactMap | None


def as_pictures(ending: str, pages: Iterable[Page]) -> bytes:
    """A .pdf with a page for each protein; or the first one as .png or .svg. Same pages, same bytes."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": "isometry", "savefig.dpi": DPI}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of names: the font shows a box
        if ending == ".pdf":
            with PdfPages(stream, metadata={"CreationDate": None}) as file:
                for page in pages:
                    file.savefig(picture(page))
        else:
            unstamped: dict[str, Any] = {"Software": None} if ending == ".png" else {"Date": None}
            picture(next(iter(pages))).savefig(stream, format=ending[1:], metadata=unstamped)
    return stream.getvalue()


def picture(page: Page) -> Figure:
    """Rows of residues from the N-terminus on, then the contacts.

    Raises ValueError where the model says nothing of single residues.
    """
    from matplotlib.figure import Figure

    n, per_row = len(page.record), residues_a_row(len(page.record))
    tracks, height_of_row = _tracks(page.said, per_row)
    if not tracks and page.contacts is None:
        raise ValueError("this model says nothing of single residues; a picture needs ss, rsa, disorder or contacts")
    rows = math.ceil(n / per_row) * height_of_row
    below = 0.0 if page.contacts is None else BELOW + (MAP if page.contacts.most_apart is None else BAND)
    whole = HEAD + rows + below + FOOT
    with style():
        figure = Figure(figsize=(LEFT + WIDTH + RIGHT, whole))
        figure.set_layout_engine("none")
        _head(figure, page, whole)
        if tracks:
            _draw_rows(_axes(figure, FOOT + below, WIDTH, rows), page, per_row, tracks, height_of_row)
        if page.contacts is not None:
            _draw_contacts(figure, page.contacts, n)
    return figure


def residues_a_row(n: int) -> int:
    """100; for long proteins the first round number by which there are at most `MOST_ROWS` rows."""
    least = max(math.ceil(n / MOST_ROWS), LETTERS_A_ROW)
    power = 10 ** math.floor(math.log10(least))
    return next(round(factor * power) for factor in (1, 2, 2.5, 5, 10) if factor * power >= least)


def _tracks(said: Prediction, per_row: int) -> tuple[list[Track], float]:
    """What there is to draw, and the height of a row."""
    is_known = {
        "letters": per_row <= LETTERS_A_ROW,
        "states": said.three is not None,
        "confidence": said.three is not None,
        "accessibility": said.accessibility is not None,
        "disorder": said.disorder is not None,
    }
    if not any(is_known[name] for name in HEIGHTS if name != "letters"):
        return [], 0.0
    tracks, top = [], RULER
    for name, height in HEIGHTS.items():
        if is_known[name]:
            tracks.append((name, top))
            top += height
    return tracks, top + GAP


def _axes(figure: Figure, bottom: float, width: float, height: float, left: float = LEFT) -> Axes:
    """In inches from the lower left corner."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def _head(figure: Figure, page: Page, height: float) -> None:
    x, top = LEFT / figure.get_size_inches()[0], 1 - 0.3 / height
    name = page.record.name
    name = name if len(name) <= 75 else f"{name[:74]}…"
    figure.text(x, top, name, fontsize=11, fontweight="bold", color=INK, parse_math=False)
    figure.text(x, top - 0.2 / height, _summary(page), fontsize=8.5, color=FAINT)
    if page.said.three is not None:
        end = (LEFT + WIDTH) / figure.get_size_inches()[0]
        for word, state, place in (("coil", "C", 0.0), ("strand", "E", 0.032), ("helix", "H", 0.077)):
            box = {"boxstyle": "square,pad=0.25", "facecolor": COLOURS[state], "linewidth": 0}
            colour = INK if state == "C" else PAPER
            figure.text(end - place, top, word, fontsize=7.5, color=colour, ha="right", bbox=box)


def _summary(page: Page) -> str:
    words, said = [f"{len(page.record):,} residues"], page.said
    if said.three is not None:
        states = said.states
        shares = (f"{state} {states.count(state) / len(states):.0%}" for state in THREE_STATES)
        words += [", ".join(shares), f"mean confidence {said.three.max(1).mean():.2f}"]
    if said.accessibility is not None:
        words.append(f"mean accessibility {said.accessibility.mean():.2f}")
    if said.disorder is not None:
        words.append(f"disordered {(said.disorder > 0.5).mean():.0%}")
    if (size := _size(residues_a_row(len(page.record)))) > 1:
        words.append(f"means of {size} residues")
    return "  ·  ".join(words)


# Rows of residues


def _draw_rows(axes: Axes, page: Page, per_row: int, tracks: Sequence[Track], height: float) -> None:
    """x in residues, y in inches downwards."""
    n = len(page.record)
    n_rows = math.ceil(n / per_row)
    axes.set(xlim=(0, per_row), ylim=(n_rows * height, 0))
    axes.axis("off")
    axes.set_rasterization_zorder(0.5 if per_row > LETTERS_A_ROW else None)  # type: ignore[arg-type]
    for row in range(n_rows):
        part, top = slice(row * per_row, min((row + 1) * per_row, n)), row * height
        _draw_ruler(axes, part, per_row, top + RULER)
        for name, below in tracks:
            _DRAW[name](axes, page, part, top + below)


def _draw_ruler(axes: Axes, part: slice, per_row: int, bottom: float) -> None:
    step = per_row // 10
    for at in range(step, part.stop - part.start + 1, step):
        axes.text(at - 0.5, bottom - 0.05, f"{part.start + at}", fontsize=6, color=FAINT, ha="center")
    if part.stop - part.start < step:
        axes.text(0.5, bottom - 0.05, f"{part.start + 1}", fontsize=6, color=FAINT, ha="center")


def _draw_letters(axes: Axes, page: Page, part: slice, top: float) -> None:
    for at, letter in enumerate(page.record.sequence[part]):
        axes.text(at + 0.5, top + 0.11, letter, fontsize=6.2, family="monospace", ha="center", color=INK)


def _draw_states(axes: Axes, page: Page, part: slice, top: float) -> None:
    """Helices as waves of 3.6 residues, strands as arrows, coil as a line; small ones as boxes."""
    from matplotlib.collections import LineCollection, PolyCollection

    middle, size, at = top + HEIGHTS["states"] / 2, HEIGHTS["states"] * 0.34, 0
    is_small = axes.get_xlim()[1] > LETTERS_A_ROW * 5
    lines, waves, areas = [], [], {"H": [], "E": []}
    for state, run in groupby(page.said.states[part]):
        end = at + sum(1 for _ in run)
        if state == "C":
            lines.append([(at, middle), (end, middle)])
        elif is_small:
            areas[state].append([(at, middle - size), (end, middle - size), (end, middle + size), (at, middle + size)])
        elif state == "E":
            areas[state].append(_arrow(at, end, middle, size))
        else:
            x = np.linspace(at, end, 8 * (end - at) + 1)
            waves.append(np.stack([x, middle + size * np.sin(2 * np.pi * (x - at) / TURN)], -1))
        at = end
    axes.add_collection(LineCollection(lines, colors=COLOURS["C"], linewidths=1.6, zorder=0))
    axes.add_collection(LineCollection(waves, colors=COLOURS["H"], linewidths=2.0, zorder=0))
    for state, own in areas.items():
        axes.add_collection(PolyCollection(own, facecolors=COLOURS[state], linewidths=0, zorder=0))


def _arrow(start: int, end: int, middle: float, size: float) -> np.ndarray:
    """[7, 2] corners; its head takes two residues, or all of a shorter strand."""
    neck, half = max(end - 2, start), 0.55 * size
    upper = [(start, middle - half), (neck, middle - half), (neck, middle - size)]
    lower = [(neck, middle + size), (neck, middle + half), (start, middle + half)]
    return np.array([*upper, (end, middle), *lower], dtype=float)


def _draw_confidence(axes: Axes, page: Page, part: slice, top: float) -> None:
    """The calibrated probabilities of H, E and C, one upon the other."""
    assert page.said.three is not None
    helix, strand, coil = page.said.three[part].T
    bottom, height = top + HEIGHTS["confidence"] * 0.92, HEIGHTS["confidence"] * 0.84
    for state, share in (("C", helix + strand + coil), ("E", helix + strand), ("H", helix)):
        _fill(axes, share, bottom, height, COLOURS[state])
    _name(axes, "probability", bottom, height)


def _draw_accessibility(axes: Axes, page: Page, part: slice, top: float) -> None:
    assert page.said.accessibility is not None
    _draw_area(axes, "accessibility", page.said.accessibility[part], top, PALETTE[2])


def _draw_disorder(axes: Axes, page: Page, part: slice, top: float) -> None:
    assert page.said.disorder is not None
    _draw_area(axes, "disorder", page.said.disorder[part], top, PALETTE[3])


_DRAW = {
    "letters": _draw_letters,
    "states": _draw_states,
    "confidence": _draw_confidence,
    "accessibility": _draw_accessibility,
    "disorder": _draw_disorder,
}


def _draw_area(axes: Axes, name: str, values: np.ndarray, top: float, colour: str) -> None:
    """Values of 0 … 1; the thin lines are 0, one half and 1."""
    bottom, height = top + HEIGHTS[name] * 0.95, HEIGHTS[name] * 0.8
    _fill(axes, values.clip(0, 1), bottom, height, colour)
    levels = [bottom, bottom - height / 2, bottom - height]
    axes.hlines(levels, 0, len(values), color=FAINT, linewidth=0.4, linestyle=["-", ":", "-"], zorder=1)
    _name(axes, name, bottom, height)


def _fill(axes: Axes, values: np.ndarray, bottom: float, height: float, colour: str) -> None:
    """One step for each residue, or for some neighbours."""
    edges = np.append(np.arange(0, len(values), _size(round(axes.get_xlim()[1]))), len(values))
    means = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    x = np.repeat(edges, 2)[1:-1]
    axes.fill_between(x, bottom, bottom - height * np.repeat(means, 2), color=colour, linewidth=0, zorder=0)


def _size(per_row: int) -> int:
    """Residues that are drawn as one."""
    return -(-per_row // MOST_STEPS)


def _name(axes: Axes, name: str, bottom: float, height: float) -> None:
    left = -0.006 * axes.get_xlim()[1]
    axes.text(left, bottom - height / 2, name, fontsize=6.5, color=FAINT, ha="right", va="center")


# Contacts


def _draw_contacts(figure: Figure, found: ContactMap, n: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    is_whole = found.most_apart is None
    width, height = (MAP, MAP) if is_whole else (WIDTH, BAND)
    axes = _axes(figure, FOOT + 0.4, width, height)
    shades = LinearSegmentedColormap.from_list("contacts", [PAPER, PALETTE[0], "#001f33"])
    reach = n if found.most_apart is None else found.most_apart
    box = (0.5, n + 0.5, reach + 0.5, 0.5) if is_whole else (0.5, n + 0.5, 0, reach)
    origin = "upper" if is_whole else "lower"
    image = axes.imshow(found.cells, cmap=shades, vmin=0, vmax=1, extent=box, origin=origin, aspect="auto")
    axes.grid(False)
    axes.set(xlabel="residue", ylabel="residue" if is_whole else "residues apart")
    cells = "" if found.per_cell == 1 else f", the largest of {found.per_cell} residues"
    where = f", {SHORT} residues apart or more" if is_whole else f", {SHORT} to {reach} residues apart"
    axes.set_title(f"Probability of a contact{where}{cells}", fontsize=8.5)
    if is_whole:
        bar = _axes(figure, FOOT + 0.4, 0.12, height, LEFT + width + 0.15)
        figure.colorbar(image, cax=bar)
