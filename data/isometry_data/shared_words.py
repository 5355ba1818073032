"""Which sequences may be related: those that share words of a reduced alphabet near one diagonal.

A word is six residues, side by side or with the gaps of two patterns (spaced seeds: Ma, Tromp & Li, Bioinformatics 18,
440, 2002), in eleven classes of amino acids that replace each other (after Li, Fan, Wang & Wang, Protein Eng. 16, 323,
2003, and Murphy, Wallqvist & Levy, Protein Eng. 13, 149, 2000). A pair is a candidate if a stretch without gaps through
a shared word scores enough; in large searches only if two words lie within sixteen diagonals, BLAST's two-hit rule
(Altschul et al., Nucleic Acids Res. 25, 3389, 1997). Words of one or two classes (repeats) are left out; a word found
in many targets (tags, large families) is paired with the first of them alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

CLASSES = ("AST", "C", "DE", "FYW", "G", "H", "ILMV", "KR", "N", "P", "Q")
SEEDS = ((0, 1, 2, 3, 4, 5), (0, 1, 3, 6, 7, 10), (0, 3, 4, 7, 8, 11))  # which residues make a word
SPAN = 1 + max(place for seed in SEEDS for place in seed)
LEAST_CLASSES = 3  # in a word
MOST_SEEN = 100  # first places among the targets at which a word is looked at
MOST_CELLS = 1e13  # residues of queries x residues of targets up to which one shared word is enough, beyond it two
BAND = 16  # diagonals
REACH = 30  # residues before and after a hit
LEAST_SCORE = {1: 40, 2: 50}  # by shared words asked for: BLOSUM62 units of a stretch without gaps (40 are 21 bits)
BEYOND = -99  # ends a stretch
CHUNK = 100_000  # residues of queries at a time
BATCH = 20_000  # stretches scored at a time: they stay in the processor's cache


class Words(NamedTuple):
    """Every word of many sequences, sorted by word."""

    code: np.ndarray
    sequence: np.ndarray  # number of the sequence
    position: np.ndarray  # where in it the word begins


def words_of(sequences: Sequence[str], seed: Sequence[int] = SEEDS[0], first_number: int = 0) -> Words:
    """The words without unknown letters and with enough classes."""
    classes = np.full(256, -1, dtype=np.int64)
    for number, letters in enumerate(CLASSES):
        classes[list(letters.encode())] = number
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    residues = classes[np.frombuffer("".join(sequences).encode("latin-1", "replace"), dtype=np.uint8)]
    number = np.repeat(np.arange(len(sequences)), lengths)
    position = np.arange(len(residues)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    n_words = max(len(residues) - seed[-1], 0)
    code, n_classes, is_whole = np.zeros(n_words, np.int64), np.zeros(n_words, np.int64), np.ones(n_words, bool)
    seen = np.zeros(n_words, np.int64)  # bits of the classes met
    for step in seed:
        here = residues[step : step + n_words]
        code = code * len(CLASSES) + here
        is_whole &= here >= 0
        seen |= np.left_shift(1, np.maximum(here, 0))
    for bit in range(len(CLASSES)):
        n_classes += seen >> bit & 1
    kept = np.flatnonzero(is_whole & (number[:n_words] == number[seed[-1] :]) & (n_classes >= LEAST_CLASSES))
    kept = kept[np.argsort(code[kept], kind="stable")]
    return Words(code[kept], number[kept] + first_number, position[kept])


def candidates(queries: Sequence[str], targets: Sequence[str], *, is_same: bool = False) -> np.ndarray:
    """[n, 3] query, target, score of the best stretch without gaps found; best first, each pair once.

    `is_same`: both are the same list; the second of a pair comes before the first, none is paired with itself.
    """
    segments = Segments(queries, targets)
    n_cells = sum(map(len, queries)) * sum(map(len, targets)) / (2 if is_same else 1)
    least_hits = 1 if n_cells <= MOST_CELLS else 2
    parts = []
    for seed in SEEDS:
        index = words_of(targets, seed)
        parts += [
            _matches(words_of(queries[a:b], seed, a), index, segments, is_same, least_hits) for a, b in _chunks(queries)
        ]
    found = _best_of_pairs(np.concatenate([np.empty((0, 3), np.int64), *parts]))
    return found[np.argsort(-found[:, 2], kind="stable")]


def _chunks(sequences: Sequence[str]) -> Iterator[tuple[int, int]]:
    ends = np.cumsum([len(sequence) for sequence in sequences])
    start = 0
    while start < len(sequences):
        done = ends[start - 1] if start else 0
        end = max(int(np.searchsorted(ends, done + CHUNK, side="right")), start + 1)
        yield start, end
        start = end


def _matches(words: Words, index: Words, segments: Segments, is_same: bool, least_hits: int) -> np.ndarray:
    low, high = np.searchsorted(index.code, words.code, "left"), np.searchsorted(index.code, words.code, "right")
    known = np.flatnonzero(high > low)
    count = np.minimum(high - low, MOST_SEEN)[known]
    of_query = np.repeat(known, count)
    of_target = np.arange(len(of_query)) + np.repeat(low[known] - (np.cumsum(count) - count), count)
    if is_same:
        once = words.sequence[of_query] > index.sequence[of_target]  # any with the first ones of a large family
        of_query, of_target = of_query[once], of_target[once]
    query, target = words.sequence[of_query], index.sequence[of_target]
    at, there = words.position[of_query], index.position[of_target]
    if least_hits == 1:
        hits = _seconded(query, target, there - at, 1, 1)
    else:  # two tilings: the edge of a band hides nothing
        tilings = [_seconded(query, target, there - at + shift, BAND, least_hits) for shift in (0, BAND // 2)]
        hits = np.concatenate(tilings)
    query, target = query[hits], target[hits]
    score = segments.scores(query, target, at[hits], there[hits])
    good = np.flatnonzero(score >= LEAST_SCORE[least_hits])
    found = np.stack([query[good], target[good], score[good]], axis=1)
    return _best_of_pairs(found)


def _seconded(
    query: np.ndarray, target: np.ndarray, diagonal: np.ndarray, n_diagonals: int, least_hits: int
) -> np.ndarray:
    """Numbers of hits, one for each pair and band of so many diagonals that has enough of them."""
    if not len(query):
        return np.empty(0, np.int64)
    band = diagonal // n_diagonals
    width, n_targets = band.max() - band.min() + 1, target.max() + 1
    key = (query * n_targets + target) * width + band - band.min()
    _, first, counts = np.unique(key, return_index=True, return_counts=True)
    return first[counts >= least_hits]


def _best_of_pairs(found: np.ndarray) -> np.ndarray:
    found = found[np.lexsort((-found[:, 2], found[:, 1], found[:, 0]))]
    is_first = np.ones(len(found), dtype=bool)
    is_first[1:] = (found[1:, :2] != found[:-1, :2]).any(axis=1)
    return found[is_first]


class Segments:
    """Scores of stretches without gaps along the diagonal of a hit."""

    def __init__(self, queries: Sequence[str], targets: Sequence[str]) -> None:
        matrix, letters = _blosum()
        self._scores, width = matrix.ravel(), np.uint16(len(matrix))
        query, self._query_start = _joined(queries, letters, len(matrix) - 1)
        target, self._target_start = _joined(targets, letters, len(matrix) - 1)
        self._query, self._target = query.astype(np.uint16) * width, target.astype(np.uint16)

    def scores(self, query: np.ndarray, target: np.ndarray, at: np.ndarray, there: np.ndarray) -> np.ndarray:
        """[n] the best stretch's BLOSUM62 score within `REACH` residues of each hit."""
        found = [
            self._scored(query[k : k + BATCH], target[k : k + BATCH], at[k : k + BATCH], there[k : k + BATCH])
            for k in range(0, len(query), BATCH)
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _scored(self, query: np.ndarray, target: np.ndarray, at: np.ndarray, there: np.ndarray) -> np.ndarray:
        first = self._query_start[query] + at - REACH
        second = self._target_start[target] + there - REACH
        stretch, best = (np.zeros(len(first), dtype=np.int16) for _ in range(2))
        for _ in range(2 * REACH + SPAN):  # Kadane's recursion, a column of all hits at a time
            stretch += self._scores[self._query[first] + self._target[second]]
            np.maximum(stretch, 0, out=stretch)
            np.maximum(best, stretch, out=best)
            first += 1
            second += 1
        return best.astype(np.int64)


def _blosum() -> tuple[np.ndarray, np.ndarray]:
    """BLOSUM62 with a last row for the ends of sequences, and the row of each byte."""
    from Bio.Align import substitution_matrices

    known = substitution_matrices.load("BLOSUM62")
    alphabet = "".join(known.alphabet)  # type: ignore[attr-defined]
    size = len(alphabet)
    matrix = np.full((size + 1, size + 1), BEYOND, dtype=np.int8)
    matrix[:size, :size] = np.array(known)
    rows = np.full(256, alphabet.index("X"), dtype=np.uint8)
    rows[list(alphabet.encode())] = np.arange(size)
    return matrix, rows


def _joined(sequences: Sequence[str], rows: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """All residues in one array with ends between them as long as the reach, and where each sequence starts."""
    room = np.full(REACH + SPAN, end, dtype=np.uint8)
    parts, starts, length = [room, room], [], 2 * len(room)
    for sequence in sequences:
        starts.append(length)
        parts += [rows[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)], room]
        length += len(sequence) + len(room)
    return np.concatenate(parts), np.array(starts, dtype=np.int64)
