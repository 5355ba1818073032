"""Claims about mutual information from nearest neighbours: closed forms, brute force, another library, ties."""

import numpy as np
import pytest
from isometry.information import nearest
from isometry.information.beyond_normal import additive_noise, normal
from isometry.information.bits import NATS, mutual_information
from isometry.information.capacity import Channel
from isometry.information.nearest import ksg, ross
from scipy.special import digamma
from scipy.stats import poisson

CLOSE = 0.06  # bits, of 2,000 samples
EXACT = 1e-12


def correlated(correlation: float, n_samples: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_samples)
    return x, correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=n_samples)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_ksg_finds_the_information_of_two_gaussians(correlation):
    assert ksg(*correlated(correlation)) == pytest.approx(-0.5 * np.log2(1 - correlation**2), abs=CLOSE)


@pytest.mark.parametrize("width", [0.1, 0.75])
def test_ksg_finds_the_information_of_a_uniform_channel(width):
    task = additive_noise(width)
    assert ksg(*task.sample(2000)) == pytest.approx(task.bits, abs=2 * CLOSE)


def test_ksg_finds_the_information_of_two_vectors():
    covariance = np.eye(4)
    covariance[0, 2] = covariance[2, 0] = 0.8
    task = normal("", covariance, 2)
    assert ksg(*task.sample(2000)) == pytest.approx(task.bits, abs=2 * CLOSE)


@pytest.mark.parametrize("distance", [0.5, 2.0, 8.0])
def test_ross_finds_the_information_of_two_labels_of_gaussian_responses(distance):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=3000)
    grid = np.linspace(-10, 10 + distance, 4001)
    densities = np.exp(-((grid - distance * np.array([[0], [1]])) ** 2) / 2)
    truth = mutual_information(densities / densities.sum())
    assert ross(labels, rng.normal(size=3000) + distance * labels) == pytest.approx(truth, abs=CLOSE)


def test_trees_and_blocks_of_distances_agree_exactly(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 450, 2)).round(1)  # with ties and repeated points
    labels = rng.integers(4, size=450)
    by_tree = ksg(x, y, 3), ross(labels, y, 3)
    monkeypatch.setattr(nearest, "TREE_COORDINATES", 0)
    assert (ksg(x, y, 3), ross(labels, y, 3)) == pytest.approx(by_tree, abs=EXACT)


def test_ksg_is_the_published_formula():
    """Kraskov et al. 2004, eq. 8, word by word."""
    (x, y), k = correlated(0.7, 100), 4
    dx, dy = np.abs(x[:, None] - x), np.abs(y[:, None] - y)
    radius = np.sort(np.maximum(dx, dy), axis=1)[:, [k]]
    near = [(distance < radius).sum(1) - 1 for distance in (dx, dy)]
    nats = digamma(k) - (digamma(near[0] + 1) + digamma(near[1] + 1)).mean() + digamma(100)
    assert ksg(x, y, k) == pytest.approx(nats / NATS, abs=EXACT)


def test_scikit_learn_agrees():
    sklearn = pytest.importorskip("sklearn.feature_selection._mutual_info", reason="scikit-learn is not installed")
    x, y = correlated(0.7, 500)
    labels = (x > 0).astype(int)
    assert ksg(x, y, 3) * NATS == pytest.approx(sklearn._compute_mi_cc(x, y, 3), abs=1e-9)
    assert ross(labels, y, 3) * NATS == pytest.approx(sklearn._compute_mi_cd(y, labels, 3), abs=1e-9)


def test_the_answer_ignores_order_and_sides():
    x, y = correlated(0.7, 300)
    order = np.random.default_rng(1).permutation(300)
    assert ksg(y, x) == pytest.approx(ksg(x, y), abs=EXACT)
    assert ksg(x[order], y[order]) == pytest.approx(ksg(x, y), abs=EXACT)
    assert ross(np.array(["off", "on"])[(x[order] > 0).astype(int)], y[order]) == pytest.approx(ross(x > 0, y))


def test_a_table_of_repeated_points_gives_its_own_information():
    """Gao et al. 2017: where every point is repeated, the estimate is that of the table of counts."""
    counts = np.array([[300, 100], [50, 550]])
    x, y = (np.repeat(places.ravel(), counts.ravel()) for places in np.indices(counts.shape))
    truth = mutual_information(counts / counts.sum())
    assert ksg(x, y, 5) == pytest.approx(truth, abs=0.01)
    assert ross(x, y, 5) == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("means", [(5.0, 11.0, 24.0, 35.0), (2.0, 4.0, 6.0), (0.2, 1.0)])
def test_ross_finds_the_information_of_labels_of_counts(means):
    """Several counts are at the very distance of the k-th neighbour: left out, they add 0.15 bits of the first."""
    rows = poisson.pmf(np.arange(200), np.array(means)[:, None])
    labels = np.repeat(np.arange(len(means)), 200)
    counts = np.random.default_rng(0).poisson(np.array(means)[labels])
    truth = Channel(rows).information(np.full(len(means), 1 / len(means)))
    assert ross(labels, counts) == pytest.approx(truth, abs=CLOSE)


def test_ksg_finds_the_information_of_counts_with_a_common_part():
    own, common = 10.0, 3.0
    apart = poisson.pmf(np.arange(60)[:, None] - np.arange(40), own) * np.sqrt(poisson.pmf(np.arange(40), common))
    rng = np.random.default_rng(0)
    shared = rng.poisson(common, 2000)
    x, y = (shared + rng.poisson(own, 2000) for _ in "xy")
    truth = mutual_information(apart @ apart.T / (apart @ apart.T).sum())
    assert ksg(x, y) == pytest.approx(truth, abs=CLOSE)


def test_scaled_counts_tell_what_counts_do():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 200)
    counts = rng.poisson(np.array([[3.0, 9.0], [8.0, 5.0], [20.0, 14.0]])[labels]).astype(float)
    assert ross(labels, counts * 0.1 - 1 / 3) == pytest.approx(ross(labels, counts), abs=EXACT)
    x, y = counts[:, 0], counts
    assert ksg(x * 0.1 + 7.7, y * 0.1 - 1 / 3) == pytest.approx(ksg(x, y), abs=EXACT)


def test_a_constant_carries_nothing():
    x = np.random.default_rng(0).normal(size=300)
    assert ksg(x, np.ones(300)) == pytest.approx(0.0, abs=0.01)
    assert ross(x > 0, np.ones(300)) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], 1, "x must be finite, found nan in row 1"),
        ([1.0, 2.0, 3.0], [1.0, 2.0], 1, "3 and 2 rows"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 3, "at least 4 samples"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0, "k, the number of neighbours"),
        (np.zeros((2, 2, 2)), [1.0, 2.0], 1, r"found shape \(2, 2, 2\)"),
    ],
)
def test_what_cannot_be_answered_is_refused(x, y, k, message):
    with pytest.raises(ValueError, match=message):
        ksg(x, y, k)


def test_labels_that_are_measurements_are_refused():
    with pytest.raises(ValueError, match="no label has two samples"):
        ross(np.arange(20) + 0.5, np.arange(20.0))
