"""What replication timing of yeast is predicted by, without a network, chromosome by held-out chromosome.

Bins are those of the table, 1 kb; the same chromosomes train and test as in the folds of preset `timing`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from isometry_data.genome_sets import yeast_features, yeast_genome, yeast_timing
from isometry_genome.baselines import base_numbers, by_position, linear_regression
from isometry_genome.findings import centromeres
from isometry_genome.letters import codes_of
from isometry_genome.public import TARGET, timing_split

SECOND = "sort_Dbf4myc_S"
"""The same measurement of another strain."""
SCALES = (3e3, 1e4, 2e4, 4e4)
"""Bases: origins count by exp(-distance / scale)."""
REACHES = (0, 2, 8, 32)
"""Bins to either side over which words are counted."""
PENALTY = 1e3
"""Of squared weights of standardised counts of words."""

Features = Callable[[str], np.ndarray]


def ladder(fold: int) -> list[dict[str, Any]]:
    """A row for each predictor: r, mean of the test chromosomes, and of all their bins."""
    parts = timing_split(yeast_genome().lengths, fold)
    truth = of_column(TARGET)
    second, words = of_column(SECOND), word_shares()
    whats: dict[str, Callable[[str], np.ndarray]] = {
        "words of 3 bases, of the bin alone": _learnt(lambda c: around(words[c], (0,)), parts["train"], truth),
        "words of 3 bases, ± 32 kb": _learnt(lambda c: around(words[c], REACHES), parts["train"], truth),
        "distances to centromere and ends": _learnt(positions, parts["train"], truth, 0.0),
        "annotated origins and these distances": _learnt(
            lambda c: np.concatenate([positions(c), origins(c)], 1), parts["train"], truth, 0.0
        ),
        "the same measurement of another strain": lambda c: second[c],
    }
    return [{"what": what, **_scores(said, parts["test"], truth)} for what, said in whats.items()]


def of_column(name: str) -> dict[str, np.ndarray]:
    table = yeast_timing()
    return {chrom: values[:, table.columns.index(name)] for chrom, values in table.values.items()}


def middles(chrom: str) -> np.ndarray:
    table = yeast_timing()
    return (np.arange(len(table.values[chrom])) + 0.5) * table.bin


def positions(chrom: str) -> np.ndarray:
    return by_position(yeast_genome().lengths, centromeres(), chrom, middles(chrom))


def origins(chrom: str) -> np.ndarray:
    """[bins, 7] sums over annotated origins by distance, and the nearest one."""
    found = [f.interval for f in yeast_features() if f.kind == "origin_of_replication" and f.interval.chrom == chrom]
    at = np.array([(interval.start + interval.end) / 2 for interval in found])
    apart = np.abs(middles(chrom)[:, None] - at)
    nearest = apart.min(1)
    near = [nearest / 1e4, np.exp(-nearest / 1e4), np.exp(-nearest / 2e4)]
    return np.stack([np.exp(-apart / scale).sum(1) for scale in SCALES] + near, 1)


@cache
def word_shares() -> dict[str, np.ndarray]:
    """By chromosome, [bins, 32] shares of each word of three bases and its reverse complement together."""
    genome, width = yeast_genome(), yeast_timing().bin
    both = np.array([min(w, (3 - w % 4) * 16 + (3 - w // 4 % 4) * 4 + 3 - w // 16) for w in range(64)])
    names = np.unique(both)
    shares = {}
    for chrom, n in genome.lengths.items():
        bases = base_numbers(codes_of(genome.fetch(chrom, 0, n)))
        words = np.searchsorted(names, both[bases[:-2] * 16 + bases[1:-1] * 4 + bases[2:]])
        bins = np.arange(len(words)) // width
        counts = np.bincount(bins * len(names) + words, minlength=(-(-n // width)) * len(names))
        shares[chrom] = counts.reshape(-1, len(names)) / width
    return shares


def around(values: np.ndarray, reaches: tuple[int, ...]) -> np.ndarray:
    """[bins, k · reaches] means over so many bins to either side."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0)])
    at = np.arange(len(values))
    edges = [(np.maximum(at - r, 0), np.minimum(at + r + 1, len(values))) for r in reaches]
    return np.concatenate([(sums[b] - sums[a]) / (b - a)[:, None] for a, b in edges], 1)


def _learnt(features: Features, train: list[str], truth: dict[str, np.ndarray], penalty: float = PENALTY) -> Features:
    x, y = np.concatenate([features(c) for c in train]), np.concatenate([truth[c] for c in train])
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    mean, scale = x.mean(0), x.std(0) + 1e-9
    # A penalty of squares is a row of its root for each weight.
    rows = np.concatenate([(x - mean) / scale, np.sqrt(penalty) * np.eye(x.shape[1])])
    truth_and_zeros = np.concatenate([y - y.mean(), np.zeros(x.shape[1])])
    return lambda chrom: linear_regression(rows, truth_and_zeros, (features(chrom) - mean) / scale)


def _scores(said: Features, test: list[str], truth: dict[str, np.ndarray]) -> dict[str, float]:
    pairs = [np.stack([said(chrom), truth[chrom]]) for chrom in test]
    pairs = [pair[:, ~np.isnan(pair).any(0)] for pair in pairs]
    apart = [float(np.corrcoef(pair)[0, 1]) for pair in pairs]
    return {"r": float(np.mean(apart)), "r_pooled": float(np.corrcoef(np.concatenate(pairs, 1))[0, 1])}
