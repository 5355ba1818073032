"""The deterministic information bottleneck: every x goes to one state, and what is paid for is the entropy of T.

Minimise H(T) - β I(T; Y). The iteration t(x) = argmax log p(t) - β KL(p(y|x) | p(y|t)) never raises it, but has many
resting places: it starts at many, and from each single symbols then move to wherever the sum falls, until none does.

Source: Strouse and Schwab 2017, arXiv:1604.00268, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isometry.information.bits import Array
from isometry.information.discrete_bottleneck import NEVER_SEEN, Table

FALLS = 1e-12  # bits: less is rounding


@dataclass(frozen=True)
class Clustering:
    """A hard encoder and where it stands."""

    states: np.ndarray
    """[n_x] the state of every x, numbered from 0 in order of appearance; -1: x never occurs."""
    entropy: float
    """H(T) = I(T; X), bits"""
    relevance: float
    """I(T; Y), bits"""


def deterministic_bottleneck(
    joint: ArrayLike, beta: float, *, n_states: int | None = None, n_restarts: int = 200, seed: int = 0
) -> Clustering:
    """The best clustering found from `n_restarts` random ones and from T = X.

    Args:
        joint: [n_x, n_y] p(x, y).
        n_states: most states; n_x where not given.
    """
    table = Table(joint)
    n_x = len(table.of_x)
    n_t = n_states or n_x
    rng = np.random.default_rng(seed)
    # Starts of every size: with few states, few symbols have to leave theirs.
    sizes = rng.integers(1, n_t + 1, size=(n_restarts, 1))
    starts = np.concatenate([np.arange(n_x)[None] % n_t, rng.integers(0, sizes, size=(n_restarts, n_x))])
    resting = np.unique(_at_rest(table, starts, beta, n_t), axis=0)
    moved = np.array([_moved(table, states, beta, n_t) for states in resting])
    best = moved[int(np.argmin(cost(table, moved, beta, n_t)))]
    entropy, relevance = table.information(np.eye(n_t)[best])
    states = np.full(len(table.seen), -1)
    states[table.seen] = _renumbered(best)
    return Clustering(states, float(entropy), float(relevance))


def cost(table: Table, states: np.ndarray, beta: float, n_states: int) -> Array:
    """[...] H(T) - β I(T; Y) in bits of hard encoders [..., n_x]."""
    # A hard encoder has I(T; X) = H(T).
    return table.lagrangian(np.eye(n_states)[states], beta)


def _at_rest(table: Table, states: np.ndarray, beta: float, n_t: int, max_steps: int = 200) -> np.ndarray:
    for _ in range(max_steps):
        of_t, given_t = table.decoded(np.eye(n_t)[states])
        gain = np.log(np.maximum(of_t, NEVER_SEEN))[..., None, :] - beta * table.divergence(given_t)
        following = gain.argmax(-1)
        if (following == states).all():
            break
        states = following
    return states


def _moved(table: Table, states: np.ndarray, beta: float, n_t: int) -> np.ndarray:
    """Single symbols go where the cost falls most, until no move lowers it."""
    n_x = len(states)
    rows = np.repeat(np.arange(n_x), n_t)
    while True:
        moves = np.tile(states, (n_x * n_t, 1))
        moves[np.arange(n_x * n_t), rows] = np.tile(np.arange(n_t), n_x)
        costs = cost(table, moves, beta, n_t)
        best = int(costs.argmin())
        if costs[best] >= cost(table, states[None], beta, n_t)[0] - FALLS:
            return states
        states = moves[best]


def _renumbered(states: np.ndarray) -> np.ndarray:
    _, first, inverse = np.unique(states, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
