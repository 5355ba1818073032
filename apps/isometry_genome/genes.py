"""Gene structure as a class of each base, on both strands; reading frames, and the genes among them.

Of genes without introns the classes are the three positions of a codon, which tell the reading frame, and the first
base of the start codon; the minus strand has classes of its own, read on that strand. The start wins where genes
overlap. Of genes in pieces it is only the strand that the bases lie on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from isometry_data.annotations import Feature
from isometry_data.bases import reverse_complement

CLASSES = ("between", "start+", "first+", "second+", "third+", "start-", "first-", "second-", "third-")
ON_OTHER_STRAND = (0, 5, 6, 7, 8, 1, 2, 3, 4)
CODING = (0, 1, 1, 1, 1, 2, 2, 2, 2)
"""Each class as nothing, plus strand, minus strand."""
MINUS = 4  # from a class of the plus strand to that of the minus strand
IN_PIECES = ("between", "gene+", "gene-")
SWAPS = {CLASSES: ON_OTHER_STRAND, IN_PIECES: (0, 2, 1)}
UNKNOWN = -1

STARTS, STOPS = (b"ATG", b"GTG", b"TTG"), (b"TAA", b"TAG", b"TGA")
"""Of genetic code 11 (bacteria), the common ones."""
SHORTEST = 90  # bases, with the stop codon


class Gene(NamedTuple):
    """[start, end) on a window, 0-based, from start codon to stop codon whatever the strand."""

    start: int
    end: int
    is_minus: bool


# Labels


def classes_for(features: Iterable[Feature]) -> tuple[str, ...]:
    """`CLASSES` where nine of ten features are whole codons in one piece, else `IN_PIECES`."""
    are_whole = [_is_whole(feature) for feature in features]
    return CLASSES if 10 * sum(are_whole) >= 9 * len(are_whole) else IN_PIECES


def labels(
    features: Iterable[Feature], lengths: Mapping[str, int], names: Sequence[str] = CLASSES
) -> dict[str, np.ndarray]:
    """By sequence, [length] int8 class of each base. Of `CLASSES`, bases of a gene whose frame nobody knows, because it
    is in pieces or no whole codons, are unknown (-1), and so are those of a gene whose strand nobody knows."""
    found = {chrom: np.zeros(length, dtype=np.int8) for chrom, length in lengths.items()}
    features = [feature for feature in features if feature.interval.chrom in found]
    for feature in sorted(features, key=_is_whole):
        at = feature.interval
        own, is_minus = found[at.chrom][at.start : at.end], at.strand == "-"
        if tuple(names) == IN_PIECES:
            own[:] = {"+": 1, "-": 2}.get(at.strand, UNKNOWN)
        else:
            own[:] = _codon_positions(len(own), is_minus) if _is_whole(feature) else UNKNOWN
    if tuple(names) == CLASSES:
        for at in (feature.interval for feature in features if _is_whole(feature)):
            found[at.chrom][at.end - 1 if at.strand == "-" else at.start] = 1 + MINUS * (at.strand == "-")
    return found


def _is_whole(feature: Feature) -> bool:
    at = feature.interval
    return feature.n_parts == 1 and (at.end - at.start) % 3 == 0 and at.strand != "."


def _codon_positions(n: int, is_minus: bool) -> np.ndarray:
    position = (np.arange(n) % 3).astype(np.int8)
    return 2 + MINUS + position[::-1] if is_minus else 2 + position


def genes_of(classes: np.ndarray, letters: np.ndarray) -> set[Gene]:
    """The genes that lie wholly in a window, from the true classes [length] of its upper-case letters: from each start
    to the first stop codon in frame."""
    return both_strands(classes == 1, classes == 1 + MINUS, letters)


def both_strands(is_start: np.ndarray, is_start_on_minus: np.ndarray, letters: np.ndarray) -> set[Gene]:
    """The reading frames that begin at the marked places."""
    n, found = len(letters), set()
    for is_minus, marked in ((False, is_start), (True, is_start_on_minus[::-1])):
        starts, ends = reading_frames(reverse_complement(letters) if is_minus else letters)
        pairs = zip(starts[marked[starts]].tolist(), ends[marked[starts]].tolist(), strict=True)
        found |= {Gene(n - b, n - a, True) if is_minus else Gene(a, b, False) for a, b in pairs}
    return found


def true_genes(features: Iterable[Feature], chrom: str, letters: np.ndarray) -> tuple[set[Gene], int]:
    """Of one sequence, the features that are reading frames; and how many are none: broken, in pieces, or with a rare
    start codon."""
    own = [feature for feature in features if feature.interval.chrom == chrom]
    named = {Gene(f.interval.start, f.interval.end, f.interval.strand == "-") for f in own if f.n_parts == 1}
    marks = np.zeros((2, len(letters)), dtype=bool)
    for gene in named:
        marks[int(gene.is_minus), gene.end - 1 if gene.is_minus else gene.start] = True
    found = named & both_strands(marks[0], marks[1], letters)
    return found, len(own) - len(found)


# Reading frames


def reading_frames(
    letters: np.ndarray, shortest: int = 0, codons: Sequence[bytes] = STARTS
) -> tuple[np.ndarray, np.ndarray]:
    """Every start codon of one strand [n] and the end [n] of the first stop codon in its frame; others are left out."""
    is_start, is_stop = (_marks(letters, own) for own in (codons, STOPS))
    found = []
    for frame in range(3):
        starts, stops = (np.flatnonzero(marks[frame::3]) * 3 + frame for marks in (is_start, is_stop))
        number = np.searchsorted(stops, starts)
        has_stop = number < len(stops)
        found.append(np.stack([starts[has_stop], stops[number[has_stop]] + 3]))
    starts, ends = np.concatenate(found, 1)
    is_long = ends - starts >= shortest
    return starts[is_long], ends[is_long]


def first_stops(letters: np.ndarray) -> int:
    """The length of the least beginning that has a stop codon in each frame of each strand; all where there is none."""
    on_minus = [reverse_complement(np.frombuffer(codon, dtype=np.uint8)).tobytes() for codon in STOPS]
    firsts = []
    for codons in (STOPS, on_minus):
        is_stop = _marks(letters, codons)
        firsts += [next(iter(np.flatnonzero(is_stop[frame::3]) * 3 + frame), len(letters)) for frame in range(3)]
    return min(int(max(firsts)) + 3, len(letters))


def _marks(letters: np.ndarray, codons: Sequence[bytes]) -> np.ndarray:
    """[length] whether one of the codons begins here."""
    found = np.zeros(len(letters), dtype=bool)
    for codon in codons:
        found[:-2] |= (letters[:-2] == codon[0]) & (letters[1:-1] == codon[1]) & (letters[2:] == codon[2])
    return found
