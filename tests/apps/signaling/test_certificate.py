"""Certificates: bounds that hold with the confidence they state, and controls that take noise out and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from isometry_signaling.certificate import certify, estimate, without_controls

N_REPEATS = 400
STANDARD_ERRORS = 4.5


def test_bounds_fail_as_seldom_as_they_say() -> None:
    rng = np.random.default_rng(0)
    failures = 0
    for _ in range(N_REPEATS):
        values = rng.exponential(size=(2, 400))  # mean 1, skewed
        found = certify(values[0], values[1], np.ones(400), np.zeros(400, dtype=int), confidence=0.9)
        failures += found.rate_upper < 1 or found.relevance_lower > 1
    assert failures / N_REPEATS < 0.1 + STANDARD_ERRORS * (0.1 * 0.9 / N_REPEATS) ** 0.5


def test_more_points_together_are_bounded_more_carefully() -> None:
    rng = np.random.default_rng(1)
    options = (rng.normal(size=500) + 3, rng.normal(size=500) + 2, np.ones(500), np.zeros(500, dtype=int))
    one, many = certify(*options), certify(*options, n_points=30)
    assert many.rate_upper > one.rate_upper > one.rate
    assert many.relevance_lower < one.relevance_lower < one.relevance


def test_strata_of_known_weight_take_their_differences_out_of_the_error() -> None:
    rng = np.random.default_rng(2)
    stratum = np.repeat([0, 1, 2], [100, 300, 50])
    values = np.array([0.0, 10.0, 20.0])[stratum] + rng.normal(size=450)
    weight = (np.array([0.5, 0.3, 0.2]) / [100, 300, 50])[stratum]
    found = estimate(values, weight, stratum)
    assert abs(found.mean - 7) < STANDARD_ERRORS * found.error
    assert found.error == pytest.approx((0.25 / 100 + 0.09 / 300 + 0.04 / 50) ** 0.5, rel=0.2)


def test_a_stratum_of_one_cell_certifies_nothing() -> None:
    found = certify(np.ones(3), np.ones(3), np.ones(3), np.array([0, 0, 1]))
    assert (found.rate_upper, found.relevance_lower) == (np.inf, 0)


def test_controls_leave_the_mean_and_take_the_noise() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(4000, 2))
    controls = np.column_stack([z, z**2 - 1])
    values = 5 + z @ [2.0, -1.0] + 3 * (z[:, 0] ** 2 - 1)
    np.testing.assert_allclose(without_controls(values, controls), 5, atol=1e-9)
    rest = rng.normal(size=4000) * 0.1
    found = estimate(values + rest, np.ones(4000), np.zeros(4000, dtype=int), controls)
    assert found.error == pytest.approx(0.1 / 4000**0.5, rel=0.1)
    assert abs(found.mean - 5) < STANDARD_ERRORS * found.error
