"""GenBank flat files through Biopython: sequences, and features with their stretches."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from isometry_data.bases import EXPECTED, ascii_of, is_base
from isometry_data.text_files import name_of, text_of

_LENGTH = re.compile(r"^LOCUS\s+\S+\s+(\d+) bp", re.ASCII)


class Record(NamedTuple):
    letters: np.ndarray
    """uint8, upper case"""
    is_circle: bool


class Stretch(NamedTuple):
    """A part of a feature, 0-based half-open."""

    start: int
    end: int
    strand: str


class Feature(NamedTuple):
    """A feature as GenBank has it; `join` gives several parts, and so does a feature across a circle's origin."""

    chrom: str
    kind: str
    name: str
    parts: tuple[Stretch, ...]
    source: str


def read_sequences(path: str | os.PathLike[str]) -> dict[str, Record]:
    """The sequences by accession with version.

    Raises:
        ValueError: one line with file and line: cut off, no bases, fewer than LOCUS says, a letter that is no base,
            an accession given twice.
    """
    found: dict[str, Record] = {}
    for record, where, n_bases in _records(path, has_features=False):
        letters = ascii_of(str(record.seq)) if record.seq.defined else np.empty(0, dtype=np.uint8)
        if len(letters) != n_bases or not n_bases:
            raise ValueError(f"{where}: {len(letters)} bases below ORIGIN, expected the {n_bases} that LOCUS says")
        strange = np.flatnonzero(~is_base(letters))
        if strange.size:
            letter, at = chr(letters[strange[0]]), strange[0] + 1
            raise ValueError(f"{where}: base {at} is {letter!r}, expected {EXPECTED}")
        if record.id in found:
            raise ValueError(f"{where}: a second record {record.id!r}; remove one")
        found[record.id] = Record(letters, _is_circle(record))
    return found


def read_circles(path: str | os.PathLike[str]) -> set[str]:
    """The sequences that are circles."""
    return {record.id for record, _, _ in _records(path, has_features=False) if _is_circle(record)}


def read_marked(path: str | os.PathLike[str]) -> Iterator[Feature]:
    """Every feature, whose parts stand in the order of the sequence; parts in other records, and those without a
    length (`10^11`), are left out.

    Raises:
        ValueError: one line with file and line of the record: no GenBank, cut off, a location that cannot be read.
    """
    for record, where, _ in _records(path, has_features=True):
        for number, feature in enumerate(record.features, start=1):
            if feature.location is None:
                raise ValueError(f"{where}, feature {number} ({feature.type}): its location cannot be read")
            parts = sorted(
                Stretch(int(part.start), int(part.end), {1: "+", -1: "-"}.get(part.strand, "."))
                for part in feature.location.parts
                if part.ref is None and int(part.start) < int(part.end)
            )
            if parts:
                said = f"{where}, feature {number}"
                yield Feature(record.id, feature.type, _name(feature.qualifiers), tuple(parts), said)


def _is_circle(record: Any) -> bool:
    return record.annotations.get("topology") == "circular"


def _name(qualifiers: dict[str, list[str]]) -> str:
    for key in ("gene", "locus_tag", "standard_name", "label", "product"):
        if qualifiers.get(key):
            return qualifiers[key][0]
    return ""


def _records(path: str | os.PathLike[str], has_features: bool) -> Iterator[tuple[Any, str, int]]:
    """Biopython's records, with file and line of each, and the length that its first line states."""
    from Bio import BiopythonWarning
    from Bio.GenBank.Scanner import GenBankScanner

    source, text = name_of(path), text_of(path)
    lines = text.split("\n")
    starts = [number for number, line in enumerate(lines) if line.startswith("LOCUS")]
    if not starts:
        raise ValueError(f"{source}: no line begins with LOCUS; expected GenBank")
    for start, end in zip(starts, (*starts[1:], len(lines)), strict=True):
        where, length = f"{source}, line {start + 1}", _LENGTH.match(lines[start])
        body = [line for line in lines[start:end] if line.strip()]
        if body[-1].strip() != "//":
            raise ValueError(f"{where}: the record does not end with '//': the file is cut off; download it again")
        if length is None:
            raise ValueError(f"{where}: {lines[start][:50]!r}, expected LOCUS, name, and a number of bp (DNA)")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BiopythonWarning)
                record = GenBankScanner().parse(io.StringIO("\n".join(body) + "\n"), do_features=has_features)
        except Exception as error:  # Biopython's parser fails in many ways
            raise ValueError(f"{where}: Biopython cannot read the record ({type(error).__name__}: {error})") from None
        if record is None:
            raise ValueError(f"{where}: no record, expected GenBank")
        yield record, where, int(length.group(1))
