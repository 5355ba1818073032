"""Entropy, relative entropy and mutual information of tables of probability, in bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, xlogy

Array = np.ndarray  # of float64 where nothing else is said

NATS = float(np.log(2.0))  # nats per bit
SUMS_TO_ONE = 1e-8


def entropy(probability: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Array:
    """-Σ p log2 p over `axis` (all axes: a number of shape [])."""
    p = np.asarray(probability, dtype=float)
    return -np.sum(xlogy(p, p), axis=axis) / NATS


def relative_entropy(p: ArrayLike, q: ArrayLike) -> Array:
    """Σ p log2(p / q) over the last axis; inf where p > 0 = q."""
    return np.sum(rel_entr(p, q), axis=-1) / NATS


def mutual_information(joint: ArrayLike, one: Sequence[int] = (0,), other: Sequence[int] = (1,)) -> float:
    """I(A; B) of a joint table; A and B are groups of its axes, the axes named in neither are summed over.

    Raises:
        ValueError: not a joint distribution.
    """
    table = joint_distribution(joint)
    left_out = tuple(set(range(table.ndim)) - {*one, *other})
    kept = sorted({*one, *other})
    order = [kept.index(axis) for axis in (*one, *other)]
    pair = np.transpose(table.sum(axis=left_out), order)
    rows = int(np.prod(pair.shape[: len(one)]))
    pair = pair.reshape(rows, -1)
    independent = pair.sum(1, keepdims=True) * pair.sum(0, keepdims=True)
    return float(max(np.sum(rel_entr(pair, independent)) / NATS, 0.0))


def joint_distribution(joint: ArrayLike) -> Array:
    """The table as float64, scaled to sum 1 to the last digit. Raises ValueError where it is none."""
    table = np.asarray(joint, dtype=float)
    if table.ndim < 2:
        raise ValueError(f"a joint distribution has at least 2 axes, found shape {table.shape}")
    return _checked(table, table.sum(), "the joint distribution")


def conditional_distribution(rows: ArrayLike, what: str = "the channel") -> Array:
    """p(y|x) as float64 [n_x, n_y], each row scaled to sum 1. Raises ValueError that names the first wrong row."""
    table = np.asarray(rows, dtype=float)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{what} must be a table [n_inputs, n_outputs], found shape {table.shape}")
    return _checked(table, table.sum(axis=1, keepdims=True), what)


def _checked(table: Array, sums: Array, what: str) -> Array:
    if not np.isfinite(table).all() or (table < 0).any():
        place = np.argwhere(~np.isfinite(table) | (table < 0))[0].tolist()
        raise ValueError(f"{what} must hold finite probabilities ≥ 0, found {table[tuple(place)]} at {place}")
    wrong = np.abs(np.ravel(sums) - 1) > SUMS_TO_ONE
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{what} must sum to 1, found {np.ravel(sums)[row]:.9g} (row {row}); divide by the sum")
    return table / sums
