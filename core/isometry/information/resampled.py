"""Intervals of a mean by input: samples of each input, or whole groups, drawn anew with replacement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from isometry.information.bits import Array

CONFIDENCE = 0.95
AT_ONCE = 4_000_000  # random numbers


class Estimate(NamedTuple):
    """Bits, and the interval in which CONFIDENCE of the resampled answers lie.

    It covers the chance of which samples were scored; decoders and input distribution stay as they were found.
    """

    value: float
    low: float
    high: float


def resampled(parts: Array, inputs: np.ndarray, groups: np.ndarray | None, n_resampled: int, seed: int) -> Estimate:
    """Σ over inputs of the mean part [n_samples] of its samples; without an interval where n_resampled is 0."""
    counts = np.bincount(inputs)
    value = float((np.bincount(inputs, parts) / np.maximum(counts, 1)).sum())
    if n_resampled == 0:
        return Estimate(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    of = (
        _by_sample(parts, inputs, n_resampled, rng)
        if groups is None
        else _by_group(parts, inputs, groups, n_resampled, rng)
    )
    # Centred on the answer: dropping an input in a draw of groups shifts the mean of the draws.
    low, high = np.quantile(of, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _by_sample(parts: Array, inputs: np.ndarray, n: int, rng: np.random.Generator) -> Array:
    total = np.zeros(n)
    for x in np.unique(inputs):
        own = parts[inputs == x]
        step = max(AT_ONCE // len(own), 1)
        for start in range(0, n, step):
            m = min(step, n - start)
            total[start : start + m] += own[rng.integers(len(own), size=(m, len(own)))].mean(axis=1)
    return total


def _by_group(parts: Array, inputs: np.ndarray, groups: np.ndarray, n: int, rng: np.random.Generator) -> Array:
    n_groups, n_inputs = int(groups.max()) + 1, int(inputs.max()) + 1
    sums, counts = np.zeros((n_groups, n_inputs)), np.zeros((n_groups, n_inputs))
    np.add.at(sums, (groups, inputs), parts)
    np.add.at(counts, (groups, inputs), 1)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n)
    there = drawn @ counts
    means = np.divide(drawn @ sums, there, out=np.zeros_like(there, dtype=float), where=there > 0)
    # An input that no drawn group has keeps its mean.
    return np.where(there > 0, means, sums.sum(0) / np.maximum(counts.sum(0), 1)).sum(axis=1)
