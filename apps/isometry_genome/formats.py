"""Predictions in the field's own formats, whole or absent: BED of verdicts and genes, GFF3 of genes, bedGraph and
bigWig of tracks."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from isometry_data.genomes import around
from isometry_data.intervals import Binned, Interval, write_bed, write_bedgraph
from isometry_data.tracks import write_bigwig
from isometry_data.written_whole import written_whole

from isometry_genome.dataset import Sequences
from isometry_genome.gene_calls import Call, Called
from isometry_genome.genes import IN_PIECES
from isometry_genome.runs import Run, runs
from isometry_genome.windows import Stretch

FEATURES = (".gff3", ".gff")
BIG = (".bw", ".bigwig")
SIGNALS = (".bedgraph", *BIG)
SCORE = 1000  # of probability 1, as BED has it
OF_N = "(N alone)"  # what is counted in place of a class

Rows = list[dict[str, Any]]


def on_line(interval: Interval, lengths: Mapping[str, int]) -> Iterator[Interval]:
    """As BED has it, which knows lines alone, where no end is past the length: across the origin of a circle in two,
    and the whole circle once where the interval goes around it."""
    n = lengths[interval.chrom]
    for start, end in [(0, n)] if len(interval) >= n else around(interval.start, interval.end, n):
        yield replace(interval, start=start, end=end)


def write_verdicts(out: Path, rows: Iterable[dict[str, Any]], lengths: Mapping[str, int]) -> Rows:
    """A line for each window: its most probable class, and 1000 times the probability; how many windows of each class
    there were on each sequence. Those of N alone are counted, and have no line."""
    counts: Counter[tuple[str, str]] = Counter()

    def told() -> Iterator[Interval]:
        for r in rows:
            name = r["class"] if r["unknown"] < 1 else OF_N
            counts[r["chrom"], name] += 1
            if name == OF_N:
                continue
            whole = Interval(r["chrom"], r["start"], r["end"], r["strand"], name, round(SCORE * r[f"p_{name}"]))
            yield from on_line(whole, lengths)

    write_bed(out, told())
    return [{"chrom": chrom, "class": name, "windows": n} for (chrom, name), n in counts.items()]


def write_runs(out: Path, parts: Iterable[Stretch], names: Sequence[str], lengths: Mapping[str, int]) -> Rows:
    """A line for each run of bases of one class; of genes in pieces one for each piece on its strand, none between."""
    is_genes = tuple(names) == IN_PIECES
    counts: dict[tuple[int, str], int] = {}

    def told() -> Iterator[Interval]:
        for run in runs(parts):
            place = (run.record, run.chrom)
            counts.setdefault(place, 0)
            if not is_genes or run.kind:
                counts[place] += 1
                yield from on_line(_interval(run, names, is_genes), lengths)

    write_bed(out, told())
    return [{"record": record, "chrom": chrom, "written": n} for (record, chrom), n in counts.items()]


def _interval(run: Run, names: Sequence[str], is_genes: bool) -> Interval:
    name, strand = ("gene", ".+-"[run.kind]) if is_genes else (names[run.kind], ".")
    return Interval(run.chrom, run.start, run.end, strand, name, round(SCORE * run.probability))


def write_genes(out: Path, found: Iterable[Called], sequences: Sequences) -> Rows:
    """A line for each gene: its place, and 1000 times the mean probability of its bases. Of one across the origin of a
    circle two, which share a name that no other gene has."""
    counts: Rows = []

    def told() -> Iterator[Interval]:
        for own in found:
            counts.append(_count(own))
            lines = [line for pair in enumerate(own.calls, start=1) for line in _lines(own, *pair, sequences)]
            yield from sorted(lines, key=lambda line: (line.start, line.end))

    write_bed(out, told())
    return counts


def _lines(own: Called, number: int, call: Call, sequences: Sequences) -> Iterator[Interval]:
    is_across = call.gene.end > sequences.lengths[own.chrom]
    name, score = _name(own, number) if is_across else "gene", round(SCORE * call.probability)
    gene = Interval(own.chrom, call.gene.start, call.gene.end, call.strand, name, score)
    return on_line(gene, sequences.lengths)


def _name(own: Called, number: int) -> str:
    return f"gene_{own.record}_{number}"


def _count(own: Called) -> dict[str, Any]:
    return {"record": own.record, "chrom": own.chrom, "written": len(own.calls)}


def write_features(out: Path, found: Iterable[Called], sequences: Sequences) -> Rows:
    """GFF3, which counts from 1 and includes the end: a CDS for each gene, and its evidence in nats as the score. A
    circle is told to be one, and a gene across its origin ends past its length."""
    counts: Rows = []
    with written_whole(out) as stream:
        stream.write("##gff-version 3\n")
        for own in found:
            if own.chrom not in {row["chrom"] for row in counts}:
                stream.write(_landmark(own.chrom, sequences))
            counts.append(_count(own))
            for number, call in enumerate(own.calls, start=1):
                place = f"{call.gene.start + 1}\t{call.gene.end}\t{call.evidence:.1f}\t{call.strand}\t0"
                stream.write(f"{quote(own.chrom)}\tisometry\tCDS\t{place}\tID={_name(own, number)}\n")
    return counts


def _landmark(chrom: str, sequences: Sequences) -> str:
    """Where a sequence ends, and whether it ends there."""
    name, n = quote(chrom), sequences.lengths[chrom]
    told = f"##sequence-region {name} 1 {n}\n"
    circle = f"{name}\tisometry\tregion\t1\t{n}\t.\t+\t.\tID={name};Is_circular=true\n"
    return told + circle if sequences.is_circle(chrom) else told


# Tracks


def check_signals(out: Path) -> None:
    """Raises ValueError or OSError where what would be predicted could not be written."""
    if out.suffix in BIG and importlib.util.find_spec("pyBigWig") is None:
        raise ValueError(f"{out}: bigWig needs pyBigWig; pip install 'isometry[genome]', or choose .bedgraph")
    if not os.access(out.parent, os.W_OK):
        raise PermissionError(f"{out}: not written (Permission denied); choose a folder you may write to")


class _Kept(NamedTuple):
    """A stretch whose values are on disk."""

    chrom: str
    start: int
    end: int
    first: int  # cell


def write_signals(
    out: Path, parts: Iterable[Stretch], names: Sequence[str], size: int, lengths: Mapping[str, int]
) -> Rows:
    """A file for each track: `out`, or where there are several `name.track.bw`. Values wait in a temporary file."""
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        kept, means = _spooled(spool, parts, len(names))
        n_cells = sum(-(-(part.end - part.start) // size) for part in kept)
        values = np.memmap(spool, dtype=np.float32, mode="r", shape=(n_cells, len(names)))
        rows = []
        for track, name in enumerate(names):
            file = out if len(names) == 1 else out.with_name(f"{out.stem}.{_plain(name)}{out.suffix}")
            _write_one(file, _binned(kept, values[:, track], size), lengths)
            rows.append({"track": name, "file": str(file), **means.of(track)})
        return rows


class _Means:
    """Over the known bins of each track."""

    def __init__(self, n_tracks: int):
        self._counts, self._sums = np.zeros(n_tracks, dtype=np.int64), np.zeros(n_tracks)

    def add(self, profile: np.ndarray) -> None:
        is_known = ~np.isnan(profile)
        self._counts += is_known.sum(0)
        self._sums += np.where(is_known, profile, 0).sum(0, dtype=np.float64)

    def of(self, track: int) -> dict[str, Any]:
        n = int(self._counts[track])
        return {"bins": n, "mean": float(self._sums[track] / n) if n else None}


def _spooled(spool: Any, parts: Iterable[Stretch], n_tracks: int) -> tuple[list[_Kept], _Means]:
    kept, means, first = [], _Means(n_tracks), 0
    for part in parts:
        assert part.profile is not None
        means.add(part.profile)
        spool.write(np.ascontiguousarray(part.profile, dtype=np.float32).tobytes())
        kept.append(_Kept(part.chrom, part.start, part.end, first))
        first += len(part.profile)
    spool.flush()
    return kept, means


def _binned(kept: list[_Kept], values: np.ndarray, size: int) -> Iterator[Binned]:
    for part in kept:
        n = -(-(part.end - part.start) // size)
        yield Binned(part.chrom, part.start, part.end, size, np.asarray(values[part.first : part.first + n]))


def _write_one(file: Path, stretches: Iterator[Binned], lengths: Mapping[str, int]) -> None:
    if file.suffix in BIG:
        write_bigwig(file, stretches, lengths)
    else:
        write_bedgraph(file, stretches)


def _plain(name: str) -> str:
    """A track's name as part of a file's name."""
    return re.sub(r"[^\w+-]+", "_", name)
