"""Calibration: does a classifier that says 80 % come true in 80 % of the cases, and the one number that mends it.

Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599. Dividing all logits of a head by
one temperature changes no verdict, only how sure it sounds.

Logits and probabilities are NumPy arrays or tensors [n, n_classes]; of two classes also [n] or [n, 1], which speak of
the second one. Labels are integers [n], -1 where the truth is not known. Rows are read in blocks: beyond what it is
given, nothing here needs more memory than a few numbers for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from isometry.reliability import reliability_figure

__all__ = [
    "COLDEST",
    "HOTTEST",
    "Bin",
    "Calibration",
    "Fitted",
    "Temperature",
    "at_temperature",
    "calibration",
    "calibration_at",
    "fit_temperature",
    "reliability_figure",
]

COLDEST, HOTTEST = 0.02, 1e4
"""The temperatures among which the best is sought."""

_BLOCK = 1 << 16  # rows converted to float64 at a time
_SAME = 1e-10  # of log T: where the search ends
_TINIEST = np.finfo(np.float64).tiny  # what a probability of 0 counts as, so that its logarithm is a number
_Z = 1.959964  # standard deviations to either side of the mean that hold 95 % of a Gaussian


class Temperature(nn.Module):
    """Divides logits by a temperature when evaluating; does nothing while training.

    The temperature is no parameter: it is fitted on validation data once training has ended, and saved as a weight.
    """

    temperature: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(1.0))

    def forward(self, logits: Tensor) -> Tensor:
        """Same shape and type as `logits`."""
        return logits if self.training else logits / self.temperature


@contextmanager
def at_temperature(modules: Iterable[Temperature], value: float) -> Iterator[None]:
    """A context in which these temperatures have another value."""
    buffers = [module.temperature for module in modules]
    kept = [buffer.clone() for buffer in buffers]
    try:
        for buffer in buffers:
            buffer.fill_(value)
        yield
    finally:
        for buffer, before in zip(buffers, kept, strict=True):
            buffer.copy_(before)


Outcome = Literal["fitted", "coldest allowed", "hottest allowed", "never wrong", "one class", "no labels", "all alike"]


class Fitted(NamedTuple):
    """A temperature and how it came about."""

    temperature: float
    outcome: Outcome
    """fitted: the minimum. coldest, hottest allowed: it lies beyond. Otherwise the labels say nothing about it, and it
    is 1: a head that was never wrong would be certain of everything at its best temperature, 0."""
    n: int
    """Rows that counted: label known, logits numbers."""


def fit_temperature(logits: Any, labels: Any) -> Fitted:
    """The temperature by which the labels are most likely, in float64.

    The mean negative log-likelihood is convex in 1/T (its second derivative is the variance of the logits under the
    softmax), so that Newton's method in log T, kept within a shrinking bracket, finds the one minimum.

    Rows count if their label is known, no logit is nan or inf, and that of the label is not -inf (others may be).
    Raises ValueError for shapes that do not fit together and for labels that are no class.
    """
    rows = _Rows.of(logits, labels)
    n, silence = _silence(rows)
    if silence is not None:
        return Fitted(1.0, silence, n)
    low, high = -math.log(HOTTEST), -math.log(COLDEST)
    if _slope(rows, high)[0] <= 0:
        return Fitted(COLDEST, "coldest allowed", n)
    if _slope(rows, low)[0] >= 0:
        return Fitted(HOTTEST, "hottest allowed", n)
    return Fitted(math.exp(-_root(lambda u: _slope(rows, u), low, high)), "fitted", n)


class Bin(NamedTuple):
    """Predictions of similar confidence. Without any, the means are nan."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean."""
    accuracy: float
    """The share of them that came true."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95 % interval of that share (Wilson 1927)."""


@dataclass(frozen=True)
class Calibration:
    """How far what a classifier says of its largest class is from what comes true."""

    n: int
    """Rows that counted."""
    n_left_out: int
    """Rows with a label whose probabilities are not numbers."""
    accuracy: float
    confidence: float
    """Mean probability of the largest class."""
    expected_error: float
    """Mean |accuracy - confidence| over bins of equal width, by count (ECE: Naeini et al. 2015; Guo et al., eq. 3)."""
    equal_mass_error: float
    """The same over bins of equal count; equal confidences stay together (Nixon et al. 2019, arXiv:1904.01685)."""
    largest_error: float
    """The largest |accuracy - confidence| of any bin of equal width (MCE)."""
    brier: float
    """Mean over rows of the squared distance between probabilities and truth, summed over classes (Brier 1950)."""
    nll: float
    """Mean negative log-likelihood, in nats."""
    bins: tuple[Bin, ...]
    """Of equal width."""


def calibration(probabilities: Any, labels: Any, n_bins: int = 15) -> Calibration:
    """Measures of calibration; all nan where no row counts.

    Raises ValueError for shapes that do not fit together, labels that are no class, and rows that are no probabilities.
    """
    rows = _Rows.of(probabilities, labels)
    return _measured(_distributions(rows), n_bins, rows.n_known)


def calibration_at(logits: Any, labels: Any, temperature: float = 1.0, n_bins: int = 15) -> Calibration:
    """`calibration` of softmax(logits / temperature); the rows that count are those of `fit_temperature`."""
    rows = _Rows.of(logits, labels)
    return _measured(((_softmax(z / temperature), own) for z, own in _usable(rows)), n_bins, rows.n_known)


# Rows


class _Rows(NamedTuple):
    values: np.ndarray
    """[n, n_columns]; one column stands for the second of two classes."""
    labels: np.ndarray

    @classmethod
    def of(cls, values: Any, labels: Any) -> _Rows:
        values, labels = _array(values), _array(labels).reshape(-1)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or len(values) != len(labels) or values.shape[1] == 0:
            raise ValueError(f"found values {values.shape} and {len(labels)} labels, expected [n, n_classes] and [n]")
        if labels.dtype.kind not in "iub" and len(labels):
            raise ValueError(f"labels are {labels.dtype}, expected integers, -1 where the truth is not known")
        n_classes = max(values.shape[1], 2)
        if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < n_classes:
            raise ValueError(f"labels are {labels.min()} to {labels.max()}, expected -1 to {n_classes - 1}")
        return cls(values, labels)

    @property
    def n_known(self) -> int:
        return int(np.count_nonzero(self.labels != -1))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows with a label, in float64."""
        for start in range(0, len(self.labels), _BLOCK):
            own = self.labels[start : start + _BLOCK].astype(np.int64)
            is_known = own != -1
            yield self.values[start : start + _BLOCK][is_known].astype(np.float64), own[is_known]


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        is_half = values.dtype in (torch.float16, torch.bfloat16)
        return (values.detach().float() if is_half else values.detach()).cpu().numpy()
    return np.asarray(values)


def _usable(rows: _Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits, the largest of each row 0, of the rows that count, and their labels."""
    for logits, labels in rows.blocks():
        z = np.stack([np.zeros(len(logits)), logits[:, 0]], 1) if logits.shape[1] == 1 else logits
        is_number = (z < np.inf).all(1) & np.isfinite(z[np.arange(len(z)), labels])  # nan < inf is false
        z, labels = z[is_number], labels[is_number]
        if len(labels):
            yield z - z.max(1, keepdims=True), labels


def _distributions(rows: _Rows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for p, labels in rows.blocks():
        p = np.concatenate([1 - p, p], 1) if p.shape[1] == 1 else p
        is_number = np.isfinite(p).all(1)
        p, labels = p[is_number], labels[is_number]
        is_wrong = (np.abs(p.sum(1) - 1) > 1e-2) | (p < -1e-6).any(1)
        if is_wrong.any():
            found = ", ".join(f"{x:.4g}" for x in p[is_wrong][0][:5])
            raise ValueError(f"found the row ({found}), expected probabilities that sum to 1; logits need a softmax")
        if len(labels):
            yield p.clip(0, 1), labels


def _softmax(z: np.ndarray) -> np.ndarray:
    """Of rows whose largest value is 0."""
    p = np.exp(z)
    return p / p.sum(1, keepdims=True)


# The fit


def _silence(rows: _Rows) -> tuple[int, Outcome | None]:
    """The rows that count, and why they say nothing about a temperature, if they do not."""
    n, present, is_wrong, has_contrast = 0, set(), False, False
    for z, labels in _usable(rows):
        n += len(labels)
        present.update(np.unique(labels).tolist())
        is_wrong = is_wrong or bool((z[np.arange(len(z)), labels] < 0).any())
        has_contrast = has_contrast or bool((z < 0).any())
    reasons: dict[Outcome, bool] = {
        "no labels": n == 0,
        "one class": len(present) == 1,
        "all alike": not has_contrast,
        "never wrong": not is_wrong,
    }
    return n, next((reason for reason, holds in reasons.items() if holds), None)


def _slope(rows: _Rows, u: float) -> tuple[float, float]:
    """d NLL / d beta at beta = 1/T = exp(u), summed over rows, and its derivative by u."""
    beta, slope, curvature = math.exp(u), 0.0, 0.0
    for z, labels in _usable(rows):
        p = _softmax(beta * z)
        finite = np.where(np.isneginf(z), 0.0, z)  # there p is 0
        mean = (p * finite).sum(1)
        slope += float((mean - z[np.arange(len(z)), labels]).sum())
        curvature += float((p * (finite - mean[:, None]) ** 2).sum())
    return slope, beta * curvature


def _root(function: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Where an increasing function, negative at `low` and positive at `high`, is 0; it gives its derivative too."""
    place = min(max(0.0, low), high)
    for _ in range(200):
        value, derivative = function(place)
        low, high = (place, high) if value < 0 else (low, place)
        step = place - value / derivative if derivative > 0 else math.inf
        following = step if low < step < high else (low + high) / 2
        if abs(following - place) < _SAME:
            return following
        place = following
    return place


# The measures


def _measured(blocks: Iterator[tuple[np.ndarray, np.ndarray]], n_bins: int, n_known: int) -> Calibration:
    confidences, hits, brier, nll = [np.empty(0)], [np.empty(0, dtype=bool)], 0.0, 0.0
    for p, labels in blocks:
        own = p[np.arange(len(p)), labels]
        confidences.append(p.max(1))
        hits.append(p.argmax(1) == labels)
        brier += float((p**2).sum() + (1 - 2 * own).sum())
        nll -= float(np.log(own.clip(_TINIEST)).sum())
    confidence, is_hit = np.concatenate(confidences), np.concatenate(hits)
    n = len(confidence)
    width = (np.ceil(confidence * n_bins).astype(np.int64) - 1).clip(0, n_bins - 1)
    sums = _sums(width, confidence, is_hit, n_bins)
    gaps = _gaps(*sums)
    return Calibration(
        n=n,
        n_left_out=n_known - n,
        accuracy=_mean(is_hit.sum(), n),
        confidence=_mean(confidence.sum(), n),
        expected_error=_mean((gaps * sums[0]).sum(), n),
        equal_mass_error=_equal_mass_error(confidence, is_hit, n_bins),
        largest_error=float(gaps.max()) if n else math.nan,
        brier=_mean(brier, n),
        nll=_mean(nll, n),
        bins=tuple(_bin(place, n_bins, *(column[place] for column in sums)) for place in range(n_bins)),
    )


def _equal_mass_error(confidence: np.ndarray, is_hit: np.ndarray, n_bins: int) -> float:
    if not len(confidence):
        return math.nan
    edges = np.unique(np.quantile(confidence, np.arange(1, n_bins) / n_bins, method="inverted_cdf"))
    sums = _sums(np.searchsorted(edges, confidence), confidence, is_hit, len(edges) + 1)
    return _mean((_gaps(*sums) * sums[0]).sum(), len(confidence))


def _sums(
    place: np.ndarray, confidence: np.ndarray, is_hit: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By bin: rows, their confidences, those that came true."""
    counts, confidences = np.bincount(place, minlength=n), np.bincount(place, confidence, minlength=n)
    return counts, confidences, np.bincount(place, is_hit, minlength=n)


def _gaps(counts: np.ndarray, confidences: np.ndarray, hits: np.ndarray) -> np.ndarray:
    return np.abs(hits - confidences) / counts.clip(1)


def _bin(place: int, n_bins: int, count: int, confidence: float, hits: float) -> Bin:
    low, high = _wilson(hits, count) if count else (math.nan, math.nan)
    means = _mean(confidence, count), _mean(hits, count)
    return Bin(place / n_bins, (place + 1) / n_bins, int(count), *means, low, high)


def _wilson(hits: float, n: int) -> tuple[float, float]:
    share = hits / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def _mean(total: float, n: int) -> float:
    return float(total) / int(n) if n else math.nan
