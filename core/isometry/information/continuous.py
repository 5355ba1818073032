"""Mutual information of two continuous vectors, from samples of both.

What correlations of normal scores show is taken in closed form; the rest by a critic, trained on some samples and
judged on others, fold by fold, so that what is reported comes from samples that no decision has seen. In few
coordinates nearest neighbours are asked too: both err on the low side, so the larger is kept where they differ beyond
chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from isometry.information.bits import NATS, Array
from isometry.information.critic import Views, contributions, fitted
from isometry.information.gaussian_copula import CanonicalCorrelation, canonical_correlation, normal_scores
from isometry.information.missed import FoldCritic, possibly_missed
from isometry.information.nearest import ksg_terms, paired_samples

FEWEST_SAMPLES, SAMPLES_PER_COORDINATE = 50, 5
N_FOLDS = 3
CHECKED = 0.15  # of the samples outside a fold: they choose when to stop
NEIGHBOUR_COORDINATES = 4  # up to as many in all, nearest neighbours are asked
K = 5
MOST_DIRECTIONS = 16  # of the critic's inputs
ALL_COORDINATES = 8  # up to as many, the critic sees each
TWO_SIDED = 1.96  # standard errors of an interval of 95 %
BEYOND_CHANCE = 3.0  # standard errors


@dataclass(frozen=True)
class Estimate:
    """Mutual information in bits."""

    value: float
    low: float
    """What the critic proves, less the chance of sampling: above the truth in 1 of 40 sets of samples."""
    high: float
    """The value, the chance of sampling, and `missed`: no bound, for no samples exclude what no method has found."""
    missed: float
    """What critics of several folds hint at (`isometry.information.missed`), and neighbours tell more than a critic."""
    correlations_alone: float
    """Of normal scores as if they were Gaussian: what canonical correlation gives, bias removed."""
    method: str
    """`critic` or `nearest neighbours`: which of the two gave the value."""

    def times(self, factor: float) -> Estimate:
        """In another unit."""
        value, low, high, missed, alone = (number * factor for number in astuple(self)[:-1])
        return Estimate(value, low, high, missed, alone, self.method)


def mutual_information(x: ArrayLike, y: ArrayLike, *, seed: int = 0) -> Estimate:
    """I(X; Y) in bits of n paired samples, n = 50 and more, better thousands.

    Increasing maps of single coordinates, and swapping x and y, change nothing, to the last digit. Both methods err on
    the low side, so the interval is not symmetric: down it covers the chance of sampling, up also an estimate of what a
    critic misses that learnt from so few samples. It does not cover structure that neither correlations, the critic
    nor neighbours hint at: read `low` as what is there at least, `high` as what these methods leave open. Seconds to
    half a minute on one core for 10,000 samples, however many coordinates up to 100.

    Args:
        x: [n, n_x] or [n].
        y: [n, n_y] or [n].
        seed: of folds and weights.
    Raises:
        ValueError: values that are not finite, unequal lengths, a constant coordinate, fewer than 50 samples or than
            5 per coordinate of both, or a combination of x that y holds exactly.
    Source: Gaussian copula and bound, see `gaussian_copula` and `critic`; Kraskov et al. 2004 for the neighbours.
    """
    xs, ys = paired_samples(x, y, FEWEST_SAMPLES)
    n_coordinates = xs.shape[1] + ys.shape[1]
    n_least = SAMPLES_PER_COORDINATE * n_coordinates
    if len(xs) < n_least:
        found = f"{n_coordinates} coordinates need {n_least} samples or more, found {len(xs)}"
        raise ValueError(f"{found}; leave out coordinates or take their principal components")
    for values, what in ((xs, "x"), (ys, "y")):
        _check_varies(values, what)
    # The order of the sides is that of the scores, whichever is called x.
    one, other = sorted((normal_scores(xs), normal_scores(ys)), key=lambda side: (side.shape[1], *side[:, 0]))
    whole = canonical_correlation(one, other)
    parts, missed = _cross_fitted(one, other, whole, seed)
    best, method = parts, "critic"
    if n_coordinates <= NEIGHBOUR_COORDINATES:
        neighbours = ksg_terms(one, other, K) * NATS
        gain = neighbours - parts
        if gain.mean() > BEYOND_CHANCE * _standard_error(gain):
            best, method, missed = neighbours, "nearest neighbours", missed + gain.mean()
    low = parts.mean() - TWO_SIDED * np.hypot(_standard_error(parts), whole.chance)
    high = best.mean() + TWO_SIDED * np.hypot(_standard_error(best), whole.chance) + missed
    numbers = np.array([best.mean(), low, high, missed, whole.nats])
    value, low, high, missed, alone = (np.maximum(numbers, 0) / NATS).tolist()
    return Estimate(value, low, high, missed, alone, method)


def _check_varies(values: Array, what: str) -> None:
    constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if len(constant):
        raise ValueError(f"{what} is constant in column {constant[0]}: it carries nothing; leave it out")


def _standard_error(parts: Array) -> float:
    return float(parts.std() / np.sqrt(len(parts)))


def _cross_fitted(x: Array, y: Array, whole: CanonicalCorrelation, seed: int) -> tuple[Array, float]:
    """[n] parts of I(X; Y) in nats, each from a critic that has not seen its sample, and what they may all miss."""
    parts, gaussian, critics = np.empty(len(x)), np.empty(len(x)), []
    for fold, (train, check, test) in enumerate(_folds(len(x), seed)):
        views = _views(x, y, train)
        critic = fitted(views, torch.from_numpy(train), torch.from_numpy(check), seed + fold)
        parts[test], gaussian[test] = contributions(critic, views.rows(torch.from_numpy(test)))
        critics.append(FoldCritic(critic, views, train, test))
    # The critic's Gaussian start is of a fold's samples; `whole` knows what all tell, free of the price of estimating.
    return parts + whole.nats - gaussian.mean(), possibly_missed(critics)


def _folds(n_samples: int, seed: int) -> Iterator[tuple[Array, Array, Array]]:
    """Rows to train on, to stop by, and to judge."""
    order = np.random.default_rng(seed).permutation(n_samples)
    for test in np.array_split(order, N_FOLDS):
        rest = order[~np.isin(order, test)]
        n_check = int(CHECKED * len(rest))
        yield rest[n_check:], rest[:n_check], test


def _views(x: Array, y: Array, train: Array) -> Views:
    """The critic's inputs for all samples; only the rows `train` are paired in making them."""
    linear = canonical_correlation(x[train], y[train])
    (wide_x, size_x), (wide_y, size_y) = _modulated(x @ linear.of_x), _modulated(y @ linear.of_y)
    bent = canonical_correlation(wide_x[train] - wide_x[train].mean(0), wide_y[train] - wide_y[train].mean(0))
    n, n_bent = linear.n_significant, min(bent.n_significant, MOST_DIRECTIONS)
    return Views(
        _tensor(_own(wide_x, n), wide_x @ bent.of_x[:, :n_bent], size_x),
        _tensor(_own(wide_y, n), wide_y @ bent.of_y[:, :n_bent], size_y),
        _tensor(x @ linear.of_x[:, :n]),
        _tensor(y @ linear.of_y[:, :n]),
        torch.from_numpy(linear.correlations[:n]).float(),
    )


def _own(wide: Array, n_significant: int) -> Array:
    """Of the directions as they are all, where there are few."""
    n = wide.shape[1] // 2
    return wide[:, : n if n <= ALL_COORDINATES else min(n_significant, MOST_DIRECTIONS)]


def _tensor(*columns: Array) -> torch.Tensor:
    return torch.from_numpy(np.hstack(columns)).float()


def _modulated(directions: Array) -> tuple[Array, Array]:
    """[n, 2 n_directions]: each direction, and times the size of the whole deviation; [n, 2] two scales of that size.

    A dependence that turns or stretches with the distance from the middle is a correlation of these.
    """
    square = (directions**2).mean(1, keepdims=True)
    size = normal_scores(square)
    return np.hstack([directions, directions * size]), np.hstack([size, square - 1])
