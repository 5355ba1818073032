"""The discrete bottlenecks against closed forms and against every partition of eight symbols."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from isometry.information.bits import entropy, mutual_information
from isometry.information.deterministic_bottleneck import cost, deterministic_bottleneck
from isometry.information.discrete_bottleneck import Table, bottleneck_curve, first_critical_beta
from isometry.information.gaussian_bottleneck import gaussian_bottleneck
from scipy.optimize import brentq, minimize
from scipy.special import softmax

EXACT = 1e-10  # bits
OF_A_GRID = 1e-5  # bits, of a discretised Gaussian
FOUND = 1e-6  # bits, of an iteration
BETAS_OF_PARTITIONS = np.geomspace(1.1, 60, 15)


def joint_of(n_x: int, n_y: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return softmax(sharpness * rng.normal(size=n_x * n_y)).reshape(n_x, n_y)


def gaussian_table(correlation: float, n_points: int, reach: float = 6.0) -> np.ndarray:
    x = np.linspace(-reach, reach, n_points)
    exponent = (x[:, None] ** 2 - 2 * correlation * x[:, None] * x + x**2) / (2 * (1 - correlation**2))
    table = np.exp(-exponent)
    return table / table.sum()


def test_e4_discretised_gaussian_stands_on_the_closed_form_and_nothing_is_learnt_on_the_way() -> None:
    correlation = 0.8
    exact = gaussian_bottleneck(1.0, 1.0, [[correlation]])
    betas = np.geomspace(1.2, 8, 4)
    table = gaussian_table(correlation, 41)
    curve = bottleneck_curve(table, betas, n_restarts=0)
    assert (curve.relevance <= np.minimum(curve.rate, mutual_information(table))).all()  # data processing
    gap = exact.relevance_at(curve.rate) - curve.relevance
    assert np.abs(gap).max() < OF_A_GRID
    below = curve.lagrangian - [exact.point(b).rate - b * exact.point(b).relevance for b in betas]
    assert np.abs(below).max() < OF_A_GRID


def test_first_critical_beta_of_a_discretised_gaussian() -> None:
    assert first_critical_beta(gaussian_table(0.8, 101)) == pytest.approx(1 / 0.64, abs=1e-4)


@pytest.mark.parametrize("erased", [0.1, 0.5])
def test_erasure_gives_a_straight_line(erased: float) -> None:
    of_x = np.array([0.5, 0.3, 0.2])
    joint = of_x[:, None] * np.hstack([np.eye(3) * (1 - erased), np.full((3, 1), erased)])
    critical = 1 / (1 - erased)
    curve = bottleneck_curve(joint, critical * np.array([0.5, 0.9, 1.1, 2, 10]))
    np.testing.assert_allclose(curve.relevance, (1 - erased) * curve.rate, atol=FOUND)
    np.testing.assert_allclose(curve.rate, [0, 0, *[entropy(of_x)] * 3], atol=FOUND)


def test_binary_symmetric_table_follows_mrs_gerber() -> None:
    flips = 0.11
    joint = np.array([[1 - flips, flips], [flips, 1 - flips]]) / 2
    curve = bottleneck_curve(joint, np.linspace(1.8, 20, 12), n_restarts=2)

    def binary_entropy(p: float) -> float:
        return float(entropy([p, 1 - p]))

    for rate, relevance in zip(curve.rate, curve.relevance, strict=True):
        inner = brentq(lambda p, rate=rate: 1 - binary_entropy(p) - rate, 1e-15, 0.5)
        assert relevance == pytest.approx(1 - binary_entropy(inner * (1 - flips) + (1 - inner) * flips), abs=FOUND)


@pytest.mark.parametrize("beta", [1.5, 3.0, 8.0])
def test_no_encoder_found_by_brute_force_does_better(beta: float) -> None:
    table = Table(joint_of(4, 5, seed=1))

    def lagrangian(flat: np.ndarray) -> float:
        return float(table.lagrangian(softmax(flat.reshape(4, 4), axis=1), beta))

    rng = np.random.default_rng(0)
    best = min(minimize(lagrangian, start, method="BFGS").fun for start in 3 * rng.normal(size=(6, 16)))
    found = bottleneck_curve(joint_of(4, 5, seed=1), [beta], n_restarts=10).lagrangian[0]
    assert found <= best + FOUND


def test_the_curve_rises_bends_down_and_ends_at_the_whole_information() -> None:
    joint = joint_of(6, 7, seed=4)
    betas = np.geomspace(1.01, 500, 30)
    curve = bottleneck_curve(joint, betas)
    assert curve.is_converged.all()
    assert (np.diff(curve.rate) > -FOUND).all()
    assert (np.diff(curve.relevance) > -FOUND).all()
    apart = np.diff(curve.rate) > 1e-3
    slopes = np.diff(curve.relevance)[apart] / np.diff(curve.rate)[apart]
    assert (np.diff(slopes) < 1e-4).all()
    assert curve.relevance[-1] == pytest.approx(mutual_information(joint), abs=1e-3)
    assert (curve.relevance <= curve.rate + EXACT).all()  # data-processing inequality


def test_supporting_lines_bound_every_encoder_and_touch_the_curve() -> None:
    joint = joint_of(5, 6, seed=12)
    curve = bottleneck_curve(joint, np.geomspace(0.5, 100, 40), n_restarts=2)
    np.testing.assert_allclose(curve.relevance_at(curve.rate), curve.relevance, atol=FOUND)
    encoders = np.random.default_rng(0).dirichlet(np.full(5, 0.3), size=(500, 5))
    rate, relevance = Table(joint).information(encoders)
    assert (relevance <= curve.relevance_at(rate) + FOUND).all()


def test_self_consistency_holds_at_every_point() -> None:
    joint = joint_of(5, 5, seed=2)
    curve = bottleneck_curve(joint, [2, 6, 20])
    table = Table(joint)
    for beta, encoder in zip(curve.betas, curve.encoders, strict=True):
        np.testing.assert_allclose(np.exp(table.step(encoder, beta)), encoder, atol=1e-4)


def test_symbols_that_never_occur_change_nothing() -> None:
    joint = joint_of(4, 4, seed=3)
    wider = np.zeros((6, 5))
    wider[np.ix_([0, 2, 3, 5], [0, 1, 2, 4])] = joint
    one, other = bottleneck_curve(joint, [4.0], n_restarts=0), bottleneck_curve(wider, [4.0], n_restarts=0)
    assert one.lagrangian == pytest.approx(other.lagrangian, abs=EXACT)
    assert other.encoders.shape == (1, 6, 4)


def partitions(n: int) -> Iterator[list[int]]:
    """Every partition of n symbols as restricted growth strings."""

    def grown(prefix: list[int]) -> Iterator[list[int]]:
        if len(prefix) == n:
            yield prefix
        else:
            for state in range(max(prefix, default=-1) + 2):
                yield from grown([*prefix, state])

    return grown([])


def test_deterministic_bottleneck_finds_the_best_of_all_partitions() -> None:
    joint = joint_of(8, 6, seed=6, sharpness=1.5)
    every = np.array(list(partitions(8)))
    assert len(every) == 4140
    table = Table(joint)
    rate, relevance = table.information(np.eye(8)[every])
    for beta in BETAS_OF_PARTITIONS:
        found = deterministic_bottleneck(joint, beta, n_restarts=60)
        assert found.entropy - beta * found.relevance == pytest.approx((rate - beta * relevance).min(), abs=EXACT)


def test_cost_of_a_clustering_is_its_entropy_less_its_relevance() -> None:
    joint, states = joint_of(5, 4, seed=9), np.array([0, 1, 0, 2, 1])
    clustered = np.array([joint[states == t].sum(0) for t in range(3)])
    expected = entropy(clustered.sum(1)) - 3 * mutual_information(clustered)
    assert cost(Table(joint), states, 3.0, 5) == pytest.approx(float(expected), abs=EXACT)


def test_a_deterministic_encoder_never_beats_a_stochastic_one_on_its_own_terms() -> None:
    joint = joint_of(6, 5, seed=8)
    for beta in (2.0, 5.0, 15.0):
        hard = deterministic_bottleneck(joint, beta)
        soft = bottleneck_curve(joint, [beta], n_restarts=8).lagrangian[0]
        assert soft <= hard.entropy - beta * hard.relevance + FOUND


@pytest.mark.parametrize(
    ("joint", "betas", "says"),
    [
        ([[0.5, 0.6]], [2], "must sum to 1"),
        ([[0.5, -0.5], [0.5, 0.5]], [2], "probabilities ≥ 0"),
        ([[0.5, 0.5]], [-1], "betas must be finite and ≥ 0"),
        (np.full((2, 2, 2), 1 / 8), [1], r"needs a table \[n_x, n_y\]"),
    ],
)
def test_a_wrong_table_is_named(joint: list, betas: list, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bottleneck_curve(joint, betas)
