"""The information bottleneck of jointly Gaussian variables, in closed form.

Minimise I(T; X) - β I(T; Y) over all encoders T of X. The optimum is T = A(β) X + ξ with ξ ~ N(0, 1): at every critical
β one more direction of X is taken up. The directions are those of canonical correlation: with whitened X and Y and
canonical correlations ρ, the eigenvalues of Σ_{x|y} Σ_x⁻¹ are λ = 1 - ρ².

Source: Chechik, Globerson, Tishby and Weiss 2005, JMLR 6:165; optimality over all encoders: Globerson and Tishby 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cholesky, solve_triangular

from isometry.information.bits import Array

SYMMETRIC = 1e-9  # relative
SMALLEST_EIGENVALUE = 1e-12  # relative to the largest: below, a direction is a combination of others
SMALLEST_REST = 1e-12  # 1 - ρ²: below, Y tells a direction of X exactly


class Point(NamedTuple):
    """A place on the information plane, in bits."""

    rate: float
    """I(T; X)"""
    relevance: float
    """I(T; Y)"""


@dataclass(frozen=True)
class GaussianBottleneck:
    """The exact solution for one pair (X, Y); made by `gaussian_bottleneck`."""

    eigenvalues: Array
    """[n_x] of Σ_{x|y} Σ_x⁻¹, ascending, in (0, 1]; 1: Y knows nothing of the direction."""
    directions: Array
    """[n_x, n_x] left eigenvectors as rows, scaled to unit variance of X: v Σ_x vᵀ = 1."""

    @property
    def critical_betas(self) -> Array:
        """[n_x] ascending: where the next direction is taken up, 1 / (1 - λ); inf: never."""
        with np.errstate(divide="ignore"):
            return 1 / (1 - self.eigenvalues)

    @property
    def information(self) -> float:
        """I(X; Y): the relevance that β → inf tends to."""
        return float(-np.log2(self.eigenvalues).sum() / 2)

    def projection(self, beta: float) -> Array:
        """[n_active, n_x]: A(β) of T = A X + ξ, ξ ~ N(0, 1) per component. Chechik et al. 2005, theorem 3.1."""
        n = self.n_active(beta)
        eigenvalues = self.eigenvalues[:n]
        weights = np.sqrt((beta * (1 - eigenvalues) - 1) / eigenvalues)
        return weights[:, None] * self.directions[:n]

    def n_active(self, beta: float) -> int:
        """How many directions T keeps at β."""
        return int((self.critical_betas < beta).sum())

    def point(self, beta: float) -> Point:
        """Where the optimum stands at β. Chechik et al. 2005, section 5."""
        eigenvalues = self.eigenvalues[: self.n_active(beta)]
        if not len(eigenvalues):
            return Point(0.0, 0.0)
        rate = np.log2((beta - 1) * (1 - eigenvalues) / eigenvalues).sum() / 2
        lost = np.log2(beta * (1 - eigenvalues)).sum() / 2
        return Point(float(rate), float(rate - lost))

    def curve(self, betas: ArrayLike) -> Array:
        """[n_betas, 2]: rate and relevance."""
        return np.array([self.point(float(beta)) for beta in np.ravel(betas)])

    def relevance_at(self, rate: ArrayLike) -> Array:
        """The largest I(T; Y) that any encoder with I(T; X) = rate can have; shape of `rate`.

        Chechik et al. 2005, section 5, with as many directions as the rate pays for.
        """
        given = np.asarray(rate, dtype=float)
        if (given < 0).any():
            raise ValueError(f"a rate is ≥ 0 bits, found {given.min()}")
        return np.vectorize(self._relevance_at, otypes=[float])(given)

    def _relevance_at(self, rate: float) -> float:
        critical = self.critical_betas[np.isfinite(self.critical_betas)]
        n = int((np.array([self.point(beta).rate for beta in critical]) < rate).sum())
        if n == 0:
            return 0.0
        eigenvalues = self.eigenvalues[:n]
        kept = np.log2(1 - eigenvalues).mean()
        spent = 2 * rate / n + np.log2(eigenvalues).mean()
        return float(rate - n / 2 * np.logaddexp2(kept, spent))

    def point_of(self, projection: ArrayLike) -> Point:
        """Where any linear encoder T = A X + ξ, ξ ~ N(0, 1), stands; projection: [n_t, n_x]."""
        whitened = np.linalg.solve(self.directions.T, np.atleast_2d(np.asarray(projection, dtype=float)).T).T
        n_t = len(whitened)
        of_x = np.linalg.slogdet(whitened @ whitened.T + np.eye(n_t))[1]
        given_y = np.linalg.slogdet(whitened * self.eigenvalues @ whitened.T + np.eye(n_t))[1]
        return Point(float(of_x / 2 / np.log(2)), float((of_x - given_y) / 2 / np.log(2)))


def gaussian_bottleneck(covariance_x: ArrayLike, covariance_y: ArrayLike, cross: ArrayLike) -> GaussianBottleneck:
    """Solve the bottleneck of jointly Gaussian X and Y.

    Args:
        covariance_x: [n_x, n_x] Σ_x.
        covariance_y: [n_y, n_y] Σ_y.
        cross: [n_x, n_y] Σ_xy.
    Raises:
        ValueError: shapes that do not fit; a singular Σ_x or Σ_y; Σ_xy larger than they allow; a direction of X that Y
            tells exactly (its information is infinite).
    """
    sigma_x, sigma_y = _covariance(covariance_x, "Σ_x"), _covariance(covariance_y, "Σ_y")
    sigma_xy = np.asarray(cross, dtype=float)
    if sigma_xy.shape != (len(sigma_x), len(sigma_y)):
        raise ValueError(f"Σ_xy must have shape {(len(sigma_x), len(sigma_y))}, found {sigma_xy.shape}")
    root_x, root_y = cholesky(sigma_x, lower=True), cholesky(sigma_y, lower=True)
    half = solve_triangular(root_x, sigma_xy, lower=True)
    whitened = solve_triangular(root_y, half.T, lower=True).T
    u, correlations, _ = np.linalg.svd(whitened)
    eigenvalues = np.ones(len(sigma_x))
    eigenvalues[: len(correlations)] = (1 - correlations) * (1 + correlations)
    _check_rest(eigenvalues, correlations)
    directions = solve_triangular(root_x, u, lower=True, trans=1).T
    return GaussianBottleneck(eigenvalues, directions)


def _covariance(given: ArrayLike, what: str) -> Array:
    matrix = np.atleast_2d(np.asarray(given, dtype=float))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{what} must be a square matrix, found shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{what} must be finite")
    if np.abs(matrix - matrix.T).max() > SYMMETRIC * np.abs(matrix).max():
        raise ValueError(f"{what} must be symmetric, found a difference of {np.abs(matrix - matrix.T).max():.3g}")
    eigenvalues, vectors = np.linalg.eigh(matrix)
    if eigenvalues[0] <= SMALLEST_EIGENVALUE * eigenvalues[-1]:
        direction = np.array2string(vectors[:, 0], precision=3, threshold=8)
        raise ValueError(
            f"{what} is degenerate: variance {eigenvalues[0]:.3g} along {direction}; "
            "leave out a component that the others determine, or add measurement noise to the diagonal"
        )
    return matrix


def _check_rest(eigenvalues: Array, correlations: Array) -> None:
    if eigenvalues.min() < -SMALLEST_REST:
        raise ValueError(
            f"Σ_xy does not fit Σ_x and Σ_y: a canonical correlation of {correlations.max():.6g}, expected below 1; "
            "estimate the three from the same records"
        )
    if eigenvalues.min() < SMALLEST_REST:
        raise ValueError(
            "Σ_{x|y} is degenerate: Y tells a direction of X exactly, so that I(X; Y) is infinite; "
            "add measurement noise to the diagonal of Σ_x or Σ_y"
        )
