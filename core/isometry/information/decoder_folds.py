"""Which samples a decoder learns from, is chosen on, and is scored on: nested folds that keep groups together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Folds(NamedTuple):
    """Decoder (k, m) learns from samples outside outer fold k and inner fold m; its like are chosen on those outside k
    but in m, and scored on k."""

    outer: np.ndarray
    """[n_samples] 0 … n_outer - 1"""
    inner: np.ndarray
    """[n_samples] 0 … n_inner - 1, independent of the outer one"""
    n_outer: int
    n_inner: int

    def train(self, k: int, m: int) -> np.ndarray:
        return np.flatnonzero((self.outer != k) & (self.inner != m))

    def chosen_on(self, k: int, m: int) -> np.ndarray:
        return np.flatnonzero((self.outer != k) & (self.inner == m))

    def pairs(self) -> Iterator[tuple[int, int]]:
        return ((k, m) for k in range(self.n_outer) for m in range(self.n_inner))


def nested_folds(
    inputs: np.ndarray, groups: np.ndarray | None, n_outer: int, n_inner: int, rng: np.random.Generator
) -> Folds:
    """Folds with the inputs in equal shares, as far as groups allow.

    Args:
        inputs: [n_samples] 0 … n_inputs - 1.
        groups: [n_samples] 0 … n_groups - 1: samples of a group stay together; None: each sample is its own.
    Raises:
        ValueError: an input is in one group alone, so that no decoder could learn it without the samples it is
            scored on; fewer groups than folds need.
    """
    if groups is None:
        groups = np.arange(len(inputs))
    n_groups = int(groups.max()) + 1
    n_outer, n_inner = min(n_outer, n_groups), min(n_inner, max(n_groups - 1, 2))
    table = np.zeros((n_groups, int(inputs.max()) + 1))
    np.add.at(table, (groups, inputs), 1)
    _check_spread(table)
    if n_groups == len(inputs):
        both = _dealt(inputs, n_outer * n_inner, rng)
        return Folds(both % n_outer, both // n_outer, n_outer, n_inner)
    for _ in range(100):
        folds = Folds(_packed(table, n_outer, rng)[groups], _packed(table, n_inner, rng)[groups], n_outer, n_inner)
        if all(len(np.unique(inputs[folds.train(k, m)])) == table.shape[1] for k, m in folds.pairs()):
            return folds
    raise ValueError(
        f"{n_groups} groups are too few to learn every input without the samples scored on; name finer groups, or none"
    )


def _check_spread(table: np.ndarray) -> None:
    if len(table) < 4:
        raise ValueError(f"{len(table)} groups: 4 at least are needed to learn from some and score on others")
    n_with = (table > 0).sum(axis=0)
    if n_with.min() < 3:
        raise ValueError(
            f"input {int(n_with.argmin())} occurs in {int(n_with.min())} groups alone: 3 at least are needed, so that "
            "it can be learnt, chosen on and scored; name finer groups, or none"
        )


def _dealt(inputs: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Fold [n_samples], samples of each input dealt like cards."""
    order = rng.permutation(len(inputs))
    order = order[np.argsort(inputs[order], kind="stable")]
    fold = np.empty(len(inputs), dtype=int)
    # Each input begins where the last one stopped.
    fold[order] = np.arange(len(inputs)) % n
    return fold


def _packed(table: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Fold [n_groups]: the largest first, each to the fold that lacks its inputs most."""
    fold, filled = np.empty(len(table), dtype=int), np.zeros((n, table.shape[1]))
    order = rng.permutation(len(table))
    share = table / table.sum(axis=0)
    for group in order[np.argsort(-table[order].sum(axis=1), kind="stable")]:
        fold[group] = int(np.argmin(filled @ share[group] + 1e-9 * rng.random(n)))
        filled[fold[group]] += share[group]
    return fold
