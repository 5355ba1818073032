"""The jointly Gaussian bottleneck against brute-force minimisation, the paper's formulas and errors by name."""

from __future__ import annotations

import numpy as np
import pytest
from isometry.information.gaussian_bottleneck import GaussianBottleneck, gaussian_bottleneck
from scipy.optimize import minimize

EXACT = 1e-10  # bits: two closed forms of one quantity
FOUND = 1e-6  # bits: a numerical minimiser against the closed form
SLIGHTLY = 1e-7  # relative step away from a critical β


def covariances(n_x: int, n_y: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mixing = np.random.default_rng(seed).normal(size=(n_x + n_y, n_x + n_y + 2))
    joint = mixing @ mixing.T / (n_x + n_y)
    return joint[:n_x, :n_x], joint[n_x:, n_x:], joint[:n_x, n_x:]


def solved(n_x: int, n_y: int, seed: int = 0) -> GaussianBottleneck:
    return gaussian_bottleneck(*covariances(n_x, n_y, seed))


@pytest.mark.parametrize(("n_x", "n_y"), [(1, 1), (2, 3), (4, 2), (5, 5)])
def test_eigenvalues_are_those_of_the_paper(n_x: int, n_y: int) -> None:
    sigma_x, sigma_y, cross = covariances(n_x, n_y)
    given_y = sigma_x - cross @ np.linalg.solve(sigma_y, cross.T)
    expected = np.sort(np.linalg.eigvals(given_y @ np.linalg.inv(sigma_x)).real)
    bottleneck = solved(n_x, n_y)
    np.testing.assert_allclose(bottleneck.eigenvalues, expected, atol=EXACT)
    left = bottleneck.directions @ given_y @ np.linalg.inv(sigma_x)
    np.testing.assert_allclose(left, bottleneck.eigenvalues[:, None] * bottleneck.directions, atol=1e-9)


@pytest.mark.parametrize("beta", [1.2, 2.0, 5.0, 40.0])
@pytest.mark.parametrize(("n_x", "n_y"), [(2, 2), (3, 2)])
def test_no_linear_encoder_found_by_brute_force_does_better(n_x: int, n_y: int, beta: float) -> None:
    bottleneck = solved(n_x, n_y, seed=3)

    def lagrangian(flat: np.ndarray) -> float:
        rate, relevance = bottleneck.point_of(flat.reshape(n_x, n_x))
        return rate - beta * relevance

    rng = np.random.default_rng(1)
    starts = rng.normal(size=(6, n_x * n_x)) * 2
    best = min(minimize(lagrangian, start, method="BFGS", options={"gtol": 1e-9}).fun for start in starts)
    rate, relevance = bottleneck.point(beta)
    assert rate - beta * relevance == pytest.approx(best, abs=FOUND)


@pytest.mark.parametrize("beta", [1.5, 3.0, 10.0, 1e3])
def test_projection_stands_where_the_curve_says(beta: float) -> None:
    bottleneck = solved(4, 4, seed=5)
    assert bottleneck.point_of(bottleneck.projection(beta)) == pytest.approx(bottleneck.point(beta), abs=EXACT)


def test_point_of_a_projection_is_the_determinant_formula() -> None:
    sigma_x, sigma_y, cross = covariances(3, 2)
    projection = np.random.default_rng(2).normal(size=(2, 3))
    of_t = projection @ sigma_x @ projection.T + np.eye(2)
    given_y = projection @ (sigma_x - cross @ np.linalg.solve(sigma_y, cross.T)) @ projection.T + np.eye(2)
    rate = np.log2(np.linalg.det(of_t)) / 2
    relevance = rate - np.log2(np.linalg.det(given_y)) / 2
    assert solved(3, 2).point_of(projection) == pytest.approx((rate, relevance), abs=EXACT)


def test_a_direction_is_taken_up_at_its_critical_beta_and_the_curve_is_continuous_there() -> None:
    bottleneck = solved(4, 4, seed=7)
    for n, critical in enumerate(bottleneck.critical_betas):
        assert bottleneck.n_active(critical * (1 - SLIGHTLY)) == n
        assert bottleneck.n_active(critical * (1 + SLIGHTLY)) == n + 1
        below, above = bottleneck.curve([critical * (1 - SLIGHTLY), critical * (1 + SLIGHTLY)])
        np.testing.assert_allclose(below, above, atol=1e-5)


def test_relevance_at_a_rate_is_the_curve_and_its_slope_is_one_over_beta() -> None:
    bottleneck = solved(3, 5, seed=11)
    betas = np.geomspace(bottleneck.critical_betas[0] * 1.01, 1e4, 60)
    rate, relevance = bottleneck.curve(betas).T
    np.testing.assert_allclose(bottleneck.relevance_at(rate), relevance, atol=EXACT)
    step = 1e-5
    slope = (bottleneck.relevance_at(rate + step) - bottleneck.relevance_at(rate)) / step
    np.testing.assert_allclose(slope, 1 / betas, rtol=1e-3)
    assert bottleneck.relevance_at(0.0) == 0
    assert bottleneck.relevance_at(200.0) == pytest.approx(bottleneck.information, abs=EXACT)


def test_one_dimension_is_the_correlation() -> None:
    correlation, rate = 0.8, np.linspace(0, 6, 13)
    bottleneck = gaussian_bottleneck(2.0, 5.0, correlation * np.sqrt([[10.0]]))
    expected = -np.log2(1 - correlation**2 * (1 - 2 ** (-2 * rate))) / 2
    np.testing.assert_allclose(bottleneck.relevance_at(rate), expected, atol=EXACT)
    assert bottleneck.critical_betas == pytest.approx([1 / correlation**2])


def test_the_solution_does_not_depend_on_the_basis() -> None:
    sigma_x, sigma_y, cross = covariances(3, 3)
    turned = np.random.default_rng(4).normal(size=(3, 3)) + 3 * np.eye(3)
    other = gaussian_bottleneck(turned @ sigma_x @ turned.T, sigma_y, turned @ cross)
    np.testing.assert_allclose(other.curve([2, 9, 80]), solved(3, 3).curve([2, 9, 80]), atol=EXACT)


@pytest.mark.parametrize(
    ("sigma_x", "sigma_y", "cross", "says"),
    [
        ([[1, 1], [1, 1]], [[1]], [[0.1], [0.1]], "Σ_x is degenerate: variance .* along"),
        ([[1]], [[1, 0], [0, 0]], [[0.1, 0]], "Σ_y is degenerate"),
        ([[1]], [[1]], [[1]], "Y tells a direction of X exactly"),
        ([[1]], [[1]], [[1.5]], "Σ_xy does not fit"),
        ([[1, 0.2], [0.1, 1]], [[1]], [[0], [0]], "Σ_x must be symmetric"),
        ([[1]], [[1]], [[0.1, 0.1]], r"Σ_xy must have shape \(1, 1\)"),
        ([[np.nan]], [[1]], [[0.1]], "Σ_x must be finite"),
    ],
)
def test_a_degenerate_covariance_is_named(sigma_x: list, sigma_y: list, cross: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        gaussian_bottleneck(sigma_x, sigma_y, cross)
