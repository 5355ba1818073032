"""The part of a dependence that correlations show: exact where X and Y are monotone images of Gaussian variables.

Every coordinate is replaced by the normal scores of its ranks, so that no increasing map of a coordinate changes
anything. The rest is canonical correlation: directions a·X and b·Y, each pair independent of the other pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, ndtri
from scipy.stats import chi2, rankdata

from isometry.information.bits import Array

SMALLEST_VARIANCE = 1e-9  # relative to the largest: below, a direction is a combination of others
LARGEST_CORRELATION = 1 - 1e-9
SIGNIFICANT = 1e-3  # chance at which a correlation that is none is taken for one


def normal_scores(values: Array) -> Array:
    """[n, n_coordinates] each coordinate's ranks as quantiles of the normal, of variance 1; ties share a mean rank.

    A constant gives zeros.
    """
    scores = ndtri((rankdata(values, axis=0) - 0.5) / len(values))
    spread = scores.std(0)
    return (scores - scores.mean(0)) / np.where(spread > 0, spread, 1)


@dataclass(frozen=True)
class CanonicalCorrelation:
    """Pairs of directions, made by `canonical_correlation`."""

    of_x: Array
    """[n_x, n_directions_x]: X @ of_x has independent components of variance 1."""
    of_y: Array
    """[n_y, n_directions_y]"""
    correlations: Array
    """[min(n_directions)] descending"""
    n_samples: int

    @property
    def n_significant(self) -> int:
        """How many correlations are above chance, by Bartlett's sequential test."""
        n_x, n_y = self.of_x.shape[1], self.of_y.shape[1]
        scale = self.n_samples - 1 - (n_x + n_y + 1) / 2
        for i in range(len(self.correlations)):
            statistic = -scale * np.log1p(-(self.correlations[i:] ** 2)).sum()
            if chi2.sf(statistic, (n_x - i) * (n_y - i)) > SIGNIFICANT:
                return i
        return len(self.correlations)

    @property
    def nats(self) -> float:
        """I(X; Y) of Gaussian variables, right on average: what chance adds to log-determinants is taken off."""
        n_x, n_y = self.of_x.shape[1], self.of_y.shape[1]
        chance = sum(map(self._log_determinant, (n_x, n_y))) - self._log_determinant(n_x + n_y)
        return float(-np.log1p(-(self.correlations**2)).sum() - chance) / 2

    @property
    def chance(self) -> float:
        """Standard deviation, in nats, of what the correlations that are none add by chance."""
        n_free = np.prod([side.shape[1] - self.n_significant for side in (self.of_x, self.of_y)])
        return float(np.sqrt(2 * n_free) / (2 * self.n_samples))

    def _log_determinant(self, n: int) -> float:
        """E log |S| - log |Σ| of the covariance of n Gaussian coordinates. Goodman 1963."""
        return float(digamma((self.n_samples - np.arange(1, n + 1)) / 2).sum() - n * np.log(self.n_samples / 2))


def canonical_correlation(x: Array, y: Array) -> CanonicalCorrelation:
    """Of columns of mean 0; directions that others determine are dropped.

    Raises:
        ValueError: y tells a combination of x exactly.
    """
    root_x, root_y = _whitening(x), _whitening(y)
    u, correlations, v = np.linalg.svd((x @ root_x).T @ (y @ root_y) / len(x))
    if correlations[0] > LARGEST_CORRELATION:
        raise ValueError(
            "a combination of x tells a combination of y exactly, so that their information is infinite; "
            "leave out what both hold, or add the noise of measurement"
        )
    return CanonicalCorrelation(root_x @ u, root_y @ v.T, correlations, len(x))


def _whitening(values: Array) -> Array:
    variances, directions = np.linalg.eigh(values.T @ values / len(values))
    kept = variances > SMALLEST_VARIANCE * variances[-1]
    return directions[:, kept] / np.sqrt(variances[kept])
