"""Stretches of a genome: BED in and out, bedGraph out, and the check that they lie on a genome.

0-based half-open everywhere, as BED is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from isometry_data.chromosome_names import unknown_name
from isometry_data.genomes import Genome
from isometry_data.text_files import lines_of, name_of
from isometry_data.written_whole import written_whole

STRANDS = ("+", "-", ".")


@dataclass(frozen=True, slots=True)
class Interval:
    """[start, end) of a sequence, 0-based."""

    chrom: str
    start: int
    end: int
    strand: str = "."
    name: str = ""
    score: float | None = None
    source: str = ""  # file and line, for messages

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}"

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Binned:
    """Values along a stretch, one for each bin of `bin` bases; the last bin may be shorter."""

    chrom: str
    start: int
    end: int
    bin: int
    values: np.ndarray  # [ceil((end - start) / bin)]; NaN: unknown


def read_bed(path: str | os.PathLike[str]) -> list[Interval]:
    """The intervals of a BED file (plain, gz, or `-`), of whose columns the first six are read.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line.
    """
    source, found = name_of(path), []
    for number, line in enumerate(lines_of(path), start=1):
        if line.strip() and not line.startswith(("#", "track", "browser")):
            found.append(_interval(line, f"{source}, line {number}"))
    if not found:
        raise ValueError(f"{source}: no intervals, expected BED: sequence, start, end")
    return found


def check_intervals(
    intervals: Sequence[Interval],
    genome: Genome | Mapping[str, int],
    *,
    is_sorted: bool = False,
    is_disjoint: bool = False,
) -> None:
    """Refuses intervals that do not lie on a genome (or on sequences of given lengths).

    On a circle of a genome an interval across the origin ends past the length, as in GFF3.

    Args:
        is_sorted: they must be sorted by start within each sequence, and a sequence must not come back.
        is_disjoint: no two may share a base, in whatever order they stand, on whatever strand.
    Raises:
        ValueError: one line: where the first wrong one stands, what is wrong, and how many are.
    """
    lengths, holder = (genome.lengths, str(genome.file)) if isinstance(genome, Genome) else (genome, "the genome")
    wrong = [(interval, said) for interval in intervals if (said := _misplaced(interval, lengths, holder))]
    if wrong and isinstance(genome, Genome):
        wrong = [(interval, said) for interval, said in wrong if not _is_across(interval, genome)]
    if not wrong and is_sorted:
        wrong = _unsorted(intervals)
    if not wrong and is_disjoint:
        wrong = _overlapping(intervals)
    if wrong:
        interval, said = wrong[0]
        where = f"{interval.source}: " if interval.source else ""
        rest = f" ({len(wrong)} of {len(intervals)} intervals are wrong)" if len(wrong) > 1 else ""
        raise ValueError(f"{where}{said}{rest}")


def write_bed(path: str | os.PathLike[str], intervals: Iterable[Interval]) -> None:
    """Six columns; a score that is None is written as 0, a name that is empty as `.`."""
    with written_whole(path) as stream:
        for i in intervals:
            score = "0" if i.score is None else format(i.score, ".9g")
            stream.write(f"{i.chrom}\t{i.start}\t{i.end}\t{i.name or '.'}\t{score}\t{i.strand}\n")


def write_bedgraph(path: str | os.PathLike[str], stretches: Iterable[Binned], header: str = "") -> None:
    """Four columns, one line for each known bin; neighbouring bins of one value share a line."""
    with written_whole(path) as stream:
        if header:
            stream.write(header.rstrip("\n") + "\n")
        for part in stretches:
            for start, end, value in runs_of(part):
                stream.write(f"{part.chrom}\t{start}\t{end}\t{value:.7g}\n")


def runs_of(part: Binned) -> list[tuple[int, int, float]]:
    """Start, end and value of each run of equal known bins."""
    values = np.asarray(part.values, dtype=np.float64)
    if len(values) != -(-(part.end - part.start) // part.bin):
        raise ValueError(f"{part.chrom}:{part.start}-{part.end}: {len(values)} bins of {part.bin} bases do not fill it")
    edges = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])) if len(values) else np.empty(0, int)
    starts = part.start + edges * part.bin
    ends = np.append(starts[1:], part.end)
    return [(int(a), int(b), float(v)) for a, b, v in zip(starts, ends, values[edges], strict=True) if not np.isnan(v)]


def _interval(line: str, where: str) -> Interval:
    cells = line.split("\t") if "\t" in line else line.split()
    if len(cells) < 3:
        raise ValueError(f"{where}: {len(cells)} columns, expected BED: sequence, start, end, separated by tabs")
    try:
        start, end = int(cells[1]), int(cells[2])
    except ValueError:
        raise ValueError(f"{where}: {cells[1]!r}, {cells[2]!r}: expected start and end as whole numbers") from None
    if not 0 <= start < end:
        raise ValueError(f"{where}: start {start}, end {end}: expected 0 <= start < end (0-based half-open)")
    strand = cells[5].strip() if len(cells) > 5 else "."
    if strand not in STRANDS:
        raise ValueError(f"{where}: strand {strand!r}, expected one of {' '.join(STRANDS)}")
    name = cells[3].strip() if len(cells) > 3 else ""
    return Interval(cells[0].strip(), start, end, strand, "" if name == "." else name, _score(cells, where), where)


def _score(cells: list[str], where: str) -> float | None:
    text = cells[4].strip() if len(cells) > 4 else "."
    try:
        return None if text in (".", "") else float(text)
    except ValueError:
        raise ValueError(f"{where}: score {text!r}, expected a number or '.'") from None


def _misplaced(interval: Interval, lengths: Mapping[str, int], holder: str) -> str:
    if interval.chrom not in lengths:
        return unknown_name(interval.chrom, lengths, holder)
    length = lengths[interval.chrom]
    if interval.start >= interval.end:
        return f"{interval}: start must be smaller than end (0-based half-open)"
    if interval.start < 0:
        return f"{interval}: begins before the sequence; positions count from 0"
    if interval.end > length:
        return f"{interval} ends {interval.end - length} past the end of {interval.chrom} ({length} bases in {holder})"
    return ""


def _is_across(interval: Interval, genome: Genome) -> bool:
    """Whether it runs across the origin of a circle, once at most."""
    length = genome.lengths.get(interval.chrom, 0)
    return 0 <= interval.start < length < interval.end <= interval.start + length and genome.is_circle(interval.chrom)


def _unsorted(intervals: Sequence[Interval]) -> list[tuple[Interval, str]]:
    wrong, seen = [], Counter[str]()
    for before, here in pairwise(intervals):
        seen[before.chrom] += 1
        if here.chrom == before.chrom and here.start < before.start:
            wrong.append((here, f"{here} stands behind {before}; sort the file (sort -k1,1 -k2,2n)"))
        elif here.chrom != before.chrom and here.chrom in seen:
            wrong.append((here, f"{here}: {here.chrom} comes a second time; sort the file (sort -k1,1 -k2,2n)"))
    return wrong


def _overlapping(intervals: Sequence[Interval]) -> list[tuple[Interval, str]]:
    wrong, reach = [], None
    for here in sorted(intervals, key=lambda interval: (interval.chrom, interval.start)):
        if reach is not None and here.chrom == reach.chrom and here.start < reach.end:
            at = f" ({reach.source})" if reach.source else ""
            wrong.append((here, f"{here} overlaps {reach}{at}; each base may be counted once: merge or remove one"))
        if reach is None or here.chrom != reach.chrom or here.end > reach.end:
            reach = here
    return wrong
