"""Numbers along sequences: tables of bins, what annotations cover, and files of tracks, read in bins of any size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from isometry_data.annotations import Feature
from isometry_data.tracks import Track

KNOWN = 0.5  # share of a bin that must be known
FINE = 32  # bases of the bins that annotations are kept in


class Steps:
    """Values of equal bins, such as a table; other bins are means over the bases that they share.

    Args:
        values: by sequence [n_bins, n_tracks], NaN unknown; bin i begins at base i * size.
    """

    def __init__(self, names: Sequence[str], values: Mapping[str, np.ndarray], size: int):
        self.names, self.size = tuple(names), size
        self._sums = {chrom: _integrals(own, size) for chrom, own in values.items()}

    def binned(self, chrom: str, start: int, end: int, size: int) -> np.ndarray:
        """As `dataset.Signal` says."""
        edges = np.arange(start, end + 1, size, dtype=np.float64)
        found = np.full((len(edges) - 1, len(self.names)), np.nan, dtype=np.float32)
        if chrom not in self._sums:
            return found
        at, of_values, of_known = self._sums[chrom]
        for track in range(len(self.names)):
            known = np.diff(np.interp(edges, at, of_known[:, track]))
            total = np.diff(np.interp(edges, at, of_values[:, track]))
            found[:, track] = np.where(known >= KNOWN * size, total / np.maximum(known, 1e-9), np.nan)
        return found


def _integrals(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bin edges, and up to each the integrals of the values and of their being known."""
    is_known = ~np.isnan(values)
    zero = np.zeros((1, values.shape[1]))
    of_values = np.concatenate([zero, (np.where(is_known, values, 0) * float(size)).cumsum(0)])
    return np.arange(len(values) + 1) * float(size), of_values, np.concatenate([zero, (is_known * size).cumsum(0)])


def covered(features: Iterable[Feature], kinds: Sequence[str], lengths: Mapping[str, int]) -> Steps:
    """The share of each bin that features cover: a track for each kind; "gene+" and "gene-" are those of a strand."""
    values = {chrom: np.zeros((-(-length // FINE), len(kinds)), dtype=np.float32) for chrom, length in lengths.items()}
    for feature in features:
        at = feature.interval
        for track, kind in enumerate(kinds):
            if at.chrom in values and kind in (feature.kind, feature.kind + at.strand):
                values[at.chrom][at.start // FINE : -(-at.end // FINE), track] = 1
    return Steps(kinds, values, FINE)


class Files:
    """bigWig and bedGraph files, one track each; of a track that is None nothing is known."""

    def __init__(self, tracks: Sequence[Track | None], names: Sequence[str]):
        self.tracks, self.names = list(tracks), tuple(names)

    def binned(self, chrom: str, start: int, end: int, size: int) -> np.ndarray:
        """As `dataset.Signal` says."""
        unknown = np.full(-(-(end - start) // size), np.nan, dtype=np.float32)
        columns = [
            unknown if track is None else track.binned(chrom, start, end, size, pads=True) for track in self.tracks
        ]
        return np.stack(columns, -1).astype(np.float32)


class Beside:
    """The tracks of several signals, one after another."""

    def __init__(self, *signals: Steps | Files):
        self.signals = signals
        self.names = tuple(name for signal in signals for name in signal.names)

    def binned(self, chrom: str, start: int, end: int, size: int) -> np.ndarray:
        """As `dataset.Signal` says."""
        return np.concatenate([signal.binned(chrom, start, end, size) for signal in self.signals], -1)
