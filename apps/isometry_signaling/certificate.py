"""Bounds that hold: how large the rate is at most and the relevance at least, from cells that training never saw.

A mean over held-out cells is drawn from strata of known weight; its error is that of a stratified mean, and the bounds
leave so many standard errors that all statements made together hold with the confidence asked for (normal limit of the
mean, as many statements as are counted). What is known of the distribution takes noise out: functions of known mean 0
(controls) are fitted to one half of the cells and subtracted on the other, so that nothing is gained by chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

Array = np.ndarray

CONFIDENCE = 0.99


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    error: float


class Certificate(NamedTuple):
    """A point on the information plane, bits."""

    rate: float
    relevance: float
    rate_upper: float
    """I(L; S) is at most this."""
    relevance_lower: float
    """I(S; E) is at least this."""
    confidence: float
    """With which all statements counted together hold."""


def certify(
    rate: Array,
    relevance: Array,
    weight: Array,
    stratum: Array,
    *,
    controls: Array | None = None,
    n_points: int = 1,
    confidence: float = CONFIDENCE,
) -> Certificate:
    """The certified point of held-out cells.

    Args:
        rate: [n] log p(s | l) / m(s) of each cell, bits; its mean bounds I(L; S) from above.
        relevance: [n] log q(e | s) / p(e), bits; its mean bounds I(S; E) from below.
        weight: [n] how often a cell occurs; summed over a stratum, the stratum's known probability.
        stratum: [n] integers.
        controls: [n, n_controls] of known mean 0, for cells of one stratum.
        n_points: points that are to hold together; each makes two statements.
    """
    deviations = float(norm.ppf(1 - (1 - confidence) / (2 * n_points)))
    paid, gained = (estimate(values, weight, stratum, controls) for values in (rate, relevance))
    upper, lower = paid.mean + deviations * paid.error, gained.mean - deviations * gained.error
    return Certificate(paid.mean, gained.mean, max(upper, 0.0), max(lower, 0.0), confidence)


def estimate(values: Array, weight: Array, stratum: Array, controls: Array | None = None) -> Estimate:
    """The mean of values over strata of known weight, and its standard error."""
    if controls is not None and len(values) > 4 * controls.shape[1]:
        values = without_controls(values, controls)
    _, place = np.unique(stratum, return_inverse=True)
    n = np.bincount(place)
    share = np.bincount(place, weight) / weight.sum()
    mean = np.bincount(place, values) / n
    squares = np.bincount(place, (values - mean[place]) ** 2)
    if (n < 2).any():
        return Estimate(float(share @ mean), float("inf"))
    return Estimate(float(share @ mean), float(np.sqrt((share**2 * squares / (n - 1) / n).sum())))


def without_controls(values: Array, controls: Array) -> Array:
    """The values less what the controls explain of them; each half of the cells by what the other half taught."""
    result = np.empty_like(values)
    halves = np.arange(len(values)) % 2 == 0
    for own, other in ((halves, ~halves), (~halves, halves)):
        design = np.column_stack([np.ones(other.sum()), controls[other]])
        taught = np.linalg.lstsq(design, values[other], rcond=None)[0]
        result[own] = values[own] - controls[own] @ taught[1:]
    return result
