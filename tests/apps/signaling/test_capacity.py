"""Capacities against closed forms, brute force and published numbers; every certificate holds."""

from __future__ import annotations

import numpy as np
import pytest
from isometry.information.bits import entropy
from isometry.information.bounded_input import (
    amplitude_limited_gaussian,
    bounded_input_capacity,
    divergences,
    gaussian_rows,
)
from isometry.information.capacity import Channel, blahut_arimoto, capacity, capacity_cost_curve
from isometry.information.small_noise import fisher_capacity, small_noise_capacity, small_noise_inputs
from scipy.integrate import quad
from scipy.optimize import brentq, minimize
from scipy.stats import poisson

EXACT = 1e-10  # bits
PRINTED = 3e-5  # bits: numbers known to five decimals, from inputs on a grid
FOUND = 1e-7  # bits: of a general-purpose maximiser
OF_A_GRID = 2e-4  # bits: inputs on a grid


def symmetric(flips: float) -> np.ndarray:
    return np.array([[1 - flips, flips], [flips, 1 - flips]])


def binary_entropy(p: float) -> float:
    return float(entropy([p, 1 - p]))


def z_capacity(flips: float) -> float:
    return float(np.log2(1 + (1 - flips) * flips ** (flips / (1 - flips))))


def typewriter(n: int) -> np.ndarray:
    return (np.eye(n) + np.roll(np.eye(n), 1, axis=1)) / 2


@pytest.mark.parametrize(
    ("channel", "bits"),
    [
        (symmetric(0.11), 1 - binary_entropy(0.11)),
        ([[1, 0], [0.5, 0.5]], np.log2(5 / 4)),
        ([[1, 0], [0.3, 0.7]], z_capacity(0.3)),
        ([[0.75, 0, 0.25], [0, 0.75, 0.25]], 0.75),
        (typewriter(26), np.log2(13)),
        (np.eye(7), np.log2(7)),
        (np.full((3, 4), 0.25), 0.0),
        (np.vstack([symmetric(0.11), symmetric(0.11), [[0.5, 0.5]]]), 1 - binary_entropy(0.11)),
    ],
    ids=["symmetric", "Z 0.5", "Z 0.3", "erasure", "typewriter", "identity", "nothing", "redundant inputs"],
)
def test_known_capacities(channel: np.ndarray, bits: float) -> None:
    found = capacity(channel)
    assert found.bits == pytest.approx(bits, abs=EXACT)
    assert found.gap < EXACT
    assert found.inputs.sum() == pytest.approx(1)


def test_inverse_formula_of_square_channels() -> None:
    # Where all inputs are used: C = log2 Σ_y 2^{-Σ_x W⁻¹(y,x) H(x)} (Muroga 1953).
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = 0.6 * np.eye(4) + 0.4 * rng.dirichlet(np.ones(4), size=4)
        exact = np.log2(np.exp2(-np.linalg.solve(rows, entropy(rows, axis=1))).sum())
        found = capacity(rows)
        assert found.inputs.min() > 0
        assert found.bits == pytest.approx(exact, abs=EXACT)


@pytest.mark.parametrize("seed", range(6))
def test_random_channels_are_certified_and_brute_force_does_no_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(9, 0.4), size=12)
    found = capacity(rows)
    assert found.gap < EXACT
    channel = Channel(rows)

    def loss(p: np.ndarray) -> float:
        return -channel.information(np.abs(p) / np.abs(p).sum())

    brute = -minimize(loss, np.full(12, 1 / 12), method="SLSQP", bounds=[(0, 1)] * 12, options={"ftol": 1e-13}).fun
    assert brute <= found.upper + EXACT
    assert found.bits == pytest.approx(brute, abs=1e-4)


def test_blahut_arimoto_alone_closes_the_gap() -> None:
    channel = Channel(np.random.default_rng(2).dirichlet(np.ones(4), size=4))
    inputs, is_done = blahut_arimoto(channel, np.zeros(4), 1e-10, 20_000)
    assert is_done
    assert channel.information(inputs) == pytest.approx(capacity(channel.rows).bits, abs=EXACT)


@pytest.mark.parametrize("seed", range(8))
def test_more_inputs_than_outputs_and_near_copies_are_certified_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(3, 0.3), size=10)
    copies = rows[:3] * (1 - 1e-4) + 1e-4 / 3
    assert capacity(np.vstack([rows, copies])).gap < EXACT


def test_one_input_carries_nothing() -> None:
    assert capacity([[0.2, 0.8]]).bits == 0


def test_both_bounds_hold_at_any_inputs() -> None:
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(5), size=6)
    true, channel = capacity(rows).bits, Channel(rows)
    for inputs in rng.dirichlet(np.ones(6), size=20):
        assert channel.information(inputs) <= true + EXACT
        assert channel.divergences(inputs).max() >= true - EXACT


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_a_budget_on_ones_through_the_symmetric_channel(budget: float) -> None:
    flips, share = 0.1, min(budget, 0.5)
    found = capacity(symmetric(flips), cost=[0, 1], budget=budget)
    exact = binary_entropy(share * (1 - flips) + (1 - share) * flips) - binary_entropy(flips)
    assert found.bits == pytest.approx(exact, abs=EXACT)
    assert found.gap < EXACT
    assert found.cost <= budget + 1e-12


def test_a_budget_for_the_cheapest_inputs_only() -> None:
    rows = np.vstack([symmetric(0.2), [[0.5, 0.5]]])
    assert capacity(rows, cost=[1, 1, 5], budget=1.0).bits == pytest.approx(1 - binary_entropy(0.2), abs=EXACT)
    assert capacity(symmetric(0.2), cost=[1, 3], budget=1.0).bits == pytest.approx(0, abs=EXACT)


@pytest.mark.parametrize("power", [0.25, 1.0, 3.0])
def test_a_power_limit_gives_shannons_formula(power: float) -> None:
    inputs = np.linspace(-5, 5, 41) * np.sqrt(power)
    outputs = np.arange(inputs[0] - 7, inputs[-1] + 7, 0.2)
    rows = np.exp(-((outputs - inputs[:, None]) ** 2) / 2)
    found = capacity(rows / rows.sum(1, keepdims=True), cost=inputs**2, budget=power, tolerance=1e-6)
    assert found.bits == pytest.approx(np.log2(1 + power) / 2, abs=OF_A_GRID)


def test_the_capacity_cost_curve_rises_and_bends_down() -> None:
    rng = np.random.default_rng(3)
    rows, cost = rng.dirichlet(np.full(6, 0.3), size=5), np.array([0.0, 1, 2, 3, 4])
    curve = capacity_cost_curve(rows, cost, np.geomspace(2, 0.01, 15))
    costs, bits = np.array([point.cost for point in curve]), np.array([point.bits for point in curve])
    assert (np.diff(costs) > -1e-7).all()
    assert (np.diff(bits) > -1e-7).all()
    for point in curve:
        assert point.gap < EXACT
        assert capacity(rows, cost=cost, budget=point.cost).bits == pytest.approx(point.bits, abs=1e-9)


@pytest.mark.parametrize(
    ("amplitude", "bits"),
    [(0.5, 0.16075), (1, 0.48594), (1.5, 0.75998), (2, 0.94189), (3, 1.27152), (10, 2.53674)],
)
def test_amplitude_limited_gaussian(amplitude: float, bits: float) -> None:
    found = amplitude_limited_gaussian(amplitude)
    assert found.bits == pytest.approx(bits, abs=PRINTED)
    assert found.upper - found.bits < FOUND
    np.testing.assert_allclose(found.places, -found.places[::-1], atol=1e-3)

    def surprise(y: float) -> float:
        density = found.weights @ np.exp(-((y - found.places) ** 2) / 2) / np.sqrt(2 * np.pi)
        return -density * np.log2(density)

    outputs = quad(surprise, -amplitude - 12, amplitude + 12, epsabs=1e-12, limit=400)[0]
    assert found.bits == pytest.approx(outputs - np.log2(2 * np.pi * np.e) / 2, abs=1e-9)


@pytest.mark.parametrize("amplitude", [0.3, 1.0, 1.6])
def test_below_the_transition_it_is_two_points_at_the_bounds(amplitude: float) -> None:
    found = amplitude_limited_gaussian(amplitude)
    np.testing.assert_allclose(found.places, [-amplitude, amplitude], atol=1e-9)

    def integrand(y: float) -> float:
        return np.exp(-((y - amplitude) ** 2) / 2) / np.sqrt(2 * np.pi) * np.log2(1 + np.exp(-2 * amplitude * y))

    assert found.bits == pytest.approx(1 - quad(integrand, -12, 14, epsabs=1e-13)[0], abs=EXACT)


def test_a_third_point_appears_at_1_665_spreads() -> None:
    def middle_above_bounds(amplitude: float) -> float:
        rows = gaussian_rows(-amplitude, amplitude)
        outputs = rows(np.array([-amplitude, amplitude])).mean(0)
        middle, bound = divergences(rows(np.array([0.0, amplitude])), outputs)
        return middle - bound

    assert brentq(middle_above_bounds, 1.5, 1.8) == pytest.approx(1.665, abs=1e-3)
    assert len(amplitude_limited_gaussian(1.65).places) == 2
    assert len(amplitude_limited_gaussian(1.69).places) == 3


def poisson_rows(most: float) -> np.ndarray:
    counts = np.arange(int(most + 12 * np.sqrt(most) + 20))
    means = np.linspace(0, np.sqrt(most), 161) ** 2
    table = poisson.pmf(counts, means[:, None])
    return table / table.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("most", "bits", "off"), [(5, 1.0253, 0.91), (20, 1.6477, 0.53), (100, 2.5386, 0.26), (500, 3.5598, 0.12)]
)
def test_small_noise_formula_of_counts_and_how_far_it_is_off(most: float, bits: float, off: float) -> None:
    exact = capacity(poisson_rows(most), tolerance=1e-6).bits
    assert exact == pytest.approx(bits, abs=2e-4)
    means = np.linspace(1e-6, np.sqrt(most), 201) ** 2
    formula = small_noise_capacity(means, np.sqrt(means))
    assert formula == pytest.approx(np.log2(2 * most / (np.pi * np.e)) / 2, abs=5e-3)
    assert exact - formula == pytest.approx(off, abs=0.01)


def test_small_noise_formula_is_reached_as_the_noise_vanishes() -> None:
    # Additive noise, inputs in [0, 1]: C - log2(1 / (σ √(2πe))) falls to 0.
    off = []
    for spread in (0.3, 0.1, 0.03):
        inputs = np.linspace(0, 1, 2 * int(3 / spread) + 1)
        rows = gaussian_rows(0.0, 1.0, spread)(inputs)
        off.append(capacity(rows, tolerance=1e-5).bits - small_noise_capacity(inputs, np.full(len(inputs), spread)))
    assert off[0] > off[1] > off[2] > 0
    assert off[2] < 0.2


def test_small_noise_does_not_depend_on_the_inputs_scale_and_agrees_with_fisher() -> None:
    x = np.linspace(0.01, 2, 4001)
    mean, spread = x**2 / (1 + x**2), 0.01 + 0.02 * x
    slope = 2 * x / (1 + x**2) ** 2
    assert fisher_capacity((slope / spread) ** 2, x) == pytest.approx(small_noise_capacity(mean, spread), abs=1e-6)
    weights = small_noise_inputs(mean, spread)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        weights[1:-1], (slope / spread / np.trapezoid(slope / spread, x))[1:-1] * (x[1] - x[0]), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([[0.5, 0.4]], {}, r"must sum to 1, found 0.9 \(row 0\)"),
        ([[1.5, -0.5]], {}, "probabilities ≥ 0, found -0.5"),
        ([[np.nan, 1]], {}, "finite"),
        ([1.0], {}, r"a table \[n_inputs, n_outputs\]"),
        (np.eye(2), {"cost": [0, 1]}, "cost and budget belong together"),
        (np.eye(2), {"cost": [1, 2], "budget": 0.5}, "below the cheapest input"),
        (np.eye(2), {"cost": [1], "budget": 1}, "2 finite numbers"),
    ],
)
def test_a_wrong_channel_is_named(rows: list, options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        capacity(rows, **options)


def test_wrong_bounds_are_named() -> None:
    with pytest.raises(ValueError, match="low < high"):
        bounded_input_capacity(gaussian_rows(0, 1), 1.0, 1.0)
