"""The decoders that are tried side by side, and their mixture weighted by what each said of samples it had not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from isometry.information.bits import Array
from isometry.information.decoder_folds import Folds
from isometry.information.sampled_channel import log_mean
from isometry.information.standard_outputs import MOST_DIRECTIONS, Outputs

MEMBERS = ("common Gaussian", "own Gaussian", "logistic", "network")
OF_MANY = ("own Gaussian, leading directions", "network, principal directions")
"""Besides, where outputs have more columns than whitening keeps directions, as long time courses have. Of fewer they
cost 0.007 bits where a common Gaussian is right (`channels.time_course`, 100 samples of each input)."""
LEADING = 16  # directions
N_MIXED = 200  # steps
LEAST = 1e-6  # of a probability: no sample may rule an input out

Say = Callable[[int, int, np.ndarray], Array]


class Answers(NamedTuple):
    """log q(input | output) of one kind of decoder, by outer fold; nats."""

    unseen: list[Array]
    """[n not in fold k, n_inputs], each row by the one decoder that did not learn from it."""
    scored: list[Array]
    """[n in fold k, n_inputs], by the mean of the fold's decoders."""


def kinds_for(outputs: Outputs) -> tuple[str, ...]:
    """The decoders worth asking."""
    return MEMBERS + OF_MANY if outputs.plain.shape[1] > MOST_DIRECTIONS else MEMBERS


def answers(kind: str, inputs: np.ndarray, outputs: Outputs, folds: Folds, steps: int, seed: int) -> Answers:
    """What decoders of a kind, one of MEMBERS or OF_MANY, say of every sample."""
    if kind == "logistic" or kind.startswith("network"):
        say = _nets(kind, inputs, outputs, folds, steps, seed)
    else:
        say = _gaussians(kind, inputs, outputs.leading(LEADING) if kind in OF_MANY else outputs, folds)
    unseen, scored = [], []
    for k in range(folds.n_outer):
        others, own = np.flatnonzero(folds.outer != k), np.flatnonzero(folds.outer == k)
        logs = np.empty((len(others), int(inputs.max()) + 1))
        for m in range(folds.n_inner):
            rows = folds.chosen_on(k, m)
            logs[np.searchsorted(others, rows)] = say(k, m, rows)
        unseen.append(logs)
        scored.append(log_mean(np.stack([say(k, m, own) for m in range(folds.n_inner)])))
    return Answers(unseen, scored)


def mixed(members: Sequence[Answers], inputs: np.ndarray, folds: Folds) -> tuple[Answers, Array]:
    """The mixture of several kinds and of the bare frequencies of inputs; weights [n_outer, n_members + 1].

    The weights have the largest likelihood on samples outside the fold that is scored, found by expectation
    maximisation; the last is that of the frequencies, which is all that is left where outputs say nothing.
    """
    unseen, scored, weights = [], [], []
    for k in range(folds.n_outer):
        others = np.flatnonzero(folds.outer != k)
        base = np.log(np.bincount(inputs[others], minlength=int(inputs.max()) + 1) / len(others))
        parts = np.stack([*(member.unseen[k] for member in members), np.broadcast_to(base, members[0].unseen[k].shape)])
        w = _mixture_weights(parts[:, np.arange(len(others)), inputs[others]])
        there = np.stack([*(member.scored[k] for member in members), np.broadcast_to(base, members[0].scored[k].shape)])
        unseen.append(_pooled(parts, w))
        scored.append(_pooled(there, w))
        weights.append(w)
    return Answers(unseen, scored), np.array(weights)


def _mixture_weights(logs: Array) -> Array:
    """[n_members] from the log probability of the truth [n_members, n]."""
    p = np.exp(logs - logs.max(axis=0))
    weights = np.full(len(p), 1 / len(p))
    for _ in range(N_MIXED):
        shares = weights[:, None] * p
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return weights


def _pooled(logs: Array, weights: Array) -> Array:
    return np.log(np.tensordot(weights, np.exp(logs), axes=1) + 1e-300)


def _floored(logs: Array) -> Array:
    return np.log((1 - LEAST) * np.exp(logs) + LEAST / logs.shape[1])


def _gaussians(kind: str, inputs: np.ndarray, outputs: Outputs, folds: Folds) -> Say:
    from isometry.information.gaussian_decoder import GaussianDecoder

    n_inputs = int(inputs.max()) + 1
    forms = [np.hstack([form, outputs.missing]) for form in (outputs.plain, outputs.scores)]
    found = {}
    for k, m in folds.pairs():
        rows = folds.train(k, m)
        base = np.log(np.bincount(inputs[rows], minlength=n_inputs) / len(rows))
        decoders = [GaussianDecoder(form[rows], inputs[rows], n_inputs, kind.startswith("own")) for form in forms]
        found[k, m] = decoders, base

    def say(k: int, m: int, rows: np.ndarray) -> Array:
        decoders, base = found[k, m]
        both = zip(decoders, forms, strict=True)
        logs = [log_softmax(decoder.log_likelihoods(form[rows]) + base, axis=1) for decoder, form in both]
        return _floored(log_mean(np.stack(logs)))

    return say


def _nets(kind: str, inputs: np.ndarray, outputs: Outputs, folds: Folds, steps: int, seed: int) -> Say:
    import torch

    from isometry.information.decoder_nets import NetSettings, train_nets

    form = outputs.principal if kind in OF_MANY else outputs.whitened
    features = torch.from_numpy(np.ascontiguousarray(form, dtype=np.float32))
    settings = NetSettings(n_steps=steps)
    if kind == "logistic":
        settings = NetSettings(hidden=(), rate=2e-2, n_steps=steps, decay=1e-3)
    pairs = list(folds.pairs())
    nets = train_nets(
        features,
        torch.from_numpy(inputs),
        int(inputs.max()) + 1,
        [folds.train(k, m) for k, m in pairs],
        [folds.chosen_on(k, m) for k, m in pairs],
        settings,
        seed,
    )

    def say(k: int, m: int, rows: np.ndarray) -> Array:
        return _floored(nets.log_probabilities(features[torch.from_numpy(rows)], pairs.index((k, m))))

    return say
