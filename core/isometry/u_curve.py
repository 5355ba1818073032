"""The U-curve: validation error over one setting, its minimum with an uncertainty, and the side of every point.

Left of the minimum of a regularisation strength θ the error falls with θ (dE/dθ < 0): the model overfits and more of θ
helps. Right of it the error rises (dE/dθ > 0): the model underfits. A point is judged by the slope of the line from it
to the best point, seed by seed, because the local slope of a plateau says nothing about which side it is on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Role = Literal["strength", "capacity", "unknown"]
Side = Literal["minimum", "overfitting side", "underfitting side", "below the minimum", "above the minimum", "flat"]

STRENGTHS = ("decay", "dropout", "drop_path", "label_smoothing", "augment")
"""How the last parts of the names of settings begin of which more always means more regularisation."""

CONFIDENCE = 0.95  # one-sided, of a point being worse than the best one
NEGLIGIBLE = 0.1  # of the best point's standard error: smaller differences do not matter, however sure they are
TREND = 0.8  # rank correlation of the training error with θ from which θ counts as a strength or a capacity
N_RESAMPLES = 2000
COVERED = (0.16, 0.84)  # quantiles of the interval of the minimum


@dataclass(frozen=True)
class Point:
    """One value of θ: means and standard errors over seeds, in the score's own unit."""

    theta: float
    n_seeds: int
    valid: float
    valid_error: float | None
    """Standard error; None with fewer than two seeds."""
    train: float
    train_error: float | None
    side: Side

    @property
    def gap(self) -> float:
        """Training score less validation score, as the scores are."""
        return self.valid - self.train


@dataclass(frozen=True)
class Minimum:
    """Where the validation error is smallest."""

    best: float
    """The θ with the best mean score among those tried."""
    theta: float
    """The bottom of the parabola through it and its neighbours; `best` itself at an end of the range."""
    interval: tuple[float, float] | None
    """16 % to 84 % over resampled seeds; None with fewer than two seeds."""
    end: Literal["lower", "upper"] | None
    """The end of the range at which `best` lies: the true minimum may be beyond."""


@dataclass(frozen=True)
class UCurve:
    points: list[Point]
    minimum: Minimum
    role: Role


def u_curve(
    thetas: Sequence[float],
    valid: np.ndarray,
    train: np.ndarray,
    *,
    better: Literal["smaller", "larger"] = "smaller",
    is_log: bool = True,
    role: Role | None = None,
    resamples: int = N_RESAMPLES,
) -> UCurve:
    """The curve of scores over θ.

    Args:
        thetas: [n_points] ascending; positive where `is_log`.
        valid, train: [n_points, n_seeds] scores; NaN where a run failed. A column is one seed at every θ.
        role: what θ does; None: judged by the training score, see `role_of`.

    Raises:
        ValueError: no point has a score.
    """
    at = np.asarray(thetas, dtype=float)
    sign = 1.0 if better == "smaller" else -1.0
    has_score = np.isfinite(valid).any(1)
    if not has_score.any():
        raise ValueError("no run of the sweep has a validation score")
    at, valid, train = at[has_score], valid[has_score], train[has_score]
    errors = sign * valid
    x = np.log(at) if is_log else at
    place = int(np.argmin(_means(errors)))
    role = role or role_of(_means(sign * train))
    minimum = _minimum(x, at, errors, place, is_log, resamples)
    sides = _sides(errors, place, role)
    points = [
        Point(float(theta), int(np.isfinite(v).sum()), _mean(v), _error(v), _mean(t), _error(t), side)
        for theta, v, t, side in zip(at, valid, train, sides, strict=True)
    ]
    return UCurve(points, minimum, role)


def role_of(train_errors: np.ndarray) -> Role:
    """What θ does to the training data: a strength fits them worse the larger it is, a capacity better.

    Args:
        train_errors: [n_points] over ascending θ, smaller is better.
    """
    known = train_errors[np.isfinite(train_errors)]
    if len(known) < 4 or np.ptp(known) == 0:
        return "unknown"
    from scipy.stats import spearmanr

    trend = float(spearmanr(np.arange(len(known)), known)[0])  # pyright: ignore[reportArgumentType]
    return "strength" if trend >= TREND else "capacity" if trend <= -TREND else "unknown"


def is_strength(setting: str) -> bool:
    """Whether a dotted setting is a regularisation strength by its name."""
    *sections, last = setting.split(".")
    return last.startswith(STRENGTHS) and "schedule" not in sections  # whose decay is that of the learning rate


def _sides(errors: np.ndarray, best: int, role: Role) -> list[Side]:
    """The side of every point; one that is no better than a nearer point which is worse than the best is worse too."""
    is_worse = [_is_worse(row - errors[best], errors[best]) for row in errors]
    means = _means(errors)
    for way in (range(best - 1, -1, -1), range(best + 1, len(errors))):
        reached = np.inf
        for at in way:
            is_worse[at] = is_worse[at] or bool(means[at] >= reached)
            reached = min(reached, means[at]) if is_worse[at] else reached
    return [
        "minimum" if at == best else _side(at < best, role) if is_worse[at] else "flat" for at in range(len(errors))
    ]


def _side(is_below: bool, role: Role) -> Side:
    if role == "unknown":
        return "below the minimum" if is_below else "above the minimum"
    return "overfitting side" if is_below == (role == "strength") else "underfitting side"


def _is_worse(differences: np.ndarray, best: np.ndarray) -> bool:
    """Whether the differences to the best point, paired by seed, are above zero beyond their uncertainty (Student's t)
    and not lost in the scatter of the best point's own mean.

    With one seed there is no uncertainty to judge by: then any difference counts.
    """
    differences = differences[np.isfinite(differences)]
    if len(differences) < 2:
        return bool(len(differences) and differences[0] > 0)
    from scipy.stats import t

    error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
    needed = max(float(t.ppf(CONFIDENCE, len(differences) - 1)) * error, NEGLIGIBLE * (_error(best) or 0.0))
    return bool(differences.mean() > needed)


def _minimum(x: np.ndarray, thetas: np.ndarray, errors: np.ndarray, best: int, is_log: bool, resamples: int) -> Minimum:
    def back(value: float) -> float:
        return float(np.exp(value)) if is_log else float(value)

    n_seeds = errors.shape[1]
    interval = None
    if n_seeds > 1:
        rng = np.random.default_rng(0)
        drawn = (errors[:, rng.integers(n_seeds, size=n_seeds)] for _ in range(resamples))
        low, high = np.quantile([_bottom(x, _means(sample)) for sample in drawn], COVERED)
        interval = (back(low), back(high))
    end = "lower" if best == 0 else "upper" if best == len(x) - 1 else None
    return Minimum(float(thetas[best]), back(_bottom(x, _means(errors))), interval, end if len(x) > 1 else None)


def _bottom(x: np.ndarray, means: np.ndarray) -> float:
    """The abscissa of the minimum: of the parabola through the best point and its two neighbours, if it has two.

    More points would follow the shape of the far branches, which are as a rule of unequal steepness.
    """
    known = np.isfinite(means)
    x, means = x[known], means[known]
    best = int(np.argmin(means))
    if best in (0, len(x) - 1):
        return float(x[best])
    near = slice(best - 1, best + 2)
    curvature, slope, _ = np.polyfit(x[near] - x[best], means[near], 2)
    return float(x[best] - slope / (2 * curvature)) if curvature > 0 else float(x[best])


def _means(rows: np.ndarray) -> np.ndarray:
    """Means over the finite values of each row; infinity where there is none, which is never the smallest."""
    is_finite = np.isfinite(rows)
    sums = np.where(is_finite, rows, 0.0).sum(1)
    return np.where(is_finite.any(1), sums / np.maximum(is_finite.sum(1), 1), np.inf)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _error(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
