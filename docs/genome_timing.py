"""What replication timing of yeast is predicted by without a network, or by another reading of its elements.

Bins are those of the table, 1 kb; the same chromosomes train and test as in the folds of preset `timing`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry_data.genome_sets import yeast_features, yeast_genome, yeast_timing
from isometry_genome.baselines import base_numbers, by_position, linear_regression
from isometry_genome.findings import centromeres
from isometry_genome.letters import codes_of
from isometry_genome.objective import probabilities
from isometry_genome.public import TARGET, timing_split

SECOND = "sort_Dbf4myc_S"
"""The same measurement of another strain."""
SCALES = (3e3, 1e4, 2e4, 4e4)
"""Bases: origins count by exp(-distance / scale)."""
REACHES = (0, 2, 8, 32)
"""Bins to either side over which words are counted."""
PENALTY = 1e3
"""Of squared weights of standardised counts of words."""
PENALTY_OF_READING = 100.0
"""Of squared weights of standardised elements around a bin; chosen on the validation chromosomes of folds 0 and 1."""

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


class Read(NamedTuple):
    """Bins of the table that windows know: what the trunk reads of elements there, the truth, the chromosome."""

    features: np.ndarray
    truth: np.ndarray
    chrom: np.ndarray


def reread(model: Any, data: Any) -> dict[str, float]:
    """r on the test chromosomes where the reading of the elements is fitted by least squares with a penalty."""
    assert model.elements is not None
    train, test = read_by(model, data.train, 2), read_by(model, data.test)
    mean, scale = train.features.mean(0), train.features.std(0) + 1e-6
    x, y = (train.features - mean) / scale, train.truth - train.truth.mean()
    weights = np.linalg.solve(x.T @ x + PENALTY_OF_READING * np.eye(x.shape[1]), x.T @ y)
    said = (test.features - mean) / scale @ weights
    names = sorted(set(test.chrom))
    apart = [np.corrcoef(said[test.chrom == c], test.truth[test.chrom == c])[0, 1] for c in names]
    return {"r": float(np.mean(apart)), "r_pooled": float(np.corrcoef(said, test.truth)[0, 1])}


def read_by(model: Any, windows: Any, every: int = 1) -> Read:
    seen: list[Any] = []
    hook = model.elements.read.register_forward_pre_hook(lambda _, read: seen.append(read[0]))
    rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    size, width, n_cells = windows.reading.resolution, yeast_timing().bin, model.elements.n_cells
    for i in range(0, len(windows), every):
        window, place = windows[i], windows.places[i]
        with torch.no_grad():
            model(probabilities(window.codes[None], model))
        truth = window.profile[:, 0].numpy()
        first = place.start + np.arange(len(truth)) * size
        is_middle = (first + width // 2) // width < (first + size + width // 2) // width
        at = np.flatnonzero(is_middle & ~np.isnan(truth))
        features = seen.pop()[0].numpy()[at // n_cells]
        rows.append((features, truth[at], np.full(len(at), place.chrom)))
    hook.remove()
    return Read(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
