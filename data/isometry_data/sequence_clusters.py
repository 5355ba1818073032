"""Splits that do not leak: clusters of similar sequences, and test sequences with a near copy in training.

MMseqs2 finds the similar pairs where it is installed, else our own search by shared words (`local_alignments`), which
misses part of the distant ones; `all` aligns every pair, and misses none. A pair must score more than chance, which
sequences of fewer than some twenty residues cannot; of these only the same ones are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from isometry_data.local_alignments import Alignment, alignments_by_words, alignments_of_all
from isometry_data.mmseqs import alignments_by_mmseqs, has_mmseqs
from isometry_data.protein_records import ProteinRecord

IDENTITY = 0.25  # above which two chains of this length are taken for relatives
COVERAGE = 0.5  # of the shorter sequence; less is a shared piece, not a near copy
SEARCHES = ("auto", "mmseqs", "words", "all")


class NearCopy(NamedTuple):
    """A test sequence and the training sequence most like it."""

    test: ProteinRecord
    train: ProteinRecord
    identity: float  # of the aligned columns
    coverage: float  # share of the shorter sequence that is aligned

    def __str__(self) -> str:
        return f"{self.test.name}: {self.identity:.0%} identical to {self.train.name} over {self.coverage:.0%}"


def near_copies(
    train: Sequence[ProteinRecord],
    test: Sequence[ProteinRecord],
    identity: float = IDENTITY,
    coverage: float = COVERAGE,
    search: str = "auto",
) -> list[NearCopy]:
    """The test sequences with a near copy in training, in the order of `test`, each with the most identical one.

    Args:
        identity: least share of identical columns in the best local alignment.
        coverage: least share of the shorter sequence that is aligned.
        search: `mmseqs`, `words`, `all` (exact, and slow: ten minutes of one core for ten thousand chains against each
            other), or `auto`: the first if it is installed.
    Raises:
        OSError: `mmseqs` was demanded and is not there or fails.
    """
    queries, targets = [record.sequence for record in test], [record.sequence for record in train]
    best: dict[int, Alignment] = {}
    for pair in _alike(queries, targets, search):
        if pair.identity >= identity and pair.coverage >= coverage:
            known = best.get(pair.query)
            best[pair.query] = pair if known is None or pair.identity > known.identity else known
    return [NearCopy(test[q], train[pair.target], pair.identity, pair.coverage) for q, pair in sorted(best.items())]


def sequence_clusters(
    sequences: Sequence[str], identity: float = IDENTITY, coverage: float = COVERAGE, search: str = "auto"
) -> np.ndarray:
    """[n] the number of each sequence's cluster, from 0 in order of first appearance.

    Clusters are connected components: no pair that the search finds similar lies in two of them, so a split between
    clusters does not leak by it; a chain of relatives is one cluster, however unlike its ends. Arguments and errors as
    `near_copies`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found = _alike(sequences, sequences, search)
    links = [pair for pair in found if pair.identity >= identity and pair.coverage >= coverage]
    n = len(sequences)
    ends = np.array([(pair.query, pair.target) for pair in links], dtype=np.int64).reshape(-1, 2)
    _, cluster = connected_components(coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n)), False)
    return cluster.astype(np.int64)


def chosen_search(search: str = "auto") -> str:
    """The search itself, and `mmseqs` or `words` for `auto`, by what is installed."""
    if search not in SEARCHES:
        raise ValueError(f"unknown search {search!r}; expected one of {', '.join(SEARCHES)}")
    return search if search != "auto" else "mmseqs" if has_mmseqs() else "words"


def _alike(queries: Sequence[str], targets: Sequence[str], search: str) -> Iterator[Alignment]:
    """What the search finds, and the same sequences, however short."""
    by_search = {"mmseqs": alignments_by_mmseqs, "words": alignments_by_words, "all": alignments_of_all}
    yield from by_search[chosen_search(search)](queries, targets)
    place = {sequence: number for number, sequence in reversed(list(enumerate(targets)))}
    for number, sequence in enumerate(queries):
        if sequence in place:
            yield Alignment(number, place[sequence], identity=1.0, coverage=1.0)
