"""Where in the full sequence the residues stand that a structure shows; the rest are missing from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNKNOWN = "X"
LONGEST_GAP = 300  # residues; a larger jump in the numbers is a way of numbering (fusions, domains), not a loop


class Placement(NamedTuple):
    """The full sequence and the place in it of each residue seen."""

    sequence: str
    places: np.ndarray  # [n_seen] ascending


class _Segment(NamedTuple):
    """Residues that follow each other by peptide bonds."""

    letters: str
    first_number: int
    last_number: int


def placed_in(full: str, seen: str, numbers: Sequence[int], joined: Sequence[bool]) -> Placement | None:
    """The places at which every unbroken stretch of residues is found letter by letter, or None if there is none.

    Args:
        full: the sequence that was in the experiment (SEQRES); X in it, or in what is seen, agrees with any letter.
        numbers: of each residue seen; where several ways are open, the gaps that the numbers tell decide.
        joined: of each residue, whether a peptide bond leads to it from the one seen before.
    """
    segments = _segments(seen, numbers, joined)
    starts = _best_starts(full, segments)
    if starts is None:
        return None
    places = [np.arange(start, start + len(s.letters)) for start, s in zip(starts, segments, strict=True)]
    return Placement(full, np.concatenate(places))


def aligned_to(full: str, seen: str) -> Placement | None:
    """The best alignment where letters differ (a file that contradicts itself); None if fewer than half agree."""
    from Bio.Align import PairwiseAligner

    aligner = PairwiseAligner(mode="global", match_score=2, mismatch_score=-1)
    aligner.open_gap_score, aligner.extend_gap_score = -3, -0.1
    aligner.open_end_gap_score = aligner.extend_end_gap_score = -0.1
    places = np.full(len(seen), -1)
    for (start, end), (seen_start, seen_end) in zip(*aligner.align(full, seen)[0].aligned, strict=True):
        places[seen_start:seen_end] = np.arange(start, end)
    agree = [full[place] == letter for place, letter in zip(places, seen, strict=True) if place >= 0]
    if sum(agree) < len(seen) / 2 or (places < 0).any():
        return None
    return Placement(full, places)


def numbered(seen: str, numbers: Sequence[int], joined: Sequence[bool]) -> Placement:
    """The full sequence as the numbers tell it: X for each number left out at a break of the chain.

    A jump of more than `LONGEST_GAP` counts as one missing residue. Ends that are missing cannot be known.
    """
    letters, places = [], []
    for k, letter in enumerate(seen):
        if k and not joined[k]:
            n_missing = numbers[k] - numbers[k - 1] - 1
            letters += [UNKNOWN] * (n_missing if 0 < n_missing <= LONGEST_GAP else int(n_missing > 0))
        places.append(len(letters))
        letters.append(letter)
    return Placement("".join(letters), np.array(places, dtype=np.int64))


def _segments(seen: str, numbers: Sequence[int], joined: Sequence[bool]) -> list[_Segment]:
    starts = [k for k in range(len(seen)) if k == 0 or not joined[k]]
    ends = [*starts[1:], len(seen)]
    return [_Segment(seen[a:b], numbers[a], numbers[b - 1]) for a, b in zip(starts, ends, strict=True)]


def _best_starts(full: str, segments: list[_Segment]) -> list[int] | None:
    """One start for each segment, in order without overlap, such that the gaps differ least from the numbers'."""
    best: dict[int, tuple[int, list[int]]] = {}  # where the last segment starts -> (disagreement, all starts)
    for k, segment in enumerate(segments):
        candidates = _occurrences(full, segment.letters)
        if k == 0:
            best = {start: (0, [start]) for start in candidates}
            continue
        before = segments[k - 1]
        gap = segment.first_number - before.last_number
        grown: dict[int, tuple[int, list[int]]] = {}
        for start in candidates:
            ways = [
                (cost + abs(start - (last + len(before.letters) - 1) - gap), starts)
                for last, (cost, starts) in best.items()
                if last + len(before.letters) <= start
            ]
            if ways:
                cost, starts = min(ways, key=lambda way: way[0])
                grown[start] = (cost, [*starts, start])
        best = grown
    return min(best.values(), key=lambda way: way[0])[1] if best else None


def _occurrences(full: str, letters: str) -> list[int]:
    if UNKNOWN not in full and UNKNOWN not in letters:
        starts, at = [], full.find(letters)
        while at >= 0:
            starts.append(at)
            at = full.find(letters, at + 1)
        return starts
    there, here = np.frombuffer(full.encode(), np.uint8), np.frombuffer(letters.encode(), np.uint8)
    if len(here) > len(there):
        return []
    windows = np.lib.stride_tricks.sliding_window_view(there, len(here))
    any_letter = ord(UNKNOWN)
    return np.flatnonzero(((windows == here) | (windows == any_letter) | (here == any_letter)).all(axis=1)).tolist()
