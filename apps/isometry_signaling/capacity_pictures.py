"""The channel in one figure: responses by dose, best inputs, confusion, and what each estimator says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from isometry.durable import write_whole
from isometry.figures import FAINT, PALETTE, panels, style

from isometry_signaling.capacity import DECODER, Capacity, estimator_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = (".png", ".svg", ".pdf")
N_LEVELS = 60  # of a response in its map, at most
ZERO_APART = 0.7  # decades below the lowest dose, where a zero dose stands
MOST_LABELS = 24


def capacity_figure(found: Capacity) -> Figure:
    """Four panels; the axis of doses is logarithmic, with zero at its left end."""
    figure, axes = panels(2, 2, width=5.2, height=3.6)
    with style():
        draw = _map_of_one if found.cells.responses.shape[1] == 1 else _map_of_several
        draw(axes[0], found)
        _best_inputs(axes[1], found)
        _confusion(axes[2], found)
        _estimators(axes[3], found)
    return figure


def write_figure(path: Path, found: Capacity) -> None:
    """PNG, SVG or PDF by the ending, whole or not at all."""
    stream = io.BytesIO()
    capacity_figure(found).savefig(stream, format=path.suffix[1:], dpi=160)
    write_whole(path, stream.getvalue())


def dose_places(amounts: np.ndarray | None, n_inputs: int) -> np.ndarray:
    """Where inputs stand on an axis: log10 of the dose, zero left of the lowest; their number where they are names."""
    if amounts is None:
        return np.arange(n_inputs, dtype=float)
    above = amounts > 0
    lowest = np.log10(amounts[above].min()) if above.any() else 0.0
    return np.where(above, np.log10(np.where(above, amounts, 1.0)), lowest - ZERO_APART)


def levels_of(y: np.ndarray) -> np.ndarray:
    """Edges between the levels of a response: as many steps of its values in each, so that counts make no stripes."""
    low, high = np.nanquantile(y, [0.002, 0.998], method="nearest")
    step = np.diff(np.unique(y[~np.isnan(y)])).min()
    width = step * max(np.ceil((high - low + step) / step / N_LEVELS), 1.0)
    return low - step / 2 + width * np.arange(np.ceil((high - low + step) / width - 1e-6) + 1)


def _map_of_one(axis: Axes, found: Capacity) -> None:
    """The density of the response at each input."""
    cells = found.cells
    y = cells.responses[:, 0]
    levels = levels_of(y)
    shares = [np.histogram(y[cells.inputs.codes == x], levels)[0] for x in range(len(cells.inputs.labels))]
    density = np.array([share / max(share.max(), 1) for share in shares])
    axis.pcolormesh(np.arange(len(density) + 1) - 0.5, levels, density.T, cmap="Blues", rasterized=True)
    medians = [np.nanmedian(y[cells.inputs.codes == x]) for x in range(len(density))]
    axis.plot(range(len(density)), medians, "o-", color=PALETTE[1], markersize=3, label="median")
    axis.legend()
    _name_inputs(axis, found)
    axis.set_ylabel(cells.response_names[0])
    axis.set_title("Responses")


def _map_of_several(axis: Axes, found: Capacity) -> None:
    """The mean of each response at each input, in spreads of that response."""
    cells = found.cells
    y = cells.responses
    scaled = (y - np.nanmean(y, axis=0)) / np.maximum(np.nanstd(y, axis=0), 1e-12)
    means = np.array([np.nanmean(scaled[cells.inputs.codes == x], axis=0) for x in range(len(cells.inputs.labels))])
    most = float(np.nanmax(np.abs(means))) or 1.0
    image = axis.imshow(means.T, aspect="auto", origin="lower", cmap="RdBu_r", vmin=-most, vmax=most)
    axis.figure.colorbar(image, ax=axis, label="mean, spreads of all cells")
    n = len(cells.response_names)
    shown = range(0, n, max(n // 8, 1))
    axis.set_yticks(list(shown), [cells.response_names[i] for i in shown])
    _name_inputs(axis, found)
    axis.grid(visible=False)
    axis.set_title("Responses")


def _best_inputs(axis: Axes, found: Capacity) -> None:
    inputs, decoded = found.cells.inputs, found.decoded
    places = dose_places(inputs.amounts, decoded.n_inputs)
    width = 0.6 * np.diff(places).min() if len(places) > 1 else 0.6
    axis.bar(places, decoded.best_inputs, width=width, color=PALETTE[0], label="optimal")
    axis.plot(places, decoded.frequencies, "_", color=PALETTE[1], markersize=10, label="as measured")
    axis.set_xticks(places, inputs.labels, rotation=60 if decoded.n_inputs > 5 else 0)
    axis.set_xlabel(_axis_name(found) + (", log scale" if inputs.amounts is not None else ""))
    axis.set_ylabel("probability")
    axis.set_title("Optimal input distribution")
    axis.legend()


def _confusion(axis: Axes, found: Capacity) -> None:
    table = found.decoded.confusion()
    image = axis.imshow(table, origin="lower", cmap="Blues", vmin=0, vmax=max(float(table.max()), 1e-6))
    axis.figure.colorbar(image, ax=axis, label="probability")
    _name_inputs(axis, found)
    shown = _shown(found)
    axis.set_yticks(shown, [found.cells.inputs.labels[i] for i in shown])
    axis.set_xlabel(f"decoded {axis.get_xlabel()}")
    axis.set_ylabel(f"given {_axis_name(found)}")
    axis.grid(visible=False)
    axis.set_title("Confusion, inputs equally likely")


def _estimators(axis: Axes, found: Capacity) -> None:
    rows = estimator_rows(found)[::-1]
    for place, row in enumerate(rows):
        colour = PALETTE[0] if row["estimator"] == DECODER else FAINT
        axis.plot(row["capacity_bits"], place, "o", color=colour)
        if row["low"] is not None:
            axis.plot([row["low"], row["high"]], [place, place], color=colour)
    axis.set_yticks(range(len(rows)), [row["estimator"].removeprefix("cross-fitted, ") for row in rows])
    axis.set_xlabel("capacity, bits")
    axis.set_xlim(left=min(0.0, *(row["capacity_bits"] for row in rows)) - 0.02)
    axis.set_title("Capacity by estimator")


def _name_inputs(axis: Axes, found: Capacity) -> None:
    shown = _shown(found)
    labels = [found.cells.inputs.labels[i] for i in shown]
    axis.set_xticks(shown, labels, rotation=60 if len(labels) > 5 else 0)
    axis.set_xlabel(_axis_name(found))


def _shown(found: Capacity) -> list[int]:
    n = len(found.cells.inputs.labels)
    return list(range(0, n, -(-n // MOST_LABELS)))


def _axis_name(found: Capacity) -> str:
    inputs = found.cells.inputs
    return f"{inputs.name} ({inputs.unit})" if inputs.unit else inputs.name
