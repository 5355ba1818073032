"""Jointly Gaussian ligand and environment, a vector or a time course, whose exact curve is known.

The environment is standard normal. A vector of ligands carries its values in fixed random mixtures of given canonical
correlations. A time course is the sum of two responses, one that lasts and one that passes, in noise that remembers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from isometry.information.gaussian_bottleneck import GaussianBottleneck, gaussian_bottleneck

Array = np.ndarray

MIXING_SEED = 0  # the mixture belongs to the question, not to a run
RISE, FALL = 0.15, 0.3  # of the course's length: how fast the lasting response comes, and how long the other stays
MEMORY = 0.1  # of the course's length: how long its noise remembers


class GaussianPair(NamedTuple):
    """X = mixing Y + noise; Y [n_values] standard normal."""

    mixing: Array
    """[n_x, n_values]"""
    noise: Array
    """[n_x, n_x] covariance of what X has beside Y."""

    @property
    def covariance(self) -> Array:
        """[n_x, n_x] of X."""
        return self.mixing @ self.mixing.T + self.noise

    @property
    def exact(self) -> GaussianBottleneck:
        return gaussian_bottleneck(self.covariance, np.eye(self.mixing.shape[1]), self.mixing)

    def sample(self, n: int, seed: int) -> tuple[Array, Array]:
        """X [n, n_x] and Y [n, n_values]."""
        rng = np.random.default_rng(seed)
        y = rng.standard_normal((n, self.mixing.shape[1]))
        return y @ self.mixing.T + rng.standard_normal((n, len(self.noise))) @ np.linalg.cholesky(self.noise).T, y

    def controls(self, x: Array, y: Array) -> Array:
        """[n, (n_x + n_values)(n_x + n_values + 3) / 2] first and second moments of (X, Y), less their known means."""
        root = np.linalg.cholesky(self.covariance)
        z = np.concatenate([np.linalg.solve(root, x.T).T, y], axis=1)
        whitened_cross = np.linalg.solve(root, self.mixing)
        expected = np.eye(z.shape[1])
        expected[: len(root), len(root) :] = whitened_cross
        expected[len(root) :, : len(root)] = whitened_cross.T
        i, j = np.triu_indices(z.shape[1])
        return np.concatenate([z, z[:, i] * z[:, j] - expected[i, j]], axis=1)


def vector_pair(correlations: tuple[float, ...], n_ligands: int) -> GaussianPair:
    """A vector of `n_ligands`, at least as many as there are canonical correlations; the others tell nothing."""
    n = len(correlations)
    if not n or n_ligands < n or not all(0 < abs(r) < 1 for r in correlations):
        raise ValueError(
            f"data.correlations are {correlations} for {n_ligands} ligands; expected numbers between 0 and 1, at most "
            "one for each ligand"
        )
    rng = np.random.default_rng(MIXING_SEED)
    mixed, turned = rng.standard_normal((n_ligands, n_ligands)), _rotation(n, rng)
    shared = np.zeros((n_ligands, n))
    shared[range(n), range(n)] = correlations
    rest = np.eye(n_ligands) - shared @ shared.T
    return GaussianPair(mixed @ shared @ turned, mixed @ rest @ mixed.T)


def course_pair(length: int, noise: float = 1.0) -> GaussianPair:
    """A time course of `length` moments, of one ligand."""
    if length < 2:
        raise ValueError(f"data.length is {length}; expected a time course of at least 2 moments")
    time = np.linspace(0, 1, length)
    lasting, passing = 1 - np.exp(-time / RISE), time / FALL * np.exp(1 - time / FALL)
    memory = np.exp(-np.abs(time[:, None] - time) / MEMORY)
    return GaussianPair(np.stack([lasting, passing], axis=1), noise**2 * (memory + 0.05 * np.eye(length)))


def points_like(x: Array, y: Array) -> tuple[Array, Array]:
    """The fewest points, equally often, with the mean and the covariance of the samples.

    Whatever is quadratic in (X, Y) has the mean over these that it has over the samples (cubature of degree 3).
    """
    both = np.concatenate([x, y], axis=1)
    mean, n = both.mean(0), both.shape[1]
    root = np.linalg.cholesky(np.cov(both.T, bias=True)) * np.sqrt(n)
    points = mean + np.concatenate([root.T, -root.T])
    return points[:, : x.shape[1]], points[:, x.shape[1] :]


def _rotation(n: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diagonal(r))
