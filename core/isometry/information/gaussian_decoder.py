"""Decoders in closed form: outputs as one Gaussian per input, with a common or an own covariance."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from isometry.information.bits import Array

RIDGE = 1e-4  # of a column's variance, added so that no direction is certain
OWN = 1.0  # samples per dimension at which a class's own covariance counts as much as the common one


class GaussianDecoder:
    """log p(y|input) of Gaussians fitted to samples.

    Args:
        outputs: [n, d].
        labels: [n] of 0 … n_classes - 1; each must occur.
        own_covariance: each input's own covariance, drawn to the common one where its samples are few (Friedman 1989),
            or the common one alone.
    """

    def __init__(self, outputs: Array, labels: np.ndarray, n_classes: int, own_covariance: bool):
        counts = np.bincount(labels, minlength=n_classes)
        self.means = np.stack([outputs[labels == x].mean(axis=0) for x in range(n_classes)])
        rest = outputs - self.means[labels]
        d = outputs.shape[1]
        common = _shrunk(rest.T @ rest / max(len(rest) - n_classes, 1), len(rest) - n_classes)
        common += RIDGE * np.diag(outputs.var(axis=0) + 1e-9)
        covariances = []
        for x in range(n_classes):
            trust = counts[x] / (counts[x] + OWN * d) if own_covariance else 0.0
            own = rest[labels == x]
            covariances.append((1 - trust) * common + trust * (own.T @ own / max(counts[x] - 1, 1)))
        self.roots = [np.linalg.cholesky(matrix + RIDGE * common) for matrix in covariances]

    def log_likelihoods(self, outputs: Array) -> Array:
        """[n, n_classes] nats, up to a constant."""
        columns = []
        for mean, root in zip(self.means, self.roots, strict=True):
            z = solve_triangular(root, (outputs - mean).T, lower=True)
            columns.append(-(z**2).sum(axis=0) / 2 - np.log(np.diag(root)).sum())
        return np.stack(columns, axis=1)


def _shrunk(covariance: Array, n: int) -> Array:
    """Towards a multiple of one, by as much as is expected to be best (Chen, Wiesel, Eldar and Hero 2010, eq. 23)."""
    d = len(covariance)
    trace, square = np.trace(covariance), (covariance**2).sum()
    above = (1 - 2 / d) * square + trace**2
    below = (n + 1 - 2 / d) * (square - trace**2 / d)
    share = 1.0 if below <= 0 else min(above / below, 1.0)
    return (1 - share) * covariance + share * trace / d * np.eye(d)
