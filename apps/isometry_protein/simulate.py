"""Simulated proteins: a semi-Markov chain of helix, strand and coil whose best possible predictor is known.

Segments of helix (H), strand (E) and coil (C) follow one another; each has a length drawn from its state's
distribution, and each residue is drawn from its state's propensities alone. A chain is the first n residues of an
endless one. Bayes' rule then gives the probability of each state at each residue exactly, by forward-backward
recursion, and no predictor is right more often than its most probable state.

Propensities: Chou & Fasman 1978, Adv. Enzymol. 47, 45 (helix, sheet; coil: their turn); the rest is chosen here.
Recursion: Yu 2010, "Hidden semi-Markov models", Artif. Intell. 174, 215, with the last segment cut off (censored).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from isometry_data.protein_records import AMINO_ACIDS, THREE_STATES, ProteinRecord

# In the order of AMINO_ACIDS: A C D E F G H I K L M N P Q R S T V W Y
FREQUENCIES = (82, 14, 55, 67, 39, 71, 23, 59, 58, 97, 24, 41, 47, 39, 55, 66, 53, 69, 11, 29)  # per mille, about
PROPENSITIES = {
    "H": (142, 70, 101, 151, 113, 57, 100, 108, 116, 121, 145, 67, 57, 111, 98, 77, 83, 106, 108, 69),
    "E": (83, 119, 54, 37, 138, 75, 87, 160, 74, 130, 105, 89, 55, 110, 93, 75, 119, 170, 137, 147),
    "C": (66, 119, 146, 74, 60, 156, 95, 47, 101, 59, 60, 156, 152, 98, 95, 143, 96, 50, 96, 114),
}  # per cent of the frequency
SHARPNESS = 2.0
"""Power to which the propensities are raised: a real chain tells more by its neighbourhood than by single residues."""
LENGTHS = {"H": (4, 7.0), "E": (2, 3.5), "C": (2, 4.0)}
"""Shortest segment, and mean beyond it."""
LONGEST = 40
"""Of a segment."""
FOLLOWS = {"H": {"C": 0.9, "E": 0.1}, "E": {"C": 0.9, "H": 0.1}, "C": {"H": 0.5, "E": 0.5}}
BEGINS = {"H": 0.1, "E": 0.1, "C": 0.8}


class Chain(NamedTuple):
    """The generative model as arrays, states in the order HEC."""

    begins: np.ndarray  # [3]
    follows: np.ndarray  # [3, 3] of the next segment, by the last
    durations: np.ndarray  # [3, LONGEST] probability of length 1 …
    letters: np.ndarray  # [3, 20]


@cache
def chain() -> Chain:
    """The model of this file."""
    durations = np.stack([_durations(*LENGTHS[state]) for state in THREE_STATES])
    letters = np.stack([np.array(FREQUENCIES) * (np.array(PROPENSITIES[s]) / 100) ** SHARPNESS for s in THREE_STATES])
    follows = np.array([[FOLLOWS[last].get(state, 0.0) for state in THREE_STATES] for last in THREE_STATES])
    begins = np.array([BEGINS[state] for state in THREE_STATES])
    return Chain(begins, follows, durations, letters / letters.sum(1, keepdims=True))


def _durations(shortest: int, mean_beyond: float) -> np.ndarray:
    """[LONGEST]: a negative binomial of shape 2 from `shortest` on, cut off at the longest."""
    beyond = np.arange(LONGEST) - (shortest - 1)
    stay = mean_beyond / (mean_beyond + 2)
    weights = np.where(beyond >= 0, (beyond + 1) * stay ** beyond.clip(0), 0.0)
    return weights / weights.sum()


# Drawing


def simulated(n: int, seed: int, shortest: int = 40, longest: int = 160) -> list[ProteinRecord]:
    """`n` chains of lengths drawn evenly from `shortest` to `longest`, with their states."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, n)
    states = _states(n, longest, rng)
    letters = _drawn(chain().letters, states, rng)
    return [
        ProteinRecord(
            name=f"simulated_{seed}_{i}",
            sequence="".join(AMINO_ACIDS[letter] for letter in letters[i, :length]),
            source="simulated",
            ss3="".join(THREE_STATES[state] for state in states[i, :length]),
        )
        for i, length in enumerate(lengths.tolist())
    ]


def _states(n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """[n, length] states of `n` chains, segment by segment in all of them at once."""
    model, steps = chain(), np.arange(length)
    states, filled = np.zeros((n, length), dtype=np.int64), np.zeros((n, 1), dtype=np.int64)
    state = _drawn(model.begins[None], np.zeros(n, dtype=np.int64), rng)
    while (filled < length).any():
        end = filled + 1 + _drawn(model.durations, state, rng)[:, None]
        states = np.where((steps >= filled) & (steps < end), state[:, None], states)
        filled, state = end, _drawn(model.follows, state, rng)
    return states


def _drawn(probabilities: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each entry of `rows` a column, drawn from that row of `probabilities`."""
    below = probabilities.cumsum(1)[:, :-1]
    return (rng.random(rows.shape)[..., None] > below[rows]).sum(-1)


# What can be known


def posterior(records: list[ProteinRecord]) -> list[np.ndarray]:
    """[length, 3] for each record: the probability of H, E, C at each residue, given the whole sequence."""
    model, longest = chain(), max(len(record) for record in records)
    # A residue that is not seen says nothing: chains are filled up with such to a common length.
    seen = np.zeros((len(records), longest, 3))
    for row, record in zip(seen, records, strict=True):
        row[: len(record)] = np.log(model.letters[:, [AMINO_ACIDS.index(letter) for letter in record.sequence]].T)
    found = _marginals(seen, model)
    return [row[: len(record)] for row, record in zip(found, records, strict=True)]


def bayes_accuracy(records: list[ProteinRecord]) -> float:
    """Share of residues at which the most probable state is the true one: what no predictor exceeds on average."""
    hits = [
        np.array([THREE_STATES.index(state) for state in record.ss3 or ""]) == found.argmax(1)
        for record, found in zip(records, posterior(records), strict=True)
    ]
    return float(np.concatenate(hits).mean())


def _marginals(seen: np.ndarray, model: Chain) -> np.ndarray:
    """[n, length, 3] from logarithms of the letters' probabilities [n, length, 3]."""
    ends, total = _forward(seen, model)
    begins = _backward(seen, model)
    with np.errstate(divide="ignore"):
        follows = np.log(model.follows)
    entered = _log_matmul(ends[:, 1:-1], follows)  # a segment ended before residue 1 … length - 1
    entered = np.concatenate([np.broadcast_to(np.log(model.begins), seen[:, :1].shape), entered], 1)
    started = np.exp(entered + begins[:, :-1] - total[:, None, None])
    stopped = np.exp(ends[:, 1:-1] + _log_matmul(begins[:, 1:-1], follows.T) - total[:, None, None])
    change = started.copy()
    change[:, 1:] -= stopped
    found = change.cumsum(1).clip(0)
    return found / found.sum(-1, keepdims=True)


def _forward(seen: np.ndarray, model: Chain) -> tuple[np.ndarray, np.ndarray]:
    """[n, length + 1, 3] log-probability of residues 1 … t with a segment that ends at t, and [n] of all residues."""
    n, length, _ = seen.shape
    sums = np.concatenate([np.zeros((n, 1, 3)), seen.cumsum(1)], 1)
    with np.errstate(divide="ignore"):
        follows, durations, survival = np.log(model.follows), np.log(model.durations), np.log(_survival(model))
    ends = np.full((n, length + 1, 3), -np.inf)
    entered = np.full((n, length + 1, 3), -np.inf)
    entered[:, 0] = np.log(model.begins)
    for t in range(1, length + 1):
        d = np.arange(1, min(t, LONGEST) + 1)
        segments = (entered - sums)[:, t - d] + sums[:, t, None]  # [n, d, 3]
        ends[:, t] = _log_sum(segments + durations[:, d - 1].T, 1)
        entered[:, t] = _log_matmul(ends[:, t], follows)
    last = np.arange(1, min(length, LONGEST) + 1)
    segments = (entered - sums)[:, length - last] + sums[:, length, None] + survival[:, last - 1].T
    return ends, _log_sum(segments.reshape(n, -1), 1)


def _backward(seen: np.ndarray, model: Chain) -> np.ndarray:
    """[n, length + 1, 3] log-probability of residues t + 1 … length, given that a segment begins at t + 1."""
    n, length, _ = seen.shape
    sums = np.concatenate([np.zeros((n, 1, 3)), seen.cumsum(1)], 1)
    with np.errstate(divide="ignore"):
        onward, durations, survival = np.log(model.follows.T), np.log(model.durations), np.log(_survival(model))
    begins = np.zeros((n, length + 1, 3))
    left = np.zeros((n, length + 1, 3))  # given that a segment of this state ends at t
    for t in range(length - 1, -1, -1):
        d = np.arange(1, min(length - t - 1, LONGEST) + 1)
        whole = (left + sums)[:, t + d] - sums[:, t, None] + durations[:, d - 1].T
        if length - t <= LONGEST:  # or it goes on beyond the chain's end
            cut = (sums[:, length] - sums[:, t] + survival[:, length - t - 1])[:, None]
            whole = np.concatenate([whole, cut], 1)
        begins[:, t] = _log_sum(whole, 1)
        left[:, t] = _log_matmul(begins[:, t], onward)
    return begins


def _survival(model: Chain) -> np.ndarray:
    """[3, LONGEST]: probability of a segment of at least 1 … LONGEST residues."""
    return model.durations[:, ::-1].cumsum(1)[:, ::-1]


def _log_sum(x: np.ndarray, axis: int) -> np.ndarray:
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)


def _log_matmul(x: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """log Σ_k exp(x[..., k] + logs[k, j])"""
    return _log_sum(x[..., None] + logs, -2)
