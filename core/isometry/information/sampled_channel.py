"""A channel known by samples and a decoder's word for each: information at any inputs, and the inputs that maximise it.

With w(x, y) = q(x|y) / q(x) of a decoder q, E log2 [w(x, y) / Σ p(x') w(x', y)] is at most I(p), the information at
inputs p, for any decoder (Barber and Agakov 2003), as long as neither q nor p saw the samples that it is averaged over.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from isometry.information.bits import NATS, Array

N_STEPS = 400
FLAT = 1e-6  # nats: what any one input could still gain
LEAST = 1e-12


class SampledChannel:
    """Samples of known input with log w [n_samples, n_inputs] (nats, up to a number per sample)."""

    def __init__(self, log_ratios: Array, inputs: np.ndarray):
        self.log_ratios = log_ratios - log_ratios.max(axis=1, keepdims=True)
        self.ratios = np.exp(self.log_ratios)
        self.inputs = inputs
        self.n_inputs = log_ratios.shape[1]
        self.counts = np.bincount(inputs, minlength=self.n_inputs)
        self.own = self.log_ratios[np.arange(len(inputs)), inputs]

    def densities(self, p: Array) -> Array:
        """[n_samples] log2 [w(x, y) / Σ p w]: bits that each sample gives about its input."""
        return (self.own - np.log(self.ratios @ p)) / NATS

    def divergences(self, p: Array) -> Array:
        """[n_inputs] mean density of the samples of each input, bits; 0 where it has none."""
        return _mean_by_input(self.densities(p), self.inputs, self.counts)

    def information(self, p: Array) -> float:
        """Bits at inputs p."""
        return float(p @ self.divergences(p))

    def best_inputs(self) -> Array:
        """p(x) of the largest `information`: Blahut and Arimoto's step, with the true slope where w is no likelihood.

        An input without samples gets probability 0.
        """
        p = (self.counts > 0) / (self.counts > 0).sum()
        share = np.divide(1.0, self.counts, out=np.zeros(self.n_inputs), where=self.counts > 0)[self.inputs]
        best, most, stride, last = p, -np.inf, 1.0, -np.inf
        for _ in range(N_STEPS):
            outputs = self.ratios @ p
            means = _mean_by_input(self.own - np.log(outputs), self.inputs, self.counts)
            slopes = means - (share * p[self.inputs] / outputs) @ self.ratios
            value = float(p @ means)
            if value > most:
                best, most = p, value
            stride, last = (min(stride * 1.2, 20.0), value) if value > last else (max(stride / 4, 0.2), value)
            steps = np.where(p > 0, slopes, -np.inf)
            if steps.max() - p @ slopes < FLAT:
                break
            p = p * np.exp(stride * (steps - steps.max()))
            p = np.where(self.counts > 0, np.maximum(p / p.sum(), LEAST), 0)
            p = p / p.sum()
        return best


def log_mean(logs: Array, axis: int = 0) -> Array:
    """log of the mean of exp."""
    return logsumexp(logs, axis=axis) - np.log(logs.shape[axis])


def _mean_by_input(values: Array, inputs: np.ndarray, counts: np.ndarray) -> Array:
    return np.bincount(inputs, values, minlength=len(counts)) / np.maximum(counts, 1)
