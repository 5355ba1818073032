"""Gene structure as a class of each base, on both strands, and back from classes to genes with exact ends.

Of a gene on the plus strand the first base is `start+`, the last (of the stop codon) `stop+`, the rest `gene+`; on the
minus strand likewise, read on that strand. The ends win where genes overlap, so that neighbours stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from isometry_data.annotations import Feature

CLASSES = ("between", "gene+", "start+", "stop+", "gene-", "start-", "stop-")
ON_OTHER_STRAND = (0, 4, 5, 6, 1, 2, 3)
CODING = (0, 1, 1, 1, 2, 2, 2)
"""Each class as nothing, plus strand, minus strand."""
STARTS, STOPS = (b"ATG", b"GTG", b"TTG"), (b"TAA", b"TAG", b"TGA")
"""Of genetic code 11 (bacteria), the common ones."""
SHORTEST = 90  # bases


class Gene(NamedTuple):
    """[start, end) on a window, 0-based, from start codon to stop codon whatever the strand."""

    start: int
    end: int
    is_minus: bool


def labels(features: Iterable[Feature], lengths: Mapping[str, int]) -> dict[str, np.ndarray]:
    """By sequence, [length] int8 class of each base. A gene in parts begins in the first and stops in the last."""
    found = {chrom: np.zeros(length, dtype=np.int8) for chrom, length in lengths.items()}
    features = [feature for feature in features if feature.interval.chrom in found]
    for feature in features:
        at = feature.interval
        found[at.chrom][at.start : at.end] = 4 if at.strand == "-" else 1
    for feature in features:
        at, offset = feature.interval, 3 if feature.interval.strand == "-" else 0
        if feature.part == 1:
            found[at.chrom][at.start] = 6 if offset else 2
        if feature.part == feature.n_parts:
            found[at.chrom][at.end - 1] = 5 if offset else 3
    return found


def genes_of(classes: np.ndarray) -> set[Gene]:
    """The genes that lie wholly in a window, from the true classes [length]: each stop belongs to the nearest start."""
    plus = _paired(np.flatnonzero(classes == 2), np.flatnonzero(classes == 3))
    n = len(classes)
    minus = _paired(n - 1 - np.flatnonzero(classes == 5)[::-1], n - 1 - np.flatnonzero(classes == 6)[::-1])
    return {Gene(a, b + 1, False) for a, b in plus} | {Gene(n - 1 - b, n - a, True) for a, b in minus}


def _paired(starts: np.ndarray, stops: np.ndarray) -> list[tuple[int, int]]:
    """Each start with the first stop behind it that is in frame."""
    found = []
    for start in starts.tolist():
        behind = stops[(stops > start) & ((stops - start) % 3 == 2)]
        if len(behind):
            found.append((start, int(behind[0])))
    return found


def found_genes(probabilities: np.ndarray, letters: np.ndarray, least: float = 0.5) -> set[Gene]:
    """Genes that the probabilities [length, 7] and the bases (upper-case ASCII) agree upon.

    Between two stops in frame there is at most one gene: it ends with the stop, and begins at the start codon whose
    start and whose bases from there on are the most probable; it counts if its bases have a mean probability of
    `least` or more.
    """
    n = len(letters)
    found = {Gene(a, b, False) for a, b in _one_strand(probabilities[:, :4], letters, least)}
    other = _one_strand(probabilities[::-1][:, [0, 4, 5, 6]], _complement(letters), least)
    return found | {Gene(n - b, n - a, True) for a, b in other}


def _one_strand(probabilities: np.ndarray, letters: np.ndarray, least: float) -> list[tuple[int, int]]:
    is_start, is_stop = (_codons(letters, codons) for codons in (STARTS, STOPS))
    coding = probabilities[:, 1:].sum(1)
    evidence = np.log(np.clip(coding, 1e-4, 1)) - np.log(np.clip(1 - coding, 1e-4, 1))
    sums = np.concatenate([[0.0], evidence.cumsum()])
    ends = np.log(np.clip(probabilities[:, 2], 1e-6, 1))
    found = []
    for frame in range(3):
        last = frame
        for stop in np.flatnonzero(is_stop[frame::3]) * 3 + frame:
            starts = np.arange(last, stop, 3)
            starts = starts[is_start[starts] & (stop + 3 - starts >= SHORTEST)]
            last = stop + 3
            if not len(starts):
                continue
            start = starts[np.argmax(sums[stop] - sums[starts] + START_WEIGHT * ends[starts])]
            if coding[start : stop + 3].mean() >= least:
                found.append((int(start), int(stop + 3)))
    return found


START_WEIGHT = 4.0  # of a start's log-probability beside that of the bases behind it, which are not independent


def _codons(letters: np.ndarray, codons: tuple[bytes, ...]) -> np.ndarray:
    """[length] whether one of the codons begins here."""
    number = np.zeros(len(letters), dtype=np.int64)
    number[: len(letters) - 2] = (
        letters[:-2].astype(np.int64) << 16 | letters[1:-1].astype(np.int64) << 8 | letters[2:].astype(np.int64)
    )
    return np.isin(number, [int.from_bytes(codon, "big") for codon in codons])


_OTHER = np.full(256, ord("N"), dtype=np.uint8)
_OTHER[[ord(c) for c in "ACGT"]] = [ord(c) for c in "TGCA"]


def _complement(letters: np.ndarray) -> np.ndarray:
    return _OTHER[letters][::-1]


def long_orfs(letters: np.ndarray, shortest: int = 300) -> set[Gene]:
    """The baseline: between two stops in frame, from the first start codon on, wherever that is long enough."""
    n = len(letters)

    def one(own: np.ndarray) -> list[tuple[int, int]]:
        is_start, is_stop = (_codons(own, codons) for codons in (STARTS, STOPS))
        found = []
        for frame in range(3):
            last = frame
            for stop in np.flatnonzero(is_stop[frame::3]) * 3 + frame:
                starts = np.arange(last, stop, 3)
                starts = starts[is_start[starts]]
                if len(starts) and stop + 3 - starts[0] >= shortest:
                    found.append((int(starts[0]), int(stop + 3)))
                last = stop + 3
        return found

    return {Gene(a, b, False) for a, b in one(letters)} | {
        Gene(n - b, n - a, True) for a, b in one(_complement(letters))
    }
