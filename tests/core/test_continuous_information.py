"""Claims about mutual information of continuous vectors: known truths, what must not matter, what is refused."""

import numpy as np
import pytest
import torch
from isometry.information import critic
from isometry.information.beyond_normal import additive_noise, dense_normal, paired_normal, spiralled, student
from isometry.information.bits import NATS
from isometry.information.continuous import mutual_information
from isometry.information.critic import Critic, Views, bound, contributions
from isometry.information.gaussian_copula import canonical_correlation, normal_scores
from isometry.information.missed import FoldCritic, possibly_missed
from scipy.stats import norm

CHANCE = 4  # standard errors
CLOSE = 0.2  # bits, of 400 samples and more in few dimensions
LITTLE = 0.3  # bits, that critics of 200 samples may miss
LEARNED = 0.1  # nats, of one task and 10,000 samples; the benchmark's mean over tasks is below a third of it


def gaussian_views(x: np.ndarray, y: np.ndarray, correlations: np.ndarray) -> Views:
    n = len(correlations)
    one, other = torch.from_numpy(x), torch.from_numpy(y)
    return Views(one, other, one[:, :n], other[:, :n], torch.from_numpy(correlations))


def paired(n_samples: int, correlation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x, noise = np.random.default_rng(seed).normal(size=(2, n_samples, 2))
    return x, correlation * x + np.sqrt(1 - correlation**2) * noise


def test_information_of_gaussians_is_right_on_average_in_many_dimensions():
    task = dense_normal(25)
    found = [canonical_correlation(*map(normal_scores, task.sample(1000, seed))) for seed in range(8)]
    assert np.mean([one.nats for one in found]) == pytest.approx(task.nats, abs=0.03)
    plain = [-np.log1p(-(one.correlations**2)).sum() / 2 for one in found]
    assert np.mean(plain) > task.nats + 0.2  # what chance adds


def test_only_correlations_beyond_chance_count_as_significant():
    found = canonical_correlation(*map(normal_scores, paired_normal(10).sample(2000)))
    assert found.n_significant == 2
    assert canonical_correlation(*np.random.default_rng(0).normal(size=(2, 500, 10))).n_significant == 0


def test_directions_are_independent_and_of_variance_one():
    x, y = map(normal_scores, dense_normal(4).sample(500))
    x = np.hstack([x, x[:, :1] + x[:, 1:2]])  # tells nothing new
    found = canonical_correlation(x, y)
    np.testing.assert_allclose(np.cov((x @ found.of_x).T, bias=True), np.eye(4), atol=1e-9)
    np.testing.assert_allclose((x @ found.of_x).T @ (y @ found.of_y) / 500, np.diag(found.correlations), atol=1e-9)


def test_the_critic_starts_as_the_log_ratio_of_gaussian_densities():
    correlations = np.array([0.8, 0.3])
    x, y = np.random.default_rng(0).normal(size=(2, 5, 2))
    given_x = norm.logpdf(y[None], correlations * x[:, None], np.sqrt(1 - correlations**2))
    truth = (given_x - norm.logpdf(y[None])).sum(2)
    views = gaussian_views(x, y, correlations)
    np.testing.assert_allclose(views.gaussian(), truth, atol=1e-12)
    np.testing.assert_allclose(Critic(2, 2).double()(views).detach(), truth, atol=1e-12)


def test_the_true_log_ratio_gives_the_information_and_any_other_critic_less():
    correlation, truth = 0.6, -np.log1p(-0.36)
    x, y = paired(2000, correlation)
    exact = contributions(Critic(2, 2).double(), gaussian_views(x, y, np.full(2, correlation)))[0]
    error = exact.std() / len(exact) ** 0.5
    assert exact.mean() == pytest.approx(truth, abs=CHANCE * error)
    for wrong in (0.0, 0.3, 0.8):
        other = contributions(Critic(2, 2).double(), gaussian_views(x, y, np.full(2, wrong)))[0]
        assert other.mean() < exact.mean()


def test_contributions_are_the_bound_taken_apart():
    views = gaussian_views(*paired(300, 0.6), np.full(2, 0.5))
    parts, _ = contributions(Critic(2, 2).double(), views)
    assert parts.mean() == pytest.approx(float(bound(views.gaussian())), abs=1e-9)


def test_increasing_maps_and_swapping_sides_change_nothing(monkeypatch):
    monkeypatch.setattr(critic, "MOST_STEPS", 30)
    x, y = paired(120, 0.7)
    found = mutual_information(x, y)
    mapped = np.stack([np.exp(x[:, 0]), 5 * x[:, 1] ** 3 - 2], axis=1)
    assert mutual_information(mapped, np.arctan(y)) == found
    assert mutual_information(y, x) == found
    assert found.low <= found.value <= found.high


def test_independent_vectors_carry_nothing_within_the_interval(monkeypatch):
    monkeypatch.setattr(critic, "MOST_STEPS", 100)
    x, y = np.random.default_rng(0).normal(size=(2, 1000, 3))
    found = mutual_information(x, y)
    assert found.low == 0.0
    assert found.value < 0.02


def test_intervals_hold_the_truth_of_gaussians(monkeypatch):
    """Of six intervals of 95 % one may miss."""
    monkeypatch.setattr(critic, "MOST_STEPS", 50)
    hits = 0
    for seed, correlation in enumerate((0.0, 0.2, 0.4, 0.6, 0.8, 0.9)):
        found = mutual_information(*paired(300, correlation, seed), seed=seed)
        hits += found.low <= -np.log1p(-(correlation**2)) / NATS <= found.high
        assert found.missed < LITTLE
    assert hits >= 5


def fold_critics(tilts: list[float], n_samples: int = 400) -> list[FoldCritic]:
    """Gaussian critics on a half each, tilted by so much of the first coordinate of x."""
    x, y = paired(n_samples, 0.6)
    views, halves = gaussian_views(x, y, np.full(2, 0.6)), np.array_split(np.arange(n_samples), 2)
    critics = []
    for tilt in tilts:
        tilted = Critic(2, 2).double()
        torch.nn.init.zeros_(tilted.of_x.direct.weight)
        tilted.of_x.direct.weight.data[-1, 0] = tilt
        critics.append(FoldCritic(tilted, views, halves[0], halves[1]))
    return critics


def test_critics_that_agree_and_have_learnt_nothing_miss_nothing():
    assert possibly_missed(fold_critics([0.0, 0.0, 0.0])) < 0.02


def test_what_critics_differ_in_is_half_the_variance_of_their_difference():
    tilts, variance = [0.0, 0.3, -0.3], paired(400, 0.6)[0][200:, 0].var(ddof=1)
    pairs = [(one - other) ** 2 for one in tilts for other in tilts if one != other]
    found, alike = possibly_missed(fold_critics(tilts)), [possibly_missed(fold_critics([tilt] * 2)) for tilt in tilts]
    assert found - np.mean(pairs) / 2 * variance == pytest.approx(0, abs=max(alike) + 1e-6)


def test_what_the_ceiling_cuts_off_counts_as_missed():
    critics = fold_critics([0.0, 0.0])
    whole, known = possibly_missed(critics), critics[0].views.gaussian().diagonal()[:200]
    for one in critics:
        one.critic.ceiling.fill_(1.0)
    assert possibly_missed(critics) - whole == pytest.approx(float((known - 1).clamp(min=0).mean()), abs=0.02)


def test_what_correlations_do_not_show_is_found(monkeypatch):
    monkeypatch.setattr(critic, "MOST_STEPS", 100)
    task = additive_noise(0.1)
    found = mutual_information(*task.sample(400))
    assert found.method == "nearest neighbours"
    assert found.correlations_alone < task.bits - 2 * CLOSE
    assert found.value == pytest.approx(task.bits, abs=CLOSE)
    assert found.low < found.value - found.missed  # what is certain is what the critic proves
    assert found.low < task.bits < found.high


def test_ties_repeated_samples_and_repeated_columns_give_a_number(monkeypatch):
    monkeypatch.setattr(critic, "MOST_STEPS", 30)
    x, y = paired(100, 0.7)
    x, y = np.tile(np.round(x), (2, 1)), np.tile(np.round(y, 1), (2, 1))
    sides = (np.hstack([x, x[:, :1]]), y), (np.repeat([0.0, 1.0], 100), np.tile(y[:, 0], 1))
    for pair in sides:
        found = mutual_information(*pair)
        assert np.isfinite([found.value, found.low, found.high]).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.arange(60.0), np.ones(60), "y is constant in column 0"),
        (np.where(np.arange(60) == 7, np.nan, 1.0), np.arange(60.0), "x must be finite, found nan in row 7, column 0"),
        (np.arange(60.0), np.arange(59.0), "60 and 59 rows"),
        (np.arange(49.0), np.arange(49.0), "at least 50 samples are needed, found 49"),
        (np.eye(60)[:, :40], np.eye(60)[:, 30:], "70 coordinates need 350 samples or more, found 60"),
        (np.arange(60.0), np.arange(60.0) ** 3, "their information is infinite"),
    ],
)
def test_what_cannot_be_answered_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(x, y)


@pytest.mark.slow
def test_a_part_tells_no_more_than_the_whole():
    x, y = spiralled(paired_normal(3)).sample(4000)
    whole = mutual_information(x, y)
    for columns in (slice(1), slice(2)):
        part = mutual_information(x[:, columns], y)
        assert part.low <= whole.high
        assert part.value <= whole.value + CLOSE


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [student(3, 2), student(5, 2), spiralled(paired_normal(25))], ids=lambda task: task.name
)
def test_known_information_is_found(task):
    found = mutual_information(*task.sample(10_000)).times(NATS)
    assert found.value == pytest.approx(task.nats, abs=LEARNED)
