"""Information and capacity from samples: the most that a cross-validated decoder proves, with an interval.

For each outer fold, decoders learn from the other folds; so are their mixture and the input distribution that maximises
the information chosen. Only then is the fold looked at. What is scored has therefore no part in what it is scored by:
for independent inputs and outputs the answer is 0 on average, and otherwise, on average over samples, at most the truth
(a lower bound, by as much as the decoder and the input distribution fall short of the best).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isometry.information.bits import Array
from isometry.information.decoder_folds import Folds, nested_folds
from isometry.information.decoder_members import Answers, answers, kinds_for, mixed
from isometry.information.resampled import Estimate, resampled
from isometry.information.sampled_channel import SampledChannel
from isometry.information.standard_outputs import standardised

LEAST_SAMPLES = 10  # of each input
N_FOLDS = 5
N_STEPS = (250, 600)  # of the networks' training: few samples, many
SAMPLES_PER_STEP = 12


@dataclass(frozen=True)
class Decoded:
    """What decoders proved of a channel; made by `decode`."""

    inputs: np.ndarray
    """[n_samples] 0 … n_inputs - 1"""
    log_ratios: Array
    """[n_samples, n_inputs] log q(x|y) / q(x) of decoders that had not seen the sample, nats."""
    outer: np.ndarray
    """[n_samples] the fold in which each was scored."""
    optima: Array
    """[n_folds, n_inputs] the input distribution each fold was scored at: found without it."""
    weights: dict[str, float]
    """Mean weight of each kind of decoder in the mixture."""
    alone: dict[str, tuple[float, float]]
    """Capacity and information at uniform inputs, bits, by each kind of decoder alone."""
    groups: np.ndarray | None = None
    """[n_samples] what was kept together and is resampled together; None: every sample by itself."""

    @property
    def n_inputs(self) -> int:
        return self.log_ratios.shape[1]

    @property
    def best_inputs(self) -> Array:
        """[n_inputs] the mean of the folds' optimum."""
        return self.optima.mean(axis=0)

    @property
    def frequencies(self) -> Array:
        """[n_inputs] the inputs as sampled."""
        return np.bincount(self.inputs, minlength=self.n_inputs) / len(self.inputs)

    @property
    def uniform(self) -> Array:
        return np.full(self.n_inputs, 1 / self.n_inputs)

    def capacity(self, n_resampled: int = 1000, seed: int = 0) -> Estimate:
        """Bits at the folds' own optimum inputs."""
        return self._estimate(self.optima, n_resampled, seed)

    def information(self, p: ArrayLike | None = None, n_resampled: int = 1000, seed: int = 0) -> Estimate:
        """Bits at inputs p [n_inputs]; uniform where not given."""
        given = self.uniform if p is None else np.asarray(p, dtype=float)
        return self._estimate(np.broadcast_to(given, self.optima.shape), n_resampled, seed)

    def confusion(self, p: ArrayLike | None = None) -> Array:
        """[n_inputs, n_inputs] mean probability that the decoder gives each input (column) where another was (row)."""
        weighted = np.exp(self.log_ratios) * (self.uniform if p is None else np.asarray(p, dtype=float))
        told = weighted / weighted.sum(axis=1, keepdims=True)
        total = np.zeros((self.n_inputs, self.n_inputs))
        np.add.at(total, self.inputs, told)
        return total / np.bincount(self.inputs, minlength=self.n_inputs)[:, None]

    def densities(self, by_fold: Array) -> Array:
        """[n_samples] bits that each sample gives about its input at its fold's inputs [n_folds, n_inputs]."""
        found = np.empty(len(self.inputs))
        for k, p in enumerate(by_fold):
            own = self.outer == k
            found[own] = SampledChannel(self.log_ratios[own], self.inputs[own]).densities(p)
        return found

    def _estimate(self, by_fold: Array, n_resampled: int, seed: int) -> Estimate:
        parts = self.densities(by_fold) * by_fold[self.outer, self.inputs]
        return resampled(parts, self.inputs, self.groups, n_resampled, seed)


def decode(
    inputs: ArrayLike,
    outputs: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    kinds: Sequence[str] | None = None,
    n_folds: int = N_FOLDS,
    n_steps: int | None = None,
    seed: int = 0,
) -> Decoded:
    """Learn to decode inputs from outputs, cross-fitted.

    Args:
        inputs: [n_samples] integers 0 … n_inputs - 1.
        outputs: [n_samples, n_columns] numbers, NaN where missing; a pattern of missing values is an output, too.
        groups: [n_samples] anything: samples of one group are never on both sides.
        kinds: of decoders, some of `decoder_members`; those that fit the number of columns where not given.
        n_folds: outer ones.
        n_steps: of the networks' training; by the number of samples where not given.
        seed: of folds, weights and batches: the same seed, the same answer.
    Raises:
        ValueError: fewer than two inputs; an input with fewer than LEAST_SAMPLES samples; an output that is constant or
            not finite; groups that cannot be parted.
    """
    x, y = np.asarray(inputs), np.asarray(outputs, dtype=float)
    _check(x, y)
    grouped = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    folds = nested_folds(x, grouped, n_folds, 5, rng)
    forms = standardised(y)
    steps = n_steps or min(max(len(x) // SAMPLES_PER_STEP, N_STEPS[0]), N_STEPS[1])
    kinds = kinds or kinds_for(forms)
    members = [answers(kind, x, forms, folds, steps, seed) for kind in kinds]
    alone = {}
    for kind, member in zip(kinds, members, strict=True):
        found = _scored(x, folds, member, {}, {}, grouped)
        alone[kind] = (found.capacity(0).value, found.information(n_resampled=0).value)
    mixture, weights = mixed(members, x, folds)
    shares = dict(zip((*kinds, "frequencies"), weights.mean(axis=0).tolist(), strict=True))
    return _scored(x, folds, mixture, shares, alone, grouped)


def _scored(
    inputs: np.ndarray, folds: Folds, said: Answers, weights: dict, alone: dict, groups: np.ndarray | None
) -> Decoded:
    n_inputs = said.scored[0].shape[1]
    ratios, optima = np.empty((len(inputs), n_inputs)), []
    for k in range(folds.n_outer):
        others = folds.outer != k
        base = np.log(np.bincount(inputs[others], minlength=n_inputs) / others.sum())
        ratios[~others] = said.scored[k] - base
        optima.append(SampledChannel(said.unseen[k] - base, inputs[others]).best_inputs())
    return Decoded(inputs, ratios, folds.outer, np.array(optima), weights, alone, groups)


def _check(inputs: np.ndarray, outputs: Array) -> None:
    if inputs.ndim != 1 or outputs.ndim != 2 or len(inputs) != len(outputs):
        raise ValueError(f"inputs [n] and outputs [n, d] must fit; found shapes {inputs.shape} and {outputs.shape}")
    if inputs.dtype.kind not in "iu" or len(inputs) == 0 or inputs.min() < 0:
        raise ValueError("inputs must be integers from 0 on: the place of each input in their list")
    counts = np.bincount(inputs)
    if len(counts) < 2:
        raise ValueError("one input only: information is about which of several inputs it was; two at least are needed")
    if counts.min() < LEAST_SAMPLES:
        raise ValueError(
            f"input {int(counts.argmin())} has {int(counts.min())} samples, expected {LEAST_SAMPLES} at least of each; "
            "leave it out, or measure more"
        )
    if np.isinf(outputs).any():
        raise ValueError(f"outputs must be finite (or NaN where missing), found {np.argwhere(np.isinf(outputs))[0]}")
    for column in range(outputs.shape[1]):
        known = outputs[~np.isnan(outputs[:, column]), column]
        if len(known) == 0 or (np.ptp(known) == 0 and len(known) == len(outputs)):
            raise ValueError(f"output column {column} is constant: it can tell nothing; leave it out")
