"""A layer's tensor as records × features, and what records say of each other: how alike, of how many dimensions."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isometry.doctor.leaves import tensors

MOST_RECORDS = 64
MOST_FEATURES = 1024  # of one record; together at most 65,536 numbers a layer


class Spread(NamedTuple):
    """How a set of records lies in its space."""

    correlation: float | None
    """Mean cosine of the angle between two different records; None below two records that are finite and not 0."""
    rank: float | None
    """Participation ratio (tr G)² / tr G² of the records' Gram matrix G at unit length: 1 (all alike) … records."""
    rank_share: float | None
    """`rank` over the largest it could be, min(records, features)."""


def count_records(batch: Any) -> int | None:
    """The size that most tensors of the batch have among their dimensions (the earlier one of equals)."""
    sizes = [dict.fromkeys(leaf.shape) for leaf in tensors(batch).values()]
    counts = Counter(size for shape in sizes for size in shape if size > 1)
    return counts.most_common(1)[0][0] if counts else None


def by_record(x: Tensor, n_records: int | None) -> Tensor:
    """[records, features]: at most 64 × 1024 real numbers, evenly taken, always the same ones.

    Records lie along the first dimension (nodes and edges of graphs, steps of packed sequences, too) or, where only
    that has as many entries as the batch has records, along the second (sequences with time in front). All else,
    time and space included, are features of a record.
    """
    x = torch.view_as_real(x) if x.is_complex() else x
    if x.ndim < 2:
        x = x.reshape(-1, 1)
    elif x.ndim > 2 and x.shape[0] != n_records and x.shape[1] == n_records:
        x = x.transpose(0, 1)
    if len(x) > MOST_RECORDS:
        x = x[:: math.ceil(len(x) / MOST_RECORDS)]
    x = x.reshape(len(x), -1)
    return x if x.shape[1] <= MOST_FEATURES else x[:, :: coprime_step(x.shape[1], MOST_FEATURES)]


def spread(records: Tensor) -> Spread:
    """Of [records, features]; records of length 0 and those that are not finite do not count."""
    records = records.double()
    lengths = torch.linalg.vector_norm(records, dim=1, keepdim=True)
    if not 0 < float(lengths.min()) <= float(lengths.max()) < math.inf:  # not so for NaN either
        is_fit = (lengths.isfinite() & (lengths > 0)).flatten()
        records, lengths = records[is_fit], lengths[is_fit]
    n = len(records)
    if n < 2:
        return Spread(None, None, None)
    unit = records / lengths
    gram = unit @ unit.T
    rank = n * n / float(gram.flatten().dot(gram.flatten()))
    return Spread((float(gram.sum()) - n) / (n * (n - 1)), rank, rank / min(n, records.shape[1]))


def length(x: Tensor) -> float:
    """Euclidean norm; summed in float64 where float32 has no room for the squares (that takes five times as long)."""
    if x.dtype in (torch.float32, torch.complex64) and 1e-12 < (norm := float(torch.linalg.vector_norm(x))) < 1e12:
        return norm
    wide = torch.complex128 if x.is_complex() else torch.float64
    return float(torch.linalg.vector_norm(x, dtype=wide))


def coprime_step(n: int, most: int) -> int:
    """Of a walk through n numbers that touches at most `most`, and every channel: it shares no factor with n."""
    step = math.ceil(n / most)
    while math.gcd(step, n) > 1:
        step += 1
    return step
