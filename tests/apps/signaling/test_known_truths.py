"""Test channels and benchmark tasks have the information they say: quadrature, Monte Carlo, published values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from isometry.information import beyond_normal, channels
from isometry.information.beyond_normal import Task, tasks
from isometry.information.capacity import Channel, capacity
from scipy.integrate import quad
from scipy.spatial import cKDTree
from scipy.special import digamma
from scipy.stats import multivariate_normal, multivariate_t, norm
from scipy.stats import t as student

EXACT = 1e-9  # bits
STANDARD_ERRORS = 4.5
NEIGHBOURS = 0.06  # nats: of a nearest-neighbour estimate from 4,000 samples in up to three dimensions
KNOWN = channels.known_channels()
TASKS = tasks()

# Mutual information in nats as published, to one decimal: Czyż et al. 2023, figure 2.
PUBLISHED = {
    "Asinh @ St 1 × 1 (dof=1)": 0.2,
    "Asinh @ St 2 × 2 (dof=1)": 0.4,
    "Asinh @ St 3 × 3 (dof=2)": 0.3,
    "Asinh @ St 5 × 5 (dof=2)": 0.4,
    "Bimodal 1 × 1": 0.4,
    "Bivariate Nm 1 × 1": 0.4,
    "Hc @ Bivariate Nm 1 × 1": 0.4,
    "Hc @ Mn 25 × 25 (2-pair)": 1.0,
    "Hc @ Mn 3 × 3 (2-pair)": 1.0,
    "Hc @ Mn 5 × 5 (2-pair)": 1.0,
    "Mn 2 × 2 (2-pair)": 1.0,
    "Mn 2 × 2 (dense)": 0.3,
    "Mn 25 × 25 (2-pair)": 1.0,
    "Mn 25 × 25 (dense)": 1.3,
    "Mn 3 × 3 (2-pair)": 1.0,
    "Mn 3 × 3 (dense)": 0.4,
    "Mn 5 × 5 (2-pair)": 1.0,
    "Mn 5 × 5 (dense)": 0.6,
    "Mn 50 × 50 (dense)": 1.6,
    "Nm CDF @ Bivariate Nm 1 × 1": 0.4,
    "Nm CDF @ Mn 25 × 25 (2-pair)": 1.0,
    "Nm CDF @ Mn 3 × 3 (2-pair)": 1.0,
    "Nm CDF @ Mn 5 × 5 (2-pair)": 1.0,
    "Sp @ Mn 25 × 25 (2-pair)": 1.0,
    "Sp @ Mn 3 × 3 (2-pair)": 1.0,
    "Sp @ Mn 5 × 5 (2-pair)": 1.0,
    "Sp @ Nm CDF @ Mn 25 × 25 (2-pair)": 1.0,
    "Sp @ Nm CDF @ Mn 3 × 3 (2-pair)": 1.0,
    "Sp @ Nm CDF @ Mn 5 × 5 (2-pair)": 1.0,
    "St 1 × 1 (dof=1)": 0.2,
    "St 2 × 2 (dof=1)": 0.4,
    "St 2 × 2 (dof=2)": 0.2,
    "St 3 × 3 (dof=2)": 0.3,
    "St 3 × 3 (dof=3)": 0.2,
    "St 5 × 5 (dof=2)": 0.4,
    "St 5 × 5 (dof=3)": 0.3,
    "Uniform 1 × 1 (additive noise=0.1)": 1.7,
    "Uniform 1 × 1 (additive noise=0.75)": 0.3,
    "Wiggly @ Bivariate Nm 1 × 1": 0.4,
}


def log_densities(channel: channels.KnownChannel, responses: np.ndarray) -> np.ndarray:
    """[n_samples, n_inputs] by scipy's own densities, of the channels of `known_channels`."""
    y = responses[:, :1]
    if channel.name == "Gaussian":
        return norm.logpdf(y, [0.0, 1.0, 2.5, 4.0, 6.0])
    if channel.name == "Gaussian, growing noise":
        return norm.logpdf(y, [0.0, 1.0, 3.0, 6.0, 10.0], [0.4, 0.6, 1.0, 1.5, 2.0])
    if channel.name == "bimodal":
        apart = np.array([0.0, 1.5, 3.0, 5.0, 8.0])
        return np.logaddexp(norm.logpdf(y, -apart), norm.logpdf(y, apart)) - np.log(2)
    if channel.name == "heavy tail":
        return student.logpdf(y, 2.0, [0.0, 2.0, 5.0, 9.0, 14.0])
    lag = np.abs(np.subtract.outer(np.arange(20), np.arange(20)))
    means = channels.courses([0.0, 0.5, 1.0, 2.0, 4.0, 8.0], 20)
    return np.stack([multivariate_normal.logpdf(responses, mean, 0.25**2 * 0.9**lag) for mean in means], axis=1)


@pytest.mark.parametrize("channel", KNOWN, ids=lambda channel: channel.name)
def test_information_of_samples_is_that_of_the_quadrature(channel: channels.KnownChannel) -> None:
    inputs, responses = channel.sample(3000, seed=1)
    logs = log_densities(channel, responses)
    own = logs[np.arange(len(inputs)), inputs]
    told = (own - np.logaddexp.reduce(logs, axis=1) + np.log(channel.n_inputs)) / np.log(2)
    assert abs(told.mean() - channel.information()) < STANDARD_ERRORS * told.std() / np.sqrt(len(told))
    assert responses.shape == (len(inputs), channel.n_dimensions)


@pytest.mark.parametrize("channel", KNOWN, ids=lambda channel: channel.name)
def test_capacity_is_certified_and_above_uniform_inputs(channel: channels.KnownChannel) -> None:
    best = channel.capacity()
    assert best.gap < EXACT
    assert 0.8 < channel.information() <= best.bits < np.log2(channel.n_inputs)
    assert channel.information(best.inputs) == pytest.approx(best.bits, abs=EXACT)


def test_a_finer_grid_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = [channels.gaussian([0, 1, 4], [0.5, 1, 2]), channels.bimodal(), channels.correlated([[0], [1.5]], [[1]])]
    monkeypatch.setattr(channels, "PER_SPREAD", 2 * channels.PER_SPREAD)
    fine = [channels.gaussian([0, 1, 4], [0.5, 1, 2]), channels.bimodal(), channels.correlated([[0], [1.5]], [[1]])]
    for one, other in zip(coarse, fine, strict=True):
        assert one.capacity().bits == pytest.approx(other.capacity().bits, abs=EXACT)


def test_two_gaussians_carry_what_the_binary_input_channel_does() -> None:
    def integrand(y: float) -> float:
        return norm.pdf(y, 1.2) * np.log2(1 + np.exp(-2 * 1.2 * y))

    exact = 1 - quad(integrand, -12, 14, epsabs=1e-13)[0]
    assert channels.gaussian([-1.2, 1.2]).capacity().bits == pytest.approx(exact, abs=EXACT)
    assert channels.gaussian([0, 50, 100, 150]).capacity().bits == pytest.approx(2, abs=EXACT)


def test_heavy_tails_against_adaptive_quadrature() -> None:
    def integrand(y: float, place: float) -> float:
        densities = student.pdf(y - np.array([0.0, 3.0]), 2.0)
        return student.pdf(y - place, 2.0) * np.log2(2 * densities[int(place > 0)] / densities.sum()) / 2

    parts = [(-np.inf, -20), (-20, 1.5), (1.5, 23), (23, np.inf)]
    exact = sum(quad(integrand, *part, args=(place,), epsabs=1e-12)[0] for part in parts for place in (0.0, 3.0))
    assert channels.heavy_tailed([0.0, 3.0]).information() == pytest.approx(exact, abs=1e-8)


def test_the_mean_of_the_bimodal_channel_tells_nothing() -> None:
    inputs, responses = channels.bimodal().sample(4000, seed=3)
    for i in range(5):
        own = responses[inputs == i, 0]
        assert abs(own.mean()) < STANDARD_ERRORS * own.std() / np.sqrt(len(own))


def test_a_course_tells_as_much_after_any_mixing_of_its_times() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(4, 2)) @ rng.normal(size=(2, 7))
    mixing = rng.normal(size=(7, 7))
    one = channels.correlated(means, np.eye(7)).information()
    other = channels.correlated(means @ mixing.T, mixing @ mixing.T).information()
    assert one == pytest.approx(other, abs=1e-7)


def test_two_directions_that_do_not_mix_are_two_channels() -> None:
    means = np.array([[a, b] for a in (0.0, 2.0) for b in (0.0, 3.0)])
    both = channels.correlated(means, np.eye(2)).capacity().bits
    apart = sum(channels.gaussian([0, d]).capacity().bits for d in (2.0, 3.0))
    assert both == pytest.approx(apart, abs=1e-8)


def test_wrong_channels_are_named() -> None:
    with pytest.raises(ValueError, match="too far to integrate"):
        channels.time_course(spread=1e-6)
    with pytest.raises(ValueError, match="differ in 3 directions"):
        channels.correlated(np.eye(4)[:, :3] * 3, np.eye(3))
    with pytest.raises(ValueError, match="2 weights that sum to 1"):
        channels.mixture([[0, 1]], 1.0, [0.5, 0.6])


def test_there_are_the_forty_published_tasks_and_their_information() -> None:
    assert len(TASKS) == 40
    by_name = {task.name: task for task in TASKS}
    assert len(by_name) == 40
    assert set(PUBLISHED) <= set(by_name)
    for name, nats in PUBLISHED.items():
        assert abs(by_name[name].nats - nats) <= 0.0501, name


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_samples_have_the_shapes_they_say(task: Task) -> None:
    x, y = task.sample(50, seed=4)
    assert x.shape == (50, task.n_x)
    assert y.shape == (50, task.n_y)
    again = task.sample(50, seed=4)
    np.testing.assert_array_equal(x, again[0])
    np.testing.assert_array_equal(y, again[1])


@pytest.mark.parametrize(("n", "degrees"), [(1, 1), (2, 2), (5, 3)])
def test_student_information_is_the_mean_of_its_log_density_ratio(n: int, degrees: int) -> None:
    task = beyond_normal.student(n, degrees)
    x, y = task.sample(40_000, seed=5)
    one, both = multivariate_t(shape=np.eye(n), df=degrees), multivariate_t(shape=np.eye(2 * n), df=degrees)
    told = both.logpdf(np.hstack([x, y])) - one.logpdf(x) - one.logpdf(y)
    assert abs(told.mean() - task.nats) < STANDARD_ERRORS * told.std() / np.sqrt(len(told))


@pytest.mark.parametrize("width", [0.1, 0.4, 0.5, 0.75, 2.0])
def test_additive_information_is_the_entropy_of_the_sum_less_that_of_the_noise(width: float) -> None:
    def surprise(y: float) -> float:
        density = max(min(y + width, 1) - max(y - width, 0), 0) / (2 * width)
        return -density * np.log(density) if density > 0 else 0.0

    corners = sorted({-width, width, 1 - width, 1 + width})
    of_sum = sum(quad(surprise, a, b)[0] for a, b in pairwise(corners))
    assert beyond_normal.additive_noise(width).nats == pytest.approx(of_sum - np.log(2 * width), abs=1e-7)


def neighbour_estimate(x: np.ndarray, y: np.ndarray, k: int = 5) -> float:
    """Kraskov, Stögbauer and Grassberger 2004, first estimator, nats."""
    distance = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k + 1, p=np.inf)[0][:, -1]
    counts = [cKDTree(z).query_ball_point(z, distance - 1e-12, p=np.inf, return_length=True) for z in (x, y)]
    return float(digamma(k) + digamma(len(x)) - sum(digamma(count).mean() for count in counts))


@pytest.mark.parametrize(
    "task", [t for t in TASKS if t.n_x + t.n_y <= 3 and not t.name.startswith("St")], ids=lambda t: t.name
)
def test_nearest_neighbours_find_the_information_in_few_dimensions(task: Task) -> None:
    assert neighbour_estimate(*task.sample(4000, seed=6)) == pytest.approx(task.nats, abs=NEIGHBOURS)


def test_maps_are_one_to_one() -> None:
    z = np.linspace(-6, 6, 4001)
    for rising in (
        beyond_normal.half_cube,
        beyond_normal.wiggly_x,
        beyond_normal.wiggly_y,
        np.arcsinh,
        lambda z: beyond_normal.two_modes(z, 0.3, (0, 5)),
        lambda z: beyond_normal.two_modes(z, 0.5, (-1, 3)),
    ):
        assert (np.diff(rising(z)) > 0).all()
    turns = np.hypot(*beyond_normal.swiss_roll(np.linspace(0, 1, 500)[:, None]).T)
    assert (np.diff(turns) > 0).all()


def test_a_spiral_keeps_distances_from_the_middle_and_is_undone_by_turning_back() -> None:
    x = np.random.default_rng(7).normal(size=(100, 5))
    turned = beyond_normal.spiral(x, 1)
    np.testing.assert_allclose((turned**2).sum(1), (x**2).sum(1))
    np.testing.assert_array_equal(turned[:, [0, 3, 4]], x[:, [0, 3, 4]])
    angle = -(turned**2).sum(1) / 5
    back = np.cos(angle) * turned[:, 1] - np.sin(angle) * turned[:, 2]
    np.testing.assert_allclose(back, x[:, 1], atol=1e-12)


def test_two_modes_have_the_weights_and_places_they_are_given() -> None:
    z = np.random.default_rng(8).normal(size=50_000)
    image = beyond_normal.two_modes(z, 0.3, (0, 5))
    assert image.mean() == pytest.approx(3.5, abs=0.05)
    assert image.var() == pytest.approx(1 + 0.21 * 25, abs=0.1)
    expected = norm.cdf(2.0) * 0.3 + norm.cdf(-3.0) * 0.7
    assert beyond_normal.two_modes(norm.ppf([expected]), 0.3, (0, 5)) == pytest.approx([2.0], abs=1e-9)


def test_a_normal_task_is_the_sum_over_canonical_correlations() -> None:
    task = next(task for task in TASKS if task.name == "Mn 25 × 25 (2-pair)")
    assert task.nats == pytest.approx(-np.log(1 - 0.8**2), abs=1e-12)
    assert task.bits == pytest.approx(task.nats / np.log(2))
    covariance = np.eye(10) * 0.5 + 0.5
    x, y = beyond_normal.dense_normal(5).sample(20_000, seed=1)
    np.testing.assert_allclose(np.cov(np.hstack([x, y]).T), covariance, atol=0.06)


def test_rows_are_channels() -> None:
    for channel in KNOWN:
        np.testing.assert_allclose(channel.rows.sum(1), 1, atol=1e-12)
        assert capacity(channel.rows).bits == channel.capacity().bits
        assert Channel(channel.rows).information(np.eye(channel.n_inputs)[0]) == pytest.approx(0, abs=1e-12)
