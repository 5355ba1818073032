"""Genes and other marked stretches of a genome, out of GFF3, GenBank and plain tables.

GFF3 and GenBank count from 1 and include the end; here everything is 0-based half-open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote

from isometry_data.genbank import read_circles, read_marked
from isometry_data.intervals import Interval
from isometry_data.text_files import lines_of, name_of

COLUMNS = ("chrom", "start0", "end", "type", "strand", "name")  # of a table
_GTF = re.compile(r'\s*\w+ "')  # its CDS ends before the stop codon, that of GFF3 with it
_STRANDS = {"+": "+", "-": "-", ".": ".", "?": ".", "1": "+", "-1": "-", "0": "."}


@dataclass(frozen=True, slots=True)
class Feature:
    """One stretch of a kind; a feature of several stretches (exons, across the origin of a circle) is several of these
    with one name, numbered along the sequence.
    """

    interval: Interval
    kind: str  # as the file says: gene, CDS, tRNA, ...
    name: str
    part: int = 1
    n_parts: int = 1


def read_features(path: str | os.PathLike[str], circles: Mapping[str, int] = MappingProxyType({})) -> list[Feature]:
    """The features of a GFF3, a GenBank file, or a table with the columns `COLUMNS`; all may be gzipped.

    Lines of a GFF3 with one ID are parts of one feature; on a circular sequence (`Is_circular=true`) an end past the
    length is a feature across the origin and becomes two parts. Names are the file's Name, gene, locus_tag or ID.

    Args:
        circles: lengths of sequences that are circles, beside those of which the file says so.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line.
    """
    lines, source = lines_of(path), name_of(path)
    found = _read(path, lines, source, circles)
    if not found:
        raise ValueError(f"{source}: no features in it")
    return found


def _read(path: str | os.PathLike[str], lines: list[str], source: str, circles: Mapping[str, int]) -> list[Feature]:
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("LOCUS"):
        return [feature for marked in read_marked(path) for feature in _parts(*_of_genbank(marked))]
    if tuple(first.split("\t")) == COLUMNS:
        return _table(lines, source)
    if first.startswith("##gff-version") and first.split()[-1].partition(".")[0] != "3":
        raise ValueError(f"{source}, line 1: {first!r}, expected GFF3; convert it")
    if first.startswith("##gff-version") or first.count("\t") == 8:
        return _gff3(lines, source, circles)
    raise ValueError(f"{source}, line 1: {first[:40]!r}, expected GFF3, GenBank, or the columns {' '.join(COLUMNS)}")


def circles_of(path: str | os.PathLike[str]) -> set[str]:
    """Names of the sequences that a GFF3 (`Is_circular=true`) or a GenBank file (`circular`) says to be circles."""
    lines, source = lines_of(path), name_of(path)
    if any(line.startswith("LOCUS") for line in lines[:1]):
        return read_circles(path)
    said = ((number, line) for number, line in enumerate(lines, start=1) if "Is_circular=true" in line)
    return {_gff3_line(text, f"{source}, line {number}").interval.chrom for number, text in said if text[0] != "#"}


class _Line(NamedTuple):
    """One feature line of a GFF3."""

    interval: Interval
    kind: str
    id: str
    name: str
    is_circle: bool  # a whole sequence that is a circle


def _gff3(lines: list[str], source: str, circles: Mapping[str, int]) -> list[Feature]:
    groups: dict[str, list[_Line]] = {}
    lengths = dict(circles)
    for number, text in enumerate(lines, start=1):
        if text.startswith("##FASTA") or text.startswith(">"):
            break
        if not text.strip() or text.startswith("#"):
            continue
        line = _gff3_line(text, f"{source}, line {number}")
        if line.is_circle:
            lengths[line.interval.chrom] = line.interval.end
        same = groups.setdefault(line.id or f"line {number}", [])
        if same and (same[0].kind, same[0].interval.chrom) != (line.kind, line.interval.chrom):
            was = same[0]
            raise ValueError(
                f"{line.interval.source}: ID {line.id!r} is a {line.kind} here and a {was.kind} in "
                f"{was.interval.source}; an ID may be given to one feature"
            )
        same.append(line)
    found: list[Feature] = []
    for group in groups.values():
        cut = [part for line in group for part in _around_origin(line.interval, lengths)]
        found += _parts(cut, group[0].kind, group[0].name)
    return found


def _gff3_line(text: str, where: str) -> _Line:
    cells = text.split("\t")
    if len(cells) != 9:
        raise ValueError(f"{where}: {len(cells)} columns, expected the 9 of GFF3, separated by tabs")
    try:
        start, end = int(cells[3]) - 1, int(cells[4])
    except ValueError:
        raise ValueError(f"{where}: {cells[3]!r}, {cells[4]!r}: expected start and end as whole numbers") from None
    if not 0 <= start < end:
        raise ValueError(f"{where}: start {cells[3]}, end {cells[4]}: expected 1 <= start <= end")
    if _GTF.match(cells[8]):
        raise ValueError(f"{where}: attributes {cells[8][:40]!r}, expected key=value; this is GTF, convert it to GFF3")
    pairs = (pair.partition("=") for pair in cells[8].strip().split(";") if pair.strip() not in ("", "."))
    said = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    name = next((said[key] for key in ("Name", "gene", "locus_tag", "ID") if said.get(key)), "")
    interval = Interval(unquote(cells[0]), start, end, _strand(cells[6], where), name, source=where)
    return _Line(interval, unquote(cells[2]), said.get("ID", ""), name, said.get("Is_circular") == "true")


def _around_origin(interval: Interval, lengths: dict[str, int]) -> list[Interval]:
    """The interval; in two where it runs across the origin of a circle."""
    length = lengths.get(interval.chrom, interval.end)
    if interval.end <= length:
        return [interval]
    if interval.end - interval.start > length or interval.start >= length:
        raise ValueError(f"{interval.source}: {interval} does not fit a circle of {length} bases")
    rest = (interval.strand, interval.name, interval.score, interval.source)
    return [
        Interval(interval.chrom, interval.start, length, *rest),
        Interval(interval.chrom, 0, interval.end - length, *rest),
    ]


def _of_genbank(marked) -> tuple[list[Interval], str, str]:
    parts = [
        Interval(marked.chrom, part.start, part.end, part.strand, marked.name, source=marked.source)
        for part in marked.parts
    ]
    return parts, marked.kind, marked.name


def _parts(intervals: Iterable[Interval], kind: str, name: str) -> list[Feature]:
    ordered = sorted(intervals, key=lambda interval: interval.start)
    return [Feature(part, kind, name, number, len(ordered)) for number, part in enumerate(ordered, start=1)]


def _table(lines: list[str], source: str) -> list[Feature]:
    found = []
    for number, text in enumerate(lines[1:], start=2):
        where, cells = f"{source}, line {number}", text.split("\t")
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{where}: {len(cells)} columns, expected {len(COLUMNS)}: {' '.join(COLUMNS)}")
        chrom, start, end, kind, strand, name = cells
        if not (start.isdigit() and end.isdigit() and int(start) < int(end)):
            raise ValueError(f"{where}: start {start!r}, end {end!r}: expected 0 <= start < end")
        name = "" if name == "." else name
        interval = Interval(chrom, int(start), int(end), _strand(strand, where), name, source=where)
        found.append(Feature(interval, kind, name))
    return found


def _strand(text: str, where: str) -> str:
    if text not in _STRANDS:
        raise ValueError(f"{where}: strand {text!r}, expected + - or .")
    return _STRANDS[text]
