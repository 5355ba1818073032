"""Outputs as numbers of order 1, whatever their scale and tails; missing ones as a number and an indicator.

None of it looks at the inputs, so that no information about them can come in here. It does look at the outputs of all
samples, those that decoders are scored on among them, and need not be made anew for each fold: given every output, the
input of an independent sample is still distributed as its own output says, so that what no decoder learnt bounds the
information as before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from isometry.information.bits import Array

TAIL = 4.0  # spreads from which on an outlier counts by its logarithm
MOST_DIRECTIONS = 24
KEPT_VARIANCE = 1e-4  # of the largest direction's, below which a direction is left out
LARGEST = 3.0  # spread of the largest direction where directions keep their proportion


class Outputs(NamedTuple):
    """The same samples in several forms, each float64 [n_samples, n_columns]."""

    plain: Array
    """Centred and scaled; far tails compressed."""
    scores: Array
    """Normal scores: the standard normal's quantile at each value's rank."""
    missing: Array
    """1 where a value is missing; only columns in which some are."""

    @property
    def whitened(self) -> Array:
        """Both forms in their own principal directions, each of variance 1; then the indicators."""
        return np.hstack([_whitened(self.plain), _whitened(self.scores), self.missing])

    @property
    def principal(self) -> Array:
        """Both forms in their own principal directions, each as large as it is; then the indicators.

        Of many columns that vary together the last directions are noise, which a network should see small.
        """
        return np.hstack([_principal(self.plain), _principal(self.scores), self.missing])

    def leading(self, n: int) -> Outputs:
        """Both forms in their first n principal directions of variance 1."""
        return Outputs(_whitened(self.plain)[:, :n], _whitened(self.scores)[:, :n], self.missing)


def standardised(outputs: Array) -> Outputs:
    """[n_samples, n_columns], NaN where missing."""
    is_missing = np.isnan(outputs)
    columns = [_plain(column) for column in outputs.T]
    scores = [_normal_scores(column) for column in outputs.T]
    some = is_missing.any(axis=0)
    plain, ranked = (np.nan_to_num(np.stack(part, axis=1)) for part in (columns, scores))
    return Outputs(plain, ranked, is_missing[:, some].astype(float))


def _plain(column: Array) -> Array:
    known = column[~np.isnan(column)]
    middle = np.median(known)
    spread = (np.quantile(known, 0.84) - np.quantile(known, 0.16)) / 2 or known.std() or 1.0
    z = (column - middle) / spread
    far = np.abs(z) > TAIL
    z[far] = np.sign(z[far]) * (TAIL + np.log(np.abs(z[far]) / TAIL))
    return (z - np.nanmean(z)) / (np.nanstd(z) or 1.0)


def _normal_scores(column: Array) -> Array:
    known = ~np.isnan(column)
    scores = np.full(len(column), np.nan)
    scores[known] = ndtri((rankdata(column[known]) - 0.5) / known.sum())
    return scores


def _whitened(values: Array) -> Array:
    u, _ = _directions(values)
    return u * np.sqrt(len(values))


def _principal(values: Array) -> Array:
    u, lengths = _directions(values)
    return u * np.sqrt(len(values)) * LARGEST * lengths / lengths[0]


def _directions(values: Array) -> tuple[Array, Array]:
    """[n, n_directions] of length 1, and how long each was."""
    u, lengths, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    kept = (lengths**2 > KEPT_VARIANCE * lengths[0] ** 2)[:MOST_DIRECTIONS]
    return u[:, : len(kept)][:, kept], lengths[: len(kept)][kept]
