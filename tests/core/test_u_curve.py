"""What the U-curve promises: the minimum is found between the points, a side is named only beyond the uncertainty."""

import numpy as np
import pytest
from isometry.u_curve import is_strength, role_of, u_curve

THETAS = np.logspace(-4, 0, 9)


def parabola(centre, n_seeds=5, noise=0.0):
    rng = np.random.default_rng(0)
    x = np.log10(THETAS)[:, None] - centre - 0.2 * rng.normal(size=n_seeds) * (noise > 0)
    return 1 + x**2 + noise * rng.normal(size=(len(THETAS), n_seeds))


def test_the_bottom_of_a_parabola_is_found_between_the_points():
    curve = u_curve(THETAS, parabola(-1.8), parabola(-1.8), role="strength")
    assert np.log10(curve.minimum.theta) == pytest.approx(-1.8, abs=1e-6)
    assert curve.minimum.best == pytest.approx(10**-2)
    noisy = u_curve(THETAS, parabola(-1.8, noise=0.02), parabola(-1.8), role="strength")
    low, high = np.log10(noisy.minimum.interval)
    assert -2.2 < low < high < -1.4
    assert high - low > 0.05, "seeds that disagree leave an uncertainty"


def test_larger_scores_turn_the_curve_over():
    smaller = u_curve(THETAS, parabola(-2), parabola(-2), role="strength")
    larger = u_curve(THETAS, -parabola(-2), -parabola(-2), role="strength", better="larger")
    assert [p.side for p in smaller.points] == [p.side for p in larger.points]
    assert smaller.minimum == larger.minimum


def test_a_difference_within_its_uncertainty_is_flat():
    pattern = np.array([1.0, -1.0, 0.1])  # seeds that disagree on which point is the better one
    scores = 1 + 0.1 * np.array([pattern + 50, pattern, -pattern, pattern, 0 * pattern, -pattern])
    sides = [p.side for p in u_curve(THETAS[:6], scores, scores, role="strength").points]
    assert sides[0] == "overfitting side"
    assert sorted(set(sides[1:])) == ["flat", "minimum"]


def test_a_capacity_overfits_above_its_minimum_and_an_unknown_setting_is_not_judged():
    scores, falling = parabola(-2), -np.arange(9.0)[:, None] * np.ones(5)
    curve = u_curve(THETAS, scores, falling)
    assert curve.role == "capacity"
    assert [p.side for p in curve.points] == ["underfitting side"] * 4 + ["minimum"] + ["overfitting side"] * 4
    curve = u_curve(THETAS, scores, scores)
    assert curve.role == "unknown"
    assert [p.side for p in curve.points] == ["below the minimum"] * 4 + ["minimum"] + ["above the minimum"] * 4


def test_a_sure_difference_that_does_not_matter_is_flat():
    scatter = np.array([0.9, 1.0, 1.1])
    scores = scatter + np.array([[0], [1e-5], [0.5]])
    sides = [p.side for p in u_curve(THETAS[:3], scores, scores, role="strength").points]
    assert sides == ["minimum", "flat", "underfitting side"]


def test_a_point_beyond_a_worse_one_is_worse_too_however_its_seeds_scatter():
    scores = np.array([[1, 1, 1.0], [1.5, 1.51, 1.52], [1, 2, 9]])
    assert [p.side for p in u_curve(THETAS[:3], scores, scores, role="strength").points][1:] == [
        "underfitting side"
    ] * 2


def test_what_a_setting_does_is_told_by_its_name_or_by_the_training_score():
    assert all(map(is_strength, ("optim.decay", "model.dropout", "decay", "model.dropout_rate")))
    assert not any(map(is_strength, ("optim.rate", "model.width", "optim.schedule.decay")))
    assert role_of(np.array([1, 2, 3, 4.0])) == "strength"
    assert role_of(np.array([4, 3, 2, 1.0])) == "capacity"
    assert role_of(np.array([4, 1, 1.5, 4.0])) == role_of(np.ones(9)) == role_of(np.ones(2)) == "unknown"


def test_failed_runs_are_left_out_and_one_seed_has_no_uncertainty():
    scores = parabola(-2)
    scores[0], scores[3, 1:] = np.nan, np.nan
    curve = u_curve(THETAS, scores, scores, role="strength")
    assert [p.n_seeds for p in curve.points] == [5, 5, 1, 5, 5, 5, 5, 5]
    alone = u_curve(THETAS, parabola(-2)[:, :1], parabola(-2)[:, :1], role="strength")
    assert alone.minimum.interval is None
    assert alone.points[0].valid_error is None
    with pytest.raises(ValueError, match="no run"):
        u_curve(THETAS, scores * np.nan, scores)


def test_a_minimum_at_an_end_is_said_to_be_there():
    assert u_curve(THETAS, parabola(-6), parabola(-6)).minimum.end == "lower"
    assert u_curve(THETAS, parabola(3), parabola(3)).minimum.end == "upper"
