"""Local alignments of sequences that share words: our own search, where MMseqs2 is not installed.

Shared words propose pairs (`shared_words`), Biopython aligns them by Smith and Waterman with BLOSUM62, gaps 11 + 1, and
the score must have an E-value of 0.001 in a search of all targets (Karlin & Altschul 1990, λ 0.267, K 0.041, Altschul &
Gish 1996). Less sensitive than MMseqs2: of CB513's chains with a near copy among NetSurfP-2's training chains it finds
three quarters at 25 % identity, nearly nine in ten at 30 %, all but one of 34 at 40 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from isometry_data.protein_records import standard_letters
from isometry_data.shared_words import candidates

if TYPE_CHECKING:
    from Bio.Align import PairwiseAligner

LEAST_CHANCE = 1e-3  # E-value
MOST_TARGETS = 50  # of one query
LAMBDA, K = 0.267, 0.041  # BLOSUM62 with gaps 11 + 1


class Alignment(NamedTuple):
    """A query and a target (their numbers), and how alike they are."""

    query: int
    target: int
    identity: float  # identical residues over columns of the alignment, gaps included
    coverage: float  # share of the shorter sequence that is aligned


def alignments_by_words(queries: Sequence[str], targets: Sequence[str]) -> list[Alignment]:
    """The best local alignment of pairs that share words and score more than chance.

    Of one query only the `MOST_TARGETS` targets with the best stretch without gaps are aligned.
    """
    queries, targets = [standard_letters(q) for q in queries], [standard_letters(t) for t in targets]
    aligner = _aligner()
    database = sum(len(target) for target in targets)
    n_aligned, found = [0] * len(queries), []
    for query, target, _ in candidates(queries, targets).tolist():
        n_aligned[query] += 1
        if n_aligned[query] <= MOST_TARGETS:
            found.append(_aligned(aligner, queries[query], targets[target], query, target, database))
    return [alignment for alignment in found if alignment]


def linked_by_words(sequences: Sequence[str], identity: float, coverage: float) -> list[Alignment]:
    """Alignments that join the sequences into clusters: a pair that others have joined already is not aligned."""
    sequences = [standard_letters(sequence) for sequence in sequences]
    aligner, database = _aligner(), sum(len(sequence) for sequence in sequences)
    leader = list(range(len(sequences)))
    links = []
    for a, b, _ in candidates(sequences, sequences, is_same=True).tolist():
        one, other = _leader_of(leader, a), _leader_of(leader, b)
        if one == other:
            continue
        link = _aligned(aligner, sequences[a], sequences[b], a, b, database)
        if link and link.identity >= identity and link.coverage >= coverage:
            links.append(link)
            leader[other] = one
    return links


def _leader_of(leader: list[int], member: int) -> int:
    while leader[member] != member:
        leader[member] = leader[leader[member]]
        member = leader[member]
    return member


def _aligner() -> PairwiseAligner:
    from Bio.Align import PairwiseAligner, substitution_matrices

    aligner = PairwiseAligner(mode="local", substitution_matrix=substitution_matrices.load("BLOSUM62"))
    aligner.open_gap_score, aligner.extend_gap_score = -12, -1  # 11 + 1 for the first residue of a gap
    return aligner


def _aligned(
    aligner: PairwiseAligner, query: str, target: str, number: int, target_number: int, database: int
) -> Alignment | None:
    least = math.log(K * len(query) * database / LEAST_CHANCE) / LAMBDA
    if aligner.score(query, target) < least:
        return None
    found = aligner.align(query, target)[0]
    counts = found.counts()
    n_columns = counts.identities + counts.mismatches + counts.gaps
    shorter = int(len(target) < len(query))
    blocks = found.aligned[shorter]
    coverage = float(blocks[-1][1] - blocks[0][0]) / min(len(query), len(target))
    return Alignment(number, target_number, counts.identities / n_columns, coverage)
