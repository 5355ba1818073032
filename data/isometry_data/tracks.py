"""Signals along a genome: bigWig and bedGraph, in and out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import numpy as np

from isometry_data.intervals import Binned


class Track:
    """A signal in a bigWig or bedGraph file; NaN where the file says nothing."""

    def __init__(self, path: str | os.PathLike[str]):
        raise NotImplementedError

    def values(self, chrom: str, start: int, end: int) -> np.ndarray:
        """float32 [end - start], one for each base."""
        raise NotImplementedError

    def binned(self, chrom: str, start: int, end: int, bin: int) -> np.ndarray:
        """float32 [ceil((end - start) / bin)]: the mean over the known bases of each bin, NaN where none is known."""
        raise NotImplementedError


def write_bigwig(path: str | os.PathLike[str], stretches: Iterable[Binned], lengths: Mapping[str, int]) -> None:
    """Stretches sorted by start within each sequence; `lengths` in the order the file shall list the sequences."""
    raise NotImplementedError
