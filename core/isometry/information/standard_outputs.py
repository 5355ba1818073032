"""Outputs as numbers of order 1, whatever their scale and tails; missing ones as a number and an indicator.

None of it looks at the inputs, so that no information about them can come in here.
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
    centred = values - values.mean(axis=0)
    u, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    kept = (lengths**2 > KEPT_VARIANCE * lengths[0] ** 2)[:MOST_DIRECTIONS]
    return u[:, : len(kept)][:, kept] * np.sqrt(len(values))
