"""Sequences out of FASTA as people really have it: every oddity is reported by name and line, none is silent."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from isometry_data.protein_records import AMINO_ACIDS, ProteinRecord, Reading
from isometry_data.text_files import lines_of, name_of

_FOREIGN = re.compile(r"[^A-Za-z*.\-\s]")
BASES, FEW = frozenset("ACGTUN"), 50
"""Letters of DNA and RNA; how many of them alone no protein has."""
_GAPS = str.maketrans("", "", "-.")


class _Raw(NamedTuple):
    """A header and the lines under it."""

    line: int
    header: str
    body: list[tuple[int, str]]  # with their line numbers


def read_fasta(path: str | os.PathLike[str]) -> Reading:
    """Every record that has a sequence, in the order of the file, which may be gzipped or `-` (standard input).

    Letters are made upper case; all of A to Z are kept, gaps (`-`, `.`) and a final `*` (stop) removed, a `*` inside
    becomes X. A record without a sequence is left out, without a name gets one, and a name that was given before
    gets a number. Each of these, and each letter beyond the twenty amino acids, is noted by record and line; so is the
    first record of bases.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line: digits or other signs, text above the first `>`, no sequence at all.
    """
    source, records, notes = name_of(path), [], []
    names: dict[str, int] = {}  # name -> line
    counts: dict[str, Iterator[int]] = {}  # name -> numbers that it may yet get: a file may hold one name 20,000 times
    for number, raw in enumerate(_raw_records(lines_of(path), source), start=1):
        name = _free_name(raw, number, names, counts, source, notes)
        found = "".join(_checked(text, line, name, source) for line, text in raw.body)
        sequence = _cleaned(found, f"{source}, line {raw.line}, record {name}", notes)
        if sequence:
            records.append(ProteinRecord(name=name, sequence=sequence, source=source, line=raw.line))
        else:
            notes.append(f"{source}, line {raw.line}, record {name}: no sequence; left out")
    if not records:
        raise ValueError(f"{source}: no sequences in {len(names)} records; expected a name after '>' and letters below")
    return Reading(records, [*notes, *_of_bases(records)])


def _of_bases(records: list[ProteinRecord]) -> list[str]:
    """A line if some sequences are of letters that bases have, long enough not to be so by chance."""
    found = [record for record in records if len(record) >= FEW and set(record.sequence) <= BASES]
    if not found:
        return []
    first, others = found[0], len(found) - 1
    also = f", and {others:,} more of {len(records):,} records" if others else ""
    return [
        f"{first.label}: its {len(first):,} letters are all among A C G T U N{also}: this looks like DNA or RNA, and "
        "is read as a protein; translate it first"
    ]


def _raw_records(lines: list[str], source: str) -> Iterator[_Raw]:
    current: _Raw | None = None
    for number, line in enumerate(lines, start=1):
        if line.startswith(">"):
            if current:
                yield current
            current = _Raw(number, line[1:].strip(), [])
        elif not line.strip() or line.startswith(";"):  # `;` opens a comment in old files
            continue
        elif current is None:
            raise ValueError(
                f"{source}, line {number}: {line.strip()[:30]!r} before the first '>'; expected FASTA: write a line of "
                "'>' and a name above each sequence (structures are known by their endings: .pdb, .cif)"
            )
        else:
            current.body.append((number, line))
    if current:
        yield current


def _free_name(
    raw: _Raw, number: int, names: dict[str, int], counts: dict[str, Iterator[int]], source: str, notes: list[str]
) -> str:
    """The first word of the header, or one that no record has yet."""
    given = raw.header.split()[0] if raw.header else ""
    name = given or f"sequence_{number}"
    if not given:
        notes.append(f"{source}, line {raw.line}: a record without a name; called {name}")
    if name in names:
        again = next(n for n in counts.setdefault(name, count(2)) if f"{name}_{n}" not in names)
        free = f"{name}_{again}"
        notes.append(f"{source}, line {raw.line}, record {name}: named as in line {names[name]}; called {free}")
        name = free
    names[name] = raw.line
    return name


def _checked(text: str, line: int, name: str, source: str) -> str:
    if strange := _FOREIGN.search(text):
        raise ValueError(
            f"{source}, line {line}, record {name}: {strange.group()!r} at column {strange.start() + 1}; "
            "expected letters of amino acids; take out numbers and other signs, or write X for an unknown residue"
        )
    return "".join(text.split())


def _cleaned(found: str, place: str, notes: list[str]) -> str:
    """Upper case, no gaps, no stops; notes what was done and which letters a model will not know."""
    sequence = found.upper().removesuffix("*").translate(_GAPS)
    n_gaps, n_stops = len(found) - len(found.translate(_GAPS)), sequence.count("*")
    said = [
        (any(letter.islower() for letter in found), "lower case made upper"),
        (n_gaps > 0, f"{n_gaps} gaps removed"),
        (found.endswith("*"), "final * removed"),
        (n_stops > 0, f"{n_stops} * inside made X"),
    ]
    unusual = Counter(letter for letter in sequence if letter not in AMINO_ACIDS and letter != "*")
    kept = ", ".join(f"{count} {letter}" for letter, count in sorted(unusual.items()))
    said.append((bool(kept), f"kept {kept}"))
    if done := "; ".join(text for is_so, text in said if is_so):
        notes.append(f"{place}: {done}")
    return sequence.replace("*", "X")
