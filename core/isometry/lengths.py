"""Batches of records of similar length: as many as a budget of padded positions holds.

Sequences of one batch are padded to its longest. Records are dealt within classes of similar length; a class is fixed
by the lengths alone, so that the number of batches is the same in every epoch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

RATIO = 1.1
"""Of the longest to the shortest record of a class, as far as it then fills a batch: below a tenth is padding."""


class LengthClass(NamedTuple):
    """Records of similar length and the number of batches that they make."""

    records: np.ndarray
    n_batches: int

    def dealt(self, generator: np.random.Generator) -> list[np.ndarray]:
        """The records in a new order, in batches whose sizes differ by one at most."""
        return np.array_split(generator.permutation(self.records), self.n_batches)


def lengths_of(records: Any) -> np.ndarray:
    """[n_records] positions of each record. Raises ValueError for a data set that does not offer `length(index)`."""
    length = getattr(records, "length", None)
    if length is None:
        raise ValueError(
            "fit.tokens asks for batches by length, but this app's data set offers no length(index); "
            "leave fit.tokens empty and set fit.batch_size"
        )
    return np.array([length(index) for index in range(len(records))], dtype=np.int64)


def length_classes(lengths: np.ndarray, tokens: int) -> list[LengthClass]:
    """From the longest records to the shortest; a class fills at least one batch, if it is not the last.

    Args:
        tokens: padded positions of a batch; a longer record makes a batch of its own.
    """
    longest_first = np.argsort(-lengths, kind="stable")
    sorted_lengths = -lengths[longest_first]  # ascending, for the search
    classes, start = [], 0
    while start < len(lengths):
        longest = max(-int(sorted_lengths[start]), 1)
        capacity = max(tokens // longest, 1)
        n_alike = int(np.searchsorted(sorted_lengths, -longest / RATIO, side="right"))
        members = longest_first[start : max(n_alike, start + capacity)]
        classes.append(LengthClass(members, -(-len(members) // capacity)))
        start += len(members)
    return classes


def in_batches(records: Any, indices: np.ndarray, batch_size: int, tokens: int | None) -> list[np.ndarray]:
    """Batches for an evaluation, in any order: `batch_size` records each, or as many as `tokens` positions hold."""
    if tokens is None:
        return [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    classes = length_classes(lengths_of(records)[indices], tokens)
    return [indices[part] for members, n in classes for part in np.array_split(members, n)]
