"""Local alignments of sequences, of all pairs or of those that share words: our own search beside MMseqs2.

Shared words propose pairs (`shared_words`); Smith and Waterman's score with BLOSUM62 and gaps 11 + 1 must have an
E-value of 0.001 in a search of all targets (Karlin & Altschul 1990, λ 0.267, K 0.041, Altschul & Gish 1996). PyOpal
aligns (SIMD), or, where it is not installed, Biopython, some fifty times slower: the same scores, and of several best
alignments sometimes another one, whose identity differs by less than a point.

What words miss, among NetSurfP-2's 9,712 training chains against each other (67 s of one core, growing with the square
of the residues; `benchmarks/sequence_clusters.py`): of MMseqs2's pairs over half of the shorter chain, 30 % at 25 %
identity, 21 % at 30 %, 1 % at 50 %. Pairs of two chains with histidine tags are left out: MMseqs2 aligns their tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from isometry_data.protein_records import standard_letters
from isometry_data.shared_words import candidates

if TYPE_CHECKING:
    from Bio.Align import PairwiseAligner

LEAST_CHANCE = 1e-3  # E-value
LAMBDA, K = 0.267, 0.041  # BLOSUM62 with gaps 11 + 1
OPEN, EXTEND = 12, 1  # 11 + 1 for the first residue of a gap
BLOCK = 1_000_000  # pairs at a time where all are aligned


class Alignment(NamedTuple):
    """A query and a target (their numbers), and how alike they are."""

    query: int
    target: int
    identity: float  # identical residues over columns of the alignment, gaps included
    coverage: float  # share of the shorter sequence that is aligned


def alignments_by_words(queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """The best local alignment of pairs that share words and score more than chance.

    If both are the same list, each pair once.
    """
    is_same = queries is targets
    queries, targets = _standard(queries, targets)
    return _above_chance([candidates(queries, targets, is_same=is_same)[:, :2]], queries, targets)


def alignments_of_all(queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """As `alignments_by_words` of every pair, without missing any: five thousand million cells a second of one core."""
    is_same = queries is targets
    queries, targets = _standard(queries, targets)
    return _above_chance(_every_pair(len(queries), len(targets), is_same), queries, targets)


def best_scores(pairs: np.ndarray, queries: Sequence[str], targets: Sequence[str]) -> np.ndarray:
    """[n] the score of the best local alignment of each pair [n, 2] of a query and a target."""
    scores = np.empty(len(pairs), dtype=np.int64)
    try:
        for rows, found in _by_opal(pairs, queries, targets, "score"):
            scores[rows] = [result.score for result in found]
    except ImportError:
        aligner = _aligner()
        scores[:] = [aligner.score(queries[int(q)], targets[int(t)]) for q, t in pairs]
    return scores


def best_alignments(pairs: np.ndarray, queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """The best local alignment of each pair [n, 2]."""
    aligned: list[Alignment] = []
    try:
        for rows, found in _by_opal(pairs, queries, targets, "full"):
            aligned += [_told(q, t, result) for (q, t), result in zip(pairs[rows].tolist(), found, strict=True)]
    except ImportError:
        aligner = _aligner()
        aligned = [_aligned(aligner, q, t, queries[int(q)], targets[int(t)]) for q, t in pairs.tolist()]
    return aligned


def _standard(queries: Sequence[str], targets: Sequence[str]) -> tuple[list[str], list[str]]:
    return [standard_letters(query) for query in queries], [standard_letters(target) for target in targets]


def _every_pair(n_queries: int, n_targets: int, is_same: bool) -> Iterator[np.ndarray]:
    step = max(BLOCK // max(n_targets, 1), 1)
    for start in range(0, n_queries, step):
        query, target = np.mgrid[start : min(start + step, n_queries), :n_targets].reshape(2, -1)
        pairs = np.stack([query, target], axis=1)
        yield pairs[query > target] if is_same else pairs


def _above_chance(proposed: Iterable[np.ndarray], queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """Alignments of the pairs whose score has an E-value up to `LEAST_CHANCE`."""
    lengths = np.array([len(query) for query in queries], dtype=np.float64)
    chances = K * lengths * sum(len(target) for target in targets) / LEAST_CHANCE
    found: list[Alignment] = []
    for pairs in proposed:
        scores = best_scores(pairs, queries, targets)
        found += best_alignments(pairs[scores >= np.log(chances[pairs[:, 0]]) / LAMBDA], queries, targets)
    return found


def _by_opal(
    pairs: np.ndarray, queries: Sequence[str], targets: Sequence[str], mode: Literal["score", "full"]
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Rows of `pairs` with the same query, and what PyOpal found for each."""
    from pyopal import Aligner, Database

    aligner, database = Aligner("BLOSUM62", gap_open=OPEN, gap_extend=EXTEND), Database(targets)
    order = np.argsort(pairs[:, 0], kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(pairs[order, 0])) + 1) if len(pairs) else ():
        chosen = database.extract(pairs[rows, 1].tolist())
        found = aligner.align(queries[int(pairs[rows[0], 0])], chosen, mode=mode, algorithm="sw")
        yield rows, sorted(found, key=lambda result: result.target_index)


def _told(number: int, target_number: int, result: Any) -> Alignment:
    columns = result.alignment  # M: the same residue, X: another, I and D: gaps
    query_share = (result.query_end - result.query_start + 1) / result.query_length
    target_share = (result.target_end - result.target_start + 1) / result.target_length
    coverage = target_share if result.target_length < result.query_length else query_share
    return Alignment(number, target_number, columns.count("M") / len(columns), coverage)


def _aligner() -> PairwiseAligner:
    from Bio.Align import PairwiseAligner, substitution_matrices

    aligner = PairwiseAligner(mode="local", substitution_matrix=substitution_matrices.load("BLOSUM62"))
    aligner.open_gap_score, aligner.extend_gap_score = -OPEN, -EXTEND
    return aligner


def _aligned(aligner: PairwiseAligner, number: int, target_number: int, query: str, target: str) -> Alignment:
    found = aligner.align(query, target)[0]
    counts = found.counts()
    n_columns = counts.identities + counts.mismatches + counts.gaps
    shorter = int(len(target) < len(query))
    blocks = found.aligned[shorter]
    coverage = float(blocks[-1][1] - blocks[0][0]) / min(len(query), len(target))
    return Alignment(number, target_number, counts.identities / n_columns, coverage)
