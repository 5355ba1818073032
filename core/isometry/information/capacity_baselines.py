"""What other estimators say of the same samples: nearest neighbours, logistic regression in sample, histogram.

They are here to be compared with. Each is scored on the samples it was made from, so none is a bound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import KDTree
from scipy.special import digamma, log_softmax

from isometry.information.bits import Array
from isometry.information.capacity import Channel, capacity
from isometry.information.nearest import K, ross
from isometry.information.sampled_channel import SampledChannel
from isometry.information.standard_outputs import Outputs, standardised

SMALLEST = 1e-12  # distance, of outputs of unit spread
RIDGE = 1e-6  # per sample


class Baseline(NamedTuple):
    """Bits by another estimator."""

    name: str
    capacity: float
    uniform: float
    given: float


def baselines(inputs: np.ndarray, outputs: Array) -> list[Baseline]:
    """All of them, of inputs [n] and outputs [n, d]; neighbours leave out samples that miss an output."""
    forms = standardised(outputs)
    complete = ~np.isnan(outputs).any(axis=1)
    few = np.bincount(inputs[complete], minlength=int(inputs.max()) + 1).min() <= K
    found = [logistic_regression(inputs, forms), histogram(inputs, forms)]
    return found if few else [nearest_neighbours(inputs[complete], forms.plain[complete]), *found]


def nearest_neighbours(inputs: np.ndarray, outputs: Array, k: int = K) -> Baseline:
    """Ross 2014 at the given inputs; else densities p(y|x) from the k-th neighbour (Selimkhanov et al. 2014).

    The latter are low: beside the samples of one input, the k-th neighbour among those of another is far, and the
    density that it stands for is not as small as the true one there.
    """
    channel = SampledChannel(neighbour_densities(inputs, _apart(outputs), k), inputs)
    return Baseline("nearest neighbours", *_of(channel, ross(inputs, outputs, k)))


def neighbour_densities(inputs: np.ndarray, outputs: Array, k: int) -> Array:
    """[n, n_inputs] log p(y|x), of each sample's k-th neighbour among the samples of x, itself left out."""
    counts = np.bincount(inputs)
    logs = np.empty((len(inputs), len(counts)))
    for x, count in enumerate(counts):
        tree, own = KDTree(outputs[inputs == x]), inputs == x
        distance = np.empty(len(inputs))
        distance[own] = tree.query(outputs[own], k=k + 1, p=np.inf)[0][:, k]
        distance[~own] = tree.query(outputs[~own], k=k, p=np.inf)[0].reshape(-1, k)[:, k - 1]
        logs[:, x] = -outputs.shape[1] * np.log(np.maximum(distance, SMALLEST)) - digamma(count - own)
    return logs


def _apart(outputs: Array) -> Array:
    """Repeated values of a column, as of counts, spread up to half way to the next ones, always in the same way.

    Neighbours at no distance have no density. What was spread says which value it was, so it tells as much of inputs.
    """
    apart, rng = outputs.copy(), np.random.default_rng(0)
    for column in apart.T:
        known, place, times = np.unique(column, return_inverse=True, return_counts=True)
        if len(known) > 1:
            gaps = np.diff(known)
            room = np.minimum(np.append(gaps[0], gaps), np.append(gaps, gaps[-1])) / 2 * (times > 1)
            column += room[place] * rng.uniform(-1, 1, len(column))
    return apart


def logistic_regression(inputs: np.ndarray, outputs: Outputs) -> Baseline:
    """Fitted and scored on all samples, as SLEMI does (Jetka et al. 2019)."""
    features = np.hstack([np.ones((len(inputs), 1)), outputs.plain, outputs.missing])
    told = np.eye(int(inputs.max()) + 1)[inputs]
    shape = (features.shape[1], told.shape[1])

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        logs = log_softmax(features @ weights, axis=1)
        slope = features.T @ (np.exp(logs) - told) / len(inputs) + RIDGE * weights
        return float(-(logs * told).sum() / len(inputs) + RIDGE / 2 * (flat**2).sum()), slope.ravel()

    fitted = minimize(loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    logs = log_softmax(features @ fitted.x.reshape(shape), axis=1)
    channel = SampledChannel(logs - np.log(told.mean(axis=0)), inputs)
    return Baseline("logistic regression, in sample", *_of(channel, None))


def histogram(inputs: np.ndarray, outputs: Outputs) -> Baseline:
    """Counts in bins of equal mass along the first one or two principal directions."""
    centred = outputs.scores - outputs.scores.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    n_bins = max(round(len(inputs) ** (1 / 3)), 4)
    each = n_bins if len(directions) == 1 else max(round(n_bins**0.75), 3)
    place = np.zeros(len(inputs), dtype=int)
    for direction in directions:
        along = centred @ direction
        edges = np.quantile(along, np.linspace(0, 1, each + 1)[1:-1])
        place = place * each + np.searchsorted(edges, along)
    table = np.zeros((int(inputs.max()) + 1, each ** len(directions)))
    np.add.at(table, (inputs, place), 1)
    given = table.sum(axis=1) / len(inputs)
    rows = table / table.sum(axis=1, keepdims=True)
    channel = Channel(rows)
    uniform = np.full(len(rows), 1 / len(rows))
    return Baseline("histogram", capacity(rows).bits, channel.information(uniform), channel.information(given))


def _of(channel: SampledChannel, given: float | None) -> tuple[float, float, float]:
    uniform = np.full(channel.n_inputs, 1 / channel.n_inputs)
    at_given = channel.information(channel.counts / channel.counts.sum()) if given is None else given
    return channel.information(channel.best_inputs()), channel.information(uniform), at_given
