"""What simple predictors reach on the same split: words, skew, position, reading frames, the bases just before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

LONGEST_WORD = 4
PENALTY = 1e-3
"""Of squared weights, in a logistic regression of standardised features."""


def word_counts(codes: Iterable[Tensor], longest: int = LONGEST_WORD) -> np.ndarray:
    """[n, 4 + 16 + …] how often each word of 1 … `longest` certain bases comes in each window."""
    rows = []
    for own in codes:
        bases = base_numbers(own)
        parts = []
        for k in range(1, longest + 1):
            words, is_certain = np.zeros(len(bases) - k + 1, dtype=np.int64), np.ones(len(bases) - k + 1, dtype=bool)
            for i in range(k):
                part = bases[i : len(bases) - k + 1 + i]
                words, is_certain = words * 4 + part.clip(0), is_certain & (part >= 0)
            parts.append(np.bincount(words[is_certain], minlength=4**k))
        rows.append(np.concatenate(parts))
    return np.array(rows, dtype=np.float64)


def base_numbers(codes: Tensor) -> np.ndarray:
    """[length] 0 … 3 for A, C, G, T; -1 for a set of several."""
    numbers = np.full(16, -1, dtype=np.int64)
    numbers[[1, 2, 4, 8]] = np.arange(4)
    return numbers[codes.numpy()]


def logistic_regression(features: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[n_asked] logits of the second of two classes, learnt from features [n, k] and labels [n]."""
    means, scales = features.mean(0), features.std(0)
    scales = np.where(scales > 0, scales, 1)
    x, y = torch.from_numpy((features - means) / scales), torch.from_numpy(labels.astype(np.float64))
    weights = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, offset], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = binary_cross_entropy_with_logits(x @ weights + offset, y) + PENALTY * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return ((asked - means) / scales) @ weights.detach().numpy() + float(offset.detach())


def skew(codes: Tensor, width: int) -> float:
    """(G - C) / (G + C) of the `width` bases at the window's centre (Lobry 1996, Mol. Biol. Evol. 13, 660)."""
    start = (len(codes) - width) // 2
    counts = np.bincount(codes[start : start + width].numpy(), minlength=16)
    return float((counts[4] - counts[2]) / max(counts[4] + counts[2], 1))


def by_position(
    lengths: Mapping[str, int], centromeres: Mapping[str, float], chrom: str, places: np.ndarray
) -> np.ndarray:
    """[n, 6] features of places on a chromosome: distances to centromere and nearer end, their squares and decays."""
    to_end = np.minimum(places, lengths[chrom] - places) / 1e5
    to_centromere = np.abs(places - centromeres.get(chrom, lengths[chrom] / 2)) / 1e5
    return np.stack(
        [f(d) for d in (to_end, to_centromere) for f in (lambda d: d, np.square, lambda d: np.exp(-2 * d))], 1
    )


def linear_regression(features: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Least squares with an offset."""
    design = np.column_stack([features, np.ones(len(features))])
    weights = np.linalg.lstsq(design, truth, rcond=None)[0]
    return np.column_stack([asked, np.ones(len(asked))]) @ weights


class Markov:
    """The next base given the `order` bases before it, from counts with one half added to each."""

    def __init__(self, order: int):
        self.order, self.counts = order, np.full((4**order, 4), 0.5)

    def learn(self, windows: Iterable[Tensor]) -> Markov:
        for codes in windows:
            contexts, following, _ = self._pairs(base_numbers(codes))
            np.add.at(self.counts, (contexts, following), 1)
        return self

    def bits(self, windows: Iterable[Tensor], asked: Sequence[Tensor] | None = None) -> float:
        """Mean bits per base, of all bases or of those asked about."""
        logs = -np.log2(self.counts / self.counts.sum(1, keepdims=True))
        total, n = 0.0, 0
        for number, codes in enumerate(windows):
            contexts, following, at = self._pairs(base_numbers(codes))
            keep = slice(None) if asked is None else asked[number].numpy()[at]
            own = logs[contexts, following][keep]
            total, n = total + float(own.sum()), n + len(own)
        return total / max(n, 1)

    def _pairs(self, bases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Contexts, the bases that follow, and where these stand; none with a set of several bases in it."""
        n = len(bases) - self.order
        contexts, is_certain = np.zeros(n, dtype=np.int64), bases[self.order :] >= 0
        for i in range(self.order):
            part = bases[i : i + n]
            contexts, is_certain = contexts * 4 + part.clip(0), is_certain & (part >= 0)
        at = np.flatnonzero(is_certain)
        return contexts[at], bases[self.order :][at], at + self.order
