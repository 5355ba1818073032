"""What a sweep found: its points, its U-curve, and both as files: JSON, CSV and a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isometry.app import App
from isometry.axes import Axis
from isometry.curves import LARGEST_RATIO
from isometry.durable import write_whole
from isometry.events import plain
from isometry.figures import PALETTE, panels, style
from isometry.report import write_report
from isometry.spell import number
from isometry.table import write_table
from isometry.u_curve import UCurve, is_strength, u_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

COLOURS = {
    "minimum": PALETTE[2],
    "overfitting side": PALETTE[1],
    "underfitting side": PALETTE[0],
    "below the minimum": PALETTE[1],
    "above the minimum": PALETTE[0],
    "flat": "#75808c",
}


@dataclass(frozen=True)
class Swept:
    """The result of a sweep."""

    folder: Path
    score: str
    """What was measured; by it the validation set judges."""
    better: str
    rows: list[dict[str, Any]]
    """One per point: its settings, mean and standard error over seeds of both scores, their gap, its side."""
    failed: list[dict[str, Any]]
    """One per run without a score: its number, its settings, its seed, the reason."""
    curve: UCurve | None
    """None unless exactly one setting varied, and by numbers."""

    @property
    def best(self) -> dict[str, Any]:
        """The point with the best mean validation score."""
        scored = [row for row in self.rows if row["n_seeds"]]
        return (min if self.better == "smaller" else max)(scored, key=lambda row: row["valid"])

    def summary(self) -> str:
        """The result in a few sentences."""
        lines = [f"Best {self.score} on the validation set: {number(self.best['valid'])} at {spelled(_values(self))}."]
        if self.curve is not None:
            lines.append(_where(self.curve))
            lines.append(_role(self.curve))
        if self.failed:
            lines.append(f"{len(self.failed)} runs have no score.")
        return " ".join(lines)


def gather(
    folder: Path,
    app: App,
    settings: Any,
    axes: Sequence[Axis],
    points: Sequence[dict[str, Any]],
    runs: Sequence[FrozenTrial],
    strength: bool | None,
) -> Swept:
    """Put the runs together, and write the files. Raises ValueError, with the first reason, if no run has a score."""
    objective = app.objective(settings)
    n_seeds = 1 + max(run.user_attrs["seed"] for run in runs)
    valid, train = (np.full((len(points), n_seeds), np.nan) for _ in range(2))
    failed = []
    for run in runs:
        place, seed = run.user_attrs["point"], run.user_attrs["seed"]
        if run.value is None:
            facts = {"seed": settings.seed + seed, "reason": run.user_attrs.get("reason", "unknown")}
            failed.append({"run": run.number, **points[place], **facts})
        else:
            valid[place, seed], train[place, seed] = run.value, run.user_attrs["train"]
    if np.isnan(valid).all():
        raise ValueError(f"{folder}: no run of the sweep has a score; run {failed[0]['run']}: {failed[0]['reason']}")
    curve = _curve(axes, points, valid, train, objective.better, strength)
    rows = [_row(point, valid[place], train[place]) for place, point in enumerate(points)]
    if curve is not None:
        sides = {point.theta: point.side for point in curve.points}
        rows = [row | {"side": sides.get(float(row[axes[0].setting]), "no score")} for row in rows]
    swept = Swept(folder, objective.decides, objective.better, rows, failed, curve)
    _write(swept, app, axes)
    return swept


def as_data(swept: Swept) -> dict[str, Any]:
    """The result as plain data, for JSON."""
    curve = swept.curve
    data: dict[str, Any] = {"score": swept.score, "better": swept.better, "best": swept.best, "points": swept.rows}
    if curve is not None:
        data |= {"minimum": asdict(curve.minimum), "role": curve.role}
    return plain(data | {"failed": swept.failed})


def as_told(row: dict[str, Any]) -> dict[str, Any]:
    """A point for a narrow table: each mean with its standard error in one column."""
    told = {name: value for name, value in row.items() if not name.endswith("_error")}
    for name in ("valid", "train"):
        error = row.get(f"{name}_error")
        told[name] = number(row.get(name)) + (f" ± {number(error, 2)}" if error is not None else "")
    return told | ({"gap": number(row["gap"], 3)} if "gap" in row else {})


def spelled(point: dict[str, Any]) -> str:
    """A point in words."""
    return ", ".join(f"{name} {number(value)}" for name, value in point.items())


def figure(swept: Swept, axes: Sequence[Axis]) -> Figure:
    """The scores over each setting that varied; with one numeric setting, the U-curve with its minimum and sides."""
    with style():
        drawing, panel = panels(1, len(axes), width=7.0 if len(axes) == 1 else 4.6, height=3.8)
        for axis, frame in zip(axes, panel, strict=True):
            if swept.curve is not None:
                _draw_curve(frame, swept.curve)
            else:
                _draw_points(frame, swept, axis)
            _label(frame, axis, swept)
    return drawing


def _curve(
    axes: Sequence[Axis],
    points: Sequence[dict[str, Any]],
    valid: np.ndarray,
    train: np.ndarray,
    better: Any,
    strength: bool | None,
) -> UCurve | None:
    if len(axes) != 1 or not axes[0].numbers():
        return None
    name, is_log = axes[0].setting, axes[0].is_log
    thetas = [float(point[name]) for point in points]
    role = "strength" if strength or (strength is None and is_strength(name)) else None
    return u_curve(thetas, valid, train, better=better, is_log=is_log, role=role)


def _row(point: dict[str, Any], valid: np.ndarray, train: np.ndarray) -> dict[str, Any]:
    """Means and standard errors over the seeds that have a score."""
    has_score = np.isfinite(valid)
    valid, train = valid[has_score], train[has_score]
    n = len(valid)

    def error(values: np.ndarray) -> float | None:
        return float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else None

    if n == 0:
        return {**point, "n_seeds": 0}
    means = {"valid": float(valid.mean()), "valid_error": error(valid)}
    means |= {"train": float(train.mean()), "train_error": error(train)}
    return {**point, "n_seeds": n, **means, "gap": means["valid"] - means["train"]}


def _values(swept: Swept) -> dict[str, Any]:
    names = list(swept.best)[: list(swept.best).index("n_seeds")]
    return {name: swept.best[name] for name in names}


def _where(curve: UCurve) -> str:
    minimum = curve.minimum
    said = f"The minimum lies at {number(minimum.theta)}"
    if minimum.interval is not None:
        said += f", between {number(minimum.interval[0])} and {number(minimum.interval[1])} (68 % of resampled seeds)"
    else:
        said += "; one seed says nothing about its uncertainty"
    beyond = f"; it is the {minimum.end} end of the range, so look beyond it" if minimum.end else ""
    return f"{said}{beyond}."


def _role(curve: UCurve) -> str:
    if curve.role == "unknown":
        return "Whether the setting regularises is not clear from the training score; so no side is called overfitting."
    kind = "a strength of regularisation" if curve.role == "strength" else "a capacity: more of it fits the data closer"
    return f"The setting acts as {kind}."


def _write(swept: Swept, app: App, axes: Sequence[Axis]) -> None:
    write_whole(swept.folder / "sweep.json", json.dumps(as_data(swept), indent=2) + "\n")
    write_table(swept.folder / "sweep.csv", swept.rows)
    names = ", ".join(axis.setting for axis in axes)
    write_report(
        swept.folder / "report.html",
        [],
        title=f"{app.name}: sweep over {names}",
        summary=swept.summary(),
        figures={f"{swept.score} over {names}": figure(swept, axes)},
        tables={"Points": swept.rows} | ({"Runs without a score": swept.failed} if swept.failed else {}),
    )


def _draw_curve(frame: Axes, curve: UCurve) -> None:
    x = [point.theta for point in curve.points]
    for name, colour, marker in (("train", "#75808c", "s"), ("valid", "#1c232b", "o")):
        y = [getattr(point, name) for point in curve.points]
        error = [getattr(point, f"{name}_error") or 0.0 for point in curve.points]
        label = "training" if name == "train" else "validation"
        frame.errorbar(x, y, error, color=colour, marker=marker, markersize=3, capsize=2, linewidth=1.2, label=label)
    for side in dict.fromkeys(point.side for point in curve.points):
        own = [point for point in curve.points if point.side == side]
        size, marker = (150, "*") if side == "minimum" else (42, "o")
        places = ([p.theta for p in own], [p.valid for p in own])
        frame.scatter(*places, s=size, marker=marker, color=COLOURS[side], zorder=4, label=side)
    if curve.minimum.interval is not None:
        frame.axvspan(*curve.minimum.interval, color=PALETTE[2], alpha=0.15, linewidth=0)
    frame.axvline(curve.minimum.theta, color=PALETTE[2], linewidth=1, linestyle="--")
    if 0 < min(point.valid for point in curve.points) * LARGEST_RATIO < max(point.valid for point in curve.points):
        frame.set_yscale("log")
    frame.legend(loc="best", ncols=2)


def _draw_points(frame: Axes, swept: Swept, axis: Axis) -> None:
    rows = [row for row in swept.rows if row["n_seeds"]]
    convert = float if axis.numbers() else str
    x: Any = [convert(row[axis.setting]) for row in rows]
    error = [row["valid_error"] or 0.0 for row in rows]
    frame.errorbar(x, [row["valid"] for row in rows], error, fmt="o", color=PALETTE[0], markersize=4, capsize=2)


def _label(frame: Axes, axis: Axis, swept: Swept) -> None:
    if axis.numbers() and axis.is_log:
        frame.set_xscale("log")
    frame.set_xlabel(axis.setting)
    frame.set_ylabel(swept.score)
