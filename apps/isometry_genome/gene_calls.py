"""From probabilities of bases to genes with exact ends: the reading frames that together have the most evidence.

A reading frame's evidence is the sum, over its bases, of the log-odds that the base is coding on this strand in this
frame, and a multiple of the log-odds that its first base is a start. For each stop codon the best start is taken, and
of all of these the subset with the greatest sum in which neighbours share few bases: weighted interval scheduling
(Kleinberg & Tardos 2005, Algorithm Design, section 6.1). Both strands are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from isometry_data.bases import reverse_complement

from isometry_genome.genes import MINUS, SHORTEST, STARTS, Gene, first_stops, reading_frames
from isometry_genome.letters import ascii_of, codes_of

if TYPE_CHECKING:
    from isometry_genome.dataset import Sequences
    from isometry_genome.windows import Stretch

LEAST = 1e-4
"""A probability is taken to be no closer to 0 or 1: no single base decides."""
SHARED = 60
"""Bases that neighbouring genes may share; fewer than the shortest gene has."""


class Rule(NamedTuple):
    """What makes a reading frame a gene; the numbers are those that `docs/genomes.py genes` chose for K-12 held out, on
    stretches of the other two genomes that validate."""

    start: float = 512.0
    """Weight of the log-odds of the start beside those of the bases, which are not independent."""
    base: float = -1.5
    """Subtracted from the log-odds of each base."""
    least: float = 1400.0
    """Sum that a gene has at least."""
    shortest: int = SHORTEST


class Call(NamedTuple):
    gene: Gene
    evidence: float
    """In nats, above the least."""
    probability: float
    """That a base of the gene is coding in its frame, the mean over its bases."""

    @property
    def strand(self) -> str:
        return "-" if self.gene.is_minus else "+"


class Called(NamedTuple):
    """The genes of one place, on the positions of its sequence."""

    record: int
    chrom: str
    calls: list[Call]


class _Frames(NamedTuple):
    """Reading frames, [n] each, on the plus strand's positions."""

    starts: np.ndarray
    ends: np.ndarray
    is_minus: np.ndarray
    evidence: np.ndarray


def evidence_of(probabilities: np.ndarray) -> np.ndarray:
    """[length, 8] log-odds, from probabilities of `genes.CLASSES`: of a start and of each position of a codon, on the
    plus and then on the minus strand. A start is a first position, too."""
    p = probabilities.astype(np.float32)
    firsts = p[:, [1, 1 + MINUS]] + p[:, [2, 2 + MINUS]]
    sides = [np.column_stack([p[:, 1 + m], firsts[:, i], p[:, 3 + m : 5 + m]]) for i, m in enumerate((0, MINUS))]
    odds = np.concatenate(sides, 1).clip(LEAST, 1 - LEAST)
    return (np.log(odds) - np.log1p(-odds)).astype(np.float16)


def called(evidence: np.ndarray, letters: np.ndarray, rule: Rule = Rule()) -> list[Call]:  # noqa: B008 - never changed
    """The genes of a stretch, by position.

    Args:
        evidence: [length, 8], `evidence_of`.
        letters: [length] upper-case ASCII.
    """
    frames = _frames(evidence, letters, rule)
    return _calls(frames, schedule(frames.starts, frames.ends, frames.evidence), evidence)


def called_on_circle(evidence: np.ndarray, letters: np.ndarray, rule: Rule = Rule()) -> list[Call]:  # noqa: B008
    """As `called`, of a whole circle: a gene across its origin ends past its length. Wherever the circle begins, the
    genes are the same."""
    n, more = len(letters), first_stops(letters)
    letters, evidence = (np.concatenate([own, own[:more]]) for own in (letters, evidence))
    frames = _once(_frames(evidence, letters, rule), n)
    return _calls(frames, schedule_on_circle(frames.starts, frames.ends, frames.evidence, n), evidence)


def called_along(parts: Iterable[Stretch], sequences: Sequences, rule: Rule = Rule()) -> Iterator[Called]:  # noqa: B008
    """The genes that lie wholly in each place, of the stretches that make it up, whose evidence is held. The ends of a
    place are ends, but not where it is a whole circle; a gene across the origin ends past the length."""
    for record, own in groupby(parts, key=lambda part: part.record):
        evidence, said = [], []
        for part in own:
            evidence.append(_evidence_of(part))
            said.append(part._replace(segments=None))
        first, last = said[0], said[-1]
        letters = ascii_of(codes_of(sequences.fetch(first.chrom, first.start, last.end)))
        joined, n = np.concatenate(evidence), sequences.lengths[first.chrom]
        evidence.clear()
        is_whole = sequences.is_circle(first.chrom) and len(letters) == n
        calls = (called_on_circle if is_whole else called)(joined, letters, rule)
        yield Called(record, first.chrom, sorted(_moved(call, first.start, n) for call in calls))


def _evidence_of(part: Stretch) -> np.ndarray:
    assert part.segments is not None
    return evidence_of(part.segments)


def _moved(call: Call, by: int, n: int) -> Call:
    """On a circle of n it begins within its length."""
    gene, start = call.gene, (call.gene.start + by) % n
    return call._replace(gene=gene._replace(start=start, end=start + gene.end - gene.start))


def _frames(evidence: np.ndarray, letters: np.ndarray, rule: Rule) -> _Frames:
    """The best frame of each stop codon, of both strands."""
    ahead = _of_strand(evidence[:, :4], letters, rule, False)
    back = _of_strand(evidence[::-1, 4:], reverse_complement(letters), rule, True)
    return _Frames(*(np.concatenate(pair) for pair in zip(ahead, back, strict=True)))


def _calls(frames: _Frames, chosen: np.ndarray, evidence: np.ndarray) -> list[Call]:
    rows = zip(*(values[chosen].tolist() for values in frames), strict=True)
    return [Call(gene := Gene(a, b, m), e, _mean_probability(evidence, gene)) for a, b, m, e in rows]


def _once(frames: _Frames, n: int) -> _Frames:
    """On a circle of n, of which the beginning was read a second time behind its end: each stop codon once, with the
    best of the starts found in either reading."""
    starts, n_bases = frames.starts % n, frames.ends - frames.starts
    stops = np.where(frames.is_minus, starts, frames.ends % n)
    best = best_of_each(2 * stops + frames.is_minus, frames.evidence)
    best = best[n_bases[best] <= n]
    return _Frames(starts[best], starts[best] + n_bases[best], frames.is_minus[best], frames.evidence[best])


def _of_strand(evidence: np.ndarray, letters: np.ndarray, rule: Rule, is_minus: bool) -> _Frames:
    """The best frame of each stop codon that has enough evidence."""
    starts, ends = reading_frames(letters, rule.shortest)
    sums = _frame_sums(evidence, rule.base)
    total = sums[starts % 3, ends] - sums[starts % 3, starts] + rule.start * evidence[starts, 0] - rule.least
    best = best_of_each(ends, total)
    best = best[total[best] > 0]
    starts, ends, total, n = starts[best], ends[best], total[best], len(letters)
    if is_minus:
        starts, ends = n - ends, n - starts
    return _Frames(starts, ends, np.full(len(starts), is_minus), total)


def _frame_sums(evidence: np.ndarray, base: float) -> np.ndarray:
    """[3, length + 1] for each frame the log-odds of its codon positions, summed up to each base."""
    place = np.arange(len(evidence))
    sums = np.zeros((3, len(evidence) + 1))
    for frame in range(3):
        sums[frame, 1:] = (evidence[place, 1 + (place - frame) % 3].astype(np.float64) - base).cumsum()
    return sums


def best_of_each(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each group the place of its greatest value, in the order of the groups."""
    order = np.lexsort((values, groups))
    is_last = np.append(groups[order][1:] != groups[order][:-1], True)[: len(order)]
    return order[is_last]


def schedule(starts: np.ndarray, ends: np.ndarray, values: np.ndarray, shared: int = SHARED) -> np.ndarray:
    """Places of the intervals with the greatest sum of values, of which neighbours share `shared` bases at most; by
    their ends. Values are positive."""
    order = np.lexsort((starts, ends))
    starts, ends, values = starts[order], ends[order], values[order].tolist()
    before = np.minimum(np.searchsorted(ends, starts + shared, side="right"), np.arange(len(order))).tolist()
    best = [0.0]
    for number, value in enumerate(values):
        best.append(max(best[-1], value + best[before[number]]))
    chosen, at = [], len(order)
    while at:
        if best[at] == best[at - 1]:
            at -= 1
        else:
            chosen.append(at - 1)
            at = before[at - 1]
    return order[chosen[::-1]]


def schedule_on_circle(
    starts: np.ndarray, ends: np.ndarray, values: np.ndarray, n: int, shared: int = SHARED
) -> np.ndarray:
    """As `schedule`, on a circle of n, where an interval across the origin ends past n; each is longer than `shared`,
    and none longer than n.

    The circle is cut where the fewest intervals lie, mostly none: either none of these is chosen, or one of them is the
    first.
    """
    n_bases, cut = ends - starts, _barest(starts, ends, n)
    turned = (starts - cut) % n
    is_across = turned + n_bases > n
    others = np.flatnonzero(~is_across)
    best = others[schedule(turned[others], (turned + n_bases)[others], values[others], shared)]
    for first in np.flatnonzero(is_across).tolist():
        turned = (starts - starts[first]) % n
        fits = (turned + shared >= n_bases[first]) & (turned + n_bases <= n + shared)
        others = np.flatnonzero(fits)
        chosen = others[schedule(turned[others], (turned + n_bases)[others], values[others], shared)]
        chosen = np.append(chosen, first)
        if values[chosen].sum() > values[best].sum():
            best = chosen
    return best


def _barest(starts: np.ndarray, ends: np.ndarray, n: int) -> int:
    """The first base of a circle on which the fewest intervals lie."""
    steps = np.zeros(n + 1, dtype=np.int32)
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends % n, -1)
    return int((steps[:n].cumsum() + (ends >= n).sum()).argmin())


def _mean_probability(evidence: np.ndarray, gene: Gene) -> float:
    own = evidence[gene.start : gene.end]
    own = own[::-1, 4:] if gene.is_minus else own[:, :4]
    odds = own[np.arange(len(own)), 1 + np.arange(len(own)) % 3].astype(np.float64)
    return float((1 / (1 + np.exp(-odds))).mean())


# A baseline


def longest_frames(letters: np.ndarray, shortest: int, codons: Sequence[bytes] = STARTS) -> set[Gene]:
    """From the first start codon to each stop codon; the longest first, whatever shares more than `SHARED` bases with
    one already taken left out."""
    n, found = len(letters), []
    for is_minus in (False, True):
        starts, ends = reading_frames(reverse_complement(letters) if is_minus else letters, shortest, codons)
        best = best_of_each(ends, ends - starts)
        pairs = zip(starts[best].tolist(), ends[best].tolist(), strict=True)
        found += [Gene(n - b, n - a, True) if is_minus else Gene(a, b, False) for a, b in pairs]
    taken, kept = np.zeros(n, dtype=bool), set()
    for gene in sorted(found, key=lambda gene: (gene.start - gene.end, gene)):
        if taken[gene.start : gene.end].sum() <= SHARED:
            taken[gene.start : gene.end] = True
            kept.add(gene)
    return kept


# Scores


def agreement(found: Iterable[Gene], true: Iterable[Gene]) -> Iterator[tuple[int, int, int]]:
    """Hits, true and found genes: with both ends exact; then with the stop codon exact."""
    found, true = set(found), set(true)
    yield len(found & true), len(true), len(found)
    stops, true_stops = ({(g.is_minus, g.start if g.is_minus else g.end) for g in own} for own in (found, true))
    yield len(stops & true_stops), len(true_stops), len(stops)
