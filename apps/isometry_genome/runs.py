"""Runs of bases of one class, put together across the stretches in which predictions come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from isometry_genome.windows import Stretch


class Run(NamedTuple):
    """[start, end) whose most probable class is the same."""

    record: int
    chrom: str
    start: int
    end: int
    kind: int
    probability: float
    """Of that class, the mean over the bases."""


def runs(parts: Iterable[Stretch]) -> Iterator[Run]:
    """In the order of the stretches."""
    held: Run | None = None
    for part in parts:
        for run in _within(part):
            if held is not None and (held.record, held.kind, held.end) == (run.record, run.kind, run.start):
                held = _joined(held, run)
                continue
            if held is not None:
                yield held
            held = run
    if held is not None:
        yield held


def _within(part: Stretch) -> Iterator[Run]:
    assert part.segments is not None
    probabilities = part.segments
    kinds = probabilities.argmax(1)
    best = probabilities.max(1)
    edges = [0, *(np.flatnonzero(kinds[1:] != kinds[:-1]) + 1).tolist(), len(kinds)]
    for a, b in pairwise(edges):
        yield Run(part.record, part.chrom, part.start + a, part.start + b, int(kinds[a]), float(best[a:b].mean()))


def _joined(a: Run, b: Run) -> Run:
    n_a, n_b = a.end - a.start, b.end - b.start
    probability = (a.probability * n_a + b.probability * n_b) / (n_a + n_b)
    return a._replace(end=b.end, probability=probability)
