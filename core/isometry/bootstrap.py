"""How far a score would move if the test set had held other records of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Rows = dict[str, np.ndarray]


class Interval(NamedTuple):
    low: float
    high: float


def intervals(
    score: Callable[[Rows], dict[str, float]], rows: Rows, n: int = 1000, *, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of all scores from n resamples of the records with replacement.

    They tell what the choice of the test records did to a score, not what the choice of training data or seed did.
    Records that come in families want their families resampled instead: these intervals are too narrow then.

    Args:
        score: as in `Objective`.
        rows: measured of each record, [n_records, ...] each.
    Raises:
        ValueError: fewer than 2 records or resamples.
    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    n_records = len(next(iter(rows.values())))
    if n_records < 2 or n < 2:
        raise ValueError(f"{n} resamples of {n_records} records; an interval needs at least 2 of each")
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(n):
        drawn = rng.integers(n_records, size=n_records)
        for name, value in score({name: row[drawn] for name, row in rows.items()}).items():
            found.setdefault(name, []).append(value)
    outside = (1 - level) / 2
    return {name: Interval(*np.quantile(values, [outside, 1 - outside]).tolist()) for name, values in found.items()}
