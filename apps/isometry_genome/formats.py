"""Predictions in the field's own formats, whole or absent: BED of verdicts and genes, GFF3 of genes, bedGraph and
bigWig of tracks."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from isometry_data.intervals import Binned, Interval, write_bed, write_bedgraph
from isometry_data.tracks import write_bigwig
from isometry_data.written_whole import written_whole

from isometry_genome.gene_calls import Called
from isometry_genome.genes import IN_PIECES
from isometry_genome.runs import Run, runs
from isometry_genome.windows import Stretch

FEATURES = (".gff3", ".gff")
BIG = (".bw", ".bigwig")
SIGNALS = (".bedgraph", *BIG)
SCORE = 1000  # of probability 1, as BED has it

Rows = list[dict[str, Any]]


def write_verdicts(out: Path, rows: Rows) -> Rows:
    """A line for each window: its most probable class, and 1000 times the probability."""
    write_bed(
        out,
        (
            Interval(r["chrom"], r["start"], r["end"], r["strand"], r["class"], round(SCORE * r[f"p_{r['class']}"]))
            for r in rows
        ),
    )
    return rows


def write_runs(out: Path, parts: Iterable[Stretch], names: Sequence[str]) -> Rows:
    """A line for each run of bases of one class; of genes in pieces one for each piece on its strand, none between."""
    is_genes = tuple(names) == IN_PIECES
    counts: dict[tuple[int, str], int] = {}

    def told() -> Iterator[Interval]:
        for run in runs(parts):
            place = (run.record, run.chrom)
            counts.setdefault(place, 0)
            if not is_genes or run.kind:
                counts[place] += 1
                yield _interval(run, names, is_genes)

    write_bed(out, told())
    return [{"record": record, "chrom": chrom, "written": n} for (record, chrom), n in counts.items()]


def _interval(run: Run, names: Sequence[str], is_genes: bool) -> Interval:
    name, strand = ("gene", ".+-"[run.kind]) if is_genes else (names[run.kind], ".")
    return Interval(run.chrom, run.start, run.end, strand, name, round(SCORE * run.probability))


def write_genes(out: Path, found: Iterable[Called]) -> Rows:
    """A line for each gene: its place, and 1000 times the mean probability of its bases."""
    counts: Rows = []

    def told() -> Iterator[Interval]:
        for own in found:
            counts.append({"record": own.record, "chrom": own.chrom, "written": len(own.calls)})
            for call in own.calls:
                yield Interval(
                    own.chrom, call.gene.start, call.gene.end, call.strand, "gene", round(SCORE * call.probability)
                )

    write_bed(out, told())
    return counts


def write_features(out: Path, found: Iterable[Called], lengths: Mapping[str, int]) -> Rows:
    """GFF3, which counts from 1 and includes the end: a CDS for each gene, and its evidence in nats as the score."""
    counts: Rows = []
    with written_whole(out) as stream:
        stream.write("##gff-version 3\n")
        for own in found:
            if own.chrom not in {row["chrom"] for row in counts}:
                stream.write(f"##sequence-region {quote(own.chrom)} 1 {lengths[own.chrom]}\n")
            counts.append({"record": own.record, "chrom": own.chrom, "written": len(own.calls)})
            for number, call in enumerate(own.calls, start=1):
                place = f"{call.gene.start + 1}\t{call.gene.end}\t{call.evidence:.1f}\t{call.strand}\t0"
                stream.write(f"{quote(own.chrom)}\tisometry\tCDS\t{place}\tID=gene_{own.record}_{number}\n")
    return counts


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
        kept = _spooled(spool, parts)
        n_cells = sum(-(-(part.end - part.start) // size) for part in kept)
        values = np.memmap(spool, dtype=np.float32, mode="r", shape=(n_cells, len(names)))
        rows = []
        for track, name in enumerate(names):
            file = out if len(names) == 1 else out.with_name(f"{out.stem}.{_plain(name)}{out.suffix}")
            _write_one(file, _binned(kept, values[:, track], size), lengths)
            known = values[:, track][~np.isnan(values[:, track])]
            mean = float(known.mean()) if len(known) else None
            rows.append({"track": name, "file": str(file), "bins": len(known), "mean": mean})
        return rows


def _spooled(spool: Any, parts: Iterable[Stretch]) -> list[_Kept]:
    kept, first = [], 0
    for part in parts:
        assert part.profile is not None
        spool.write(np.ascontiguousarray(part.profile, dtype=np.float32).tobytes())
        kept.append(_Kept(part.chrom, part.start, part.end, first))
        first += len(part.profile)
    spool.flush()
    return kept


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
