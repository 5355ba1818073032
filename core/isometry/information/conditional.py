"""What outputs tell of a second label beyond the input: of the batch that a sample comes from, at a given input."""

from __future__ import annotations

import numpy as np

from isometry.information.bits import NATS, Array
from isometry.information.decoded import LEAST_SAMPLES
from isometry.information.decoder_folds import nested_folds
from isometry.information.decoder_members import answers, mixed
from isometry.information.resampled import Estimate, resampled
from isometry.information.standard_outputs import standardised

KINDS = ("common Gaussian", "logistic", "network")


def conditional_information(
    labels: np.ndarray,
    inputs: np.ndarray,
    outputs: Array,
    *,
    groups: np.ndarray | None = None,
    n_steps: int = 400,
    seed: int = 0,
) -> Estimate | None:
    """I(label; output | input) in bits at the inputs and labels as sampled, cross-fitted: a lower bound on average.

    What is known without the output are the shares of labels at each input as counted in all samples: their entropy is
    at most the true one on average, whereas shares of other samples would be wrong by chance, and an output would seem
    to tell what only lacks this error. Only inputs count that occur with two labels, LEAST_SAMPLES of each; None where
    there are none.

    Args:
        labels: [n] 0 … n_labels - 1.
        inputs: [n] 0 … n_inputs - 1.
        outputs: [n, d], NaN where missing.
    """
    counts = _counted(inputs, labels)
    usual = counts >= LEAST_SAMPLES
    rows = usual[inputs, labels] & (usual.sum(axis=1) > 1)[inputs]
    if not rows.any():
        return None
    x = np.unique(inputs[rows], return_inverse=True)[1]
    label = np.unique(labels[rows], return_inverse=True)[1]
    grouped = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    forms = standardised(outputs[rows])
    with_input = forms._replace(missing=np.hstack([forms.missing, np.eye(int(x.max()) + 1)[x]]))
    folds = nested_folds(label, grouped, 5, 4, np.random.default_rng(seed))
    said, _ = mixed([answers(kind, label, with_input, folds, n_steps, seed) for kind in KINDS], label, folds)
    shares = _counted(x, label)
    with np.errstate(divide="ignore"):  # a label that an input never has
        base = np.log(shares / shares.sum(axis=1, keepdims=True))
    parts = np.empty(len(x))
    for k in range(folds.n_outer):
        own = np.flatnonzero(folds.outer == k)
        parts[own] = (said.scored[k][np.arange(len(own)), label[own]] - base[x[own], label[own]]) / NATS
    return resampled(parts, np.zeros(len(x), dtype=int), grouped, 1000, seed)


def _counted(inputs: np.ndarray, labels: np.ndarray) -> Array:
    counts = np.zeros((int(inputs.max()) + 1, int(labels.max()) + 1))
    np.add.at(counts, (inputs, labels), 1)
    return counts
