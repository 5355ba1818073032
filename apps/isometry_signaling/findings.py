"""What the signaling app adds to a run's report: the information plane and the map of the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from isometry.app import Data, Findings
from isometry.figures import FAINT, PALETTE, panels, style

from isometry_signaling.dataset import Cells
from isometry_signaling.plane import PlanePoint, as_rows, certified
from isometry_signaling.predict import Prediction, predictions
from isometry_signaling.truth import Truth, truth_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_ON_CURVE = 200
N_BINS = 60
STAGE_NAMES = {"S": "S of the simulated cell", "G": "G of the simulated cell"}


def findings(model: Any, settings: Any, data: Data) -> Findings:
    """Tables and figures of a trained model; the test set is used only if there is one."""
    cells = data.test or data.valid
    if not isinstance(cells, Cells):
        return Findings()
    truth = truth_of(settings.data)
    point = PlanePoint(settings.loss.beta, certified(model, settings.loss, cells), 0)
    figures = {"Information plane": plane_figure([point], truth)}
    tables = {"Where the cell stands (bits)": as_rows([point], truth.relevance_at if truth else None)}
    if truth is not None and truth.stages:
        tables["Stages of the simulated cell at one instant (bits)"] = stage_rows(truth)
    if settings.model.environment == "classes":
        found = predictions(model, cells)
        tables["Response by environment"] = response_rows(found, cells, settings)
        figures["Response of the state to the environment"] = response_figure(found, cells, settings)
    return Findings(tables, figures)


def stage_rows(truth: Truth) -> list[dict[str, Any]]:
    """I(L; ·), I(·; E), and how far below the exact curve."""
    return [
        {"stage": name, "rate": at.rate, "relevance": at.relevance, "below": _below(truth, at.rate, at.relevance)}
        for name, at in truth.stages.items()
    ]


def _below(truth: Truth, rate: float, relevance: float) -> float:
    return float(truth.relevance_at(np.array(rate))) - relevance


def response_rows(found: Prediction, cells: Cells, settings: Any) -> list[dict[str, Any]]:
    """The mean over the cells of each environment of state, genes, decoded environment and bits."""
    labels, share = settings.model.labels, cells.table.environment * cells.table.weight[:, None]
    state = "p state" if settings.model.state == "categorical" else "state"
    columns = {f"{state} {i + 1}": column for i, column in enumerate(found.state.T[:4])}
    columns |= dict(zip(settings.model.genes, found.genes.T, strict=True))
    columns |= {"paid bits": found.paid, "gained bits": found.gained}
    rows = []
    for i, label in enumerate(labels):
        weight = share[:, i] / share[:, i].sum()
        row = {cells.names.environment: label} | {name: float(weight @ column) for name, column in columns.items()}
        rows.append(row | {"told right": float(weight @ found.environment[:, i])})
    return rows


def response_figure(found: Prediction, cells: Cells, settings: Any) -> Figure:
    """How the cells of each environment are spread over the first dimension of the state (the mean kind)."""
    labels = settings.model.labels
    along = found.state[:, 0] if settings.model.state == "gaussian" else found.environment @ np.arange(len(labels))
    edges = np.linspace(along.min(), along.max() + 1e-9, N_BINS + 1)
    share = cells.table.environment * cells.table.weight[:, None]
    table = np.stack([np.histogram(along, edges, weights=share[:, i])[0] for i in range(len(labels))])
    with style():
        figure, (axes,) = panels(1, 1, width=6.0)
        image = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
        axes.pcolormesh(edges, np.arange(len(labels) + 1), image, cmap="Blues", rasterized=True)
        axes.set_yticks(np.arange(len(labels)) + 0.5, labels)
        name = "mean of the state's first dimension" if settings.model.state == "gaussian" else "decoded environment"
        axes.set(xlabel=name, ylabel=cells.names.environment)
        axes.grid(visible=False)
    return figure


def plane_figure(points: Sequence[PlanePoint], truth: Truth | None, cell: PlanePoint | None = None) -> Figure:
    """Exact curve, certified points, and stages of the simulated cell."""
    with style():
        figure, (axes,) = panels(1, 1, width=6.0, height=3.6)
        rates = [point.certificate.rate_upper for point in points]
        if truth is not None:
            _draw_truth(axes, truth, max([1.15 * rate for rate in rates] + [at.rate for at in truth.stages.values()]))
        relevance = [point.certificate.relevance_lower for point in points]
        axes.plot(rates, relevance, "o", color=PALETTE[1], markersize=4.5, label="learned, certified")
        if cell is not None:
            at = cell.certificate
            axes.plot([at.rate_upper], [at.relevance_lower], "*", color=PALETTE[2], markersize=10, label="this run")
        axes.set(xlabel="I(L; S), bits paid", ylabel="I(S; E), bits gained", xlim=(0, None), ylim=(0, None))
        axes.legend(loc="lower right")
    return figure


def _draw_truth(axes: Axes, truth: Truth, most: float) -> None:
    rates = np.linspace(0, most, N_ON_CURVE)
    axes.plot(rates, truth.relevance_at(rates), color=PALETTE[0], label="exact: the best any cell could do")
    axes.axhline(truth.information, color=FAINT, linewidth=0.8, linestyle=":")
    for mark, (name, at) in zip("s^", truth.stages.items(), strict=False):
        axes.plot([at.rate], [at.relevance], mark, color=FAINT, markersize=5, label=STAGE_NAMES[name])
