"""Sequences with states and mask in five lines a record, the format of the training sets."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from isometry_data.protein_records import EIGHT_STATES, LETTERS, THREE_STATES, UNKNOWN_STATE, ProteinRecord
from isometry_data.text_files import lines_of, name_of

LINES = ("name", "sequence", "three states", "eight states", "mask")
FIVE_LINES = "5 for each record: >name, sequence, three states (H E C), eight states (or dots), mask (1 or 0)"
EXPECTED = {
    1: (LETTERS, "letters A to Z"),
    2: (frozenset(THREE_STATES + UNKNOWN_STATE), f"{' '.join(THREE_STATES)}, or . where the state is unknown"),
    3: (frozenset(EIGHT_STATES + UNKNOWN_STATE), f"{' '.join(EIGHT_STATES)}, or . where the state is unknown"),
    4: (frozenset("01"), "1 where the labels count, 0 where not"),
}
"""Of the lines below a record's name: their letters, and how a message tells them."""


def read_states(path: str | os.PathLike[str], *, mask_is_order: bool = False) -> list[ProteinRecord]:
    """Records of `>id`, sequence, three states (H E C), eight states (or `.`), mask (1 counts, 0 does not); gz too.

    Args:
        mask_is_order: the mask is 0 exactly where the structure does not show the residue: then it gives `disorder`.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file, line and record: a header out of place, lengths that differ, strange letters.
    """
    source, lines = name_of(path), lines_of(path)
    records = [
        _record(lines[first : first + len(LINES)], source, first + 1, mask_is_order)
        for first in range(0, len(lines) - len(lines) % len(LINES), len(LINES))
    ]
    if n_left := len(lines) % len(LINES):
        raise ValueError(
            f"{source}, line {len(lines) - n_left + 1}: {n_left} lines left over; expected {FIVE_LINES}; "
            "add what the last record lacks, or delete it"
        )
    return records


def write_states(path: str | os.PathLike[str], records: Iterable[ProteinRecord]) -> None:
    """Writes what `read_states` reads, gzipped if the name ends in `.gz`: the same records give the same bytes."""
    text = states_text(records).encode()
    if Path(path).suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream:
            stream.write(text)
        text = packed.getvalue()
    Path(path).write_bytes(text)


def states_text(records: Iterable[ProteinRecord]) -> str:
    """The five lines of each record, as `read_states` reads them."""
    return "".join(_lines(record) for record in records)


def _record(lines: Sequence[str], source: str, line: int, mask_is_order: bool) -> ProteinRecord:
    header, *below = (text.strip() for text in lines)
    if not header.startswith(">") or not header[1:].strip():
        raise ValueError(
            f"{source}, line {line}: {header[:30]!r}, expected '>' and a name; every record has exactly 5 lines: look "
            "for a line too many or too few above, also a blank one"
        )
    name = header[1:].split()[0]
    sequence, ss3, ss8, mask = below = [below[0].upper(), *below[1:]]
    for place, found in enumerate(below, start=1):
        _check_line(place, found, len(sequence), f"{source}, line {line + place}, record {name}")
    counts = np.frombuffer(mask.encode(), dtype=np.uint8) == ord("1")
    return ProteinRecord(
        name=name,
        sequence=sequence,
        source=source,
        line=line,
        ss3=None if set(ss3) <= {UNKNOWN_STATE} else ss3,
        ss8=None if set(ss8) <= {UNKNOWN_STATE} else ss8,
        mask=counts,
        disorder=~counts if mask_is_order else None,
    )


def _check_line(place: int, found: str, length: int, where: str) -> None:
    """Raises ValueError for a line below a record's name that is not what stands there, at its own number."""
    letters, told = EXPECTED[place]
    if found.startswith(">"):
        raise ValueError(f"{where}: found the name {found[:30]!r} instead of its {LINES[place]}; expected {FIVE_LINES}")
    if not found or len(found) != length:
        raise ValueError(
            f"{where}: {len(found)} letters of {LINES[place]}, expected {length or 'some'}, one for each residue; "
            "cut or fill the line, with . where a state is unknown and 0 where nothing counts"
        )
    if strange := sorted(set(found) - letters):
        raise ValueError(f"{where}: {strange[0]!r} in the {LINES[place]}; expected {told}; correct that letter")


def _lines(record: ProteinRecord) -> str:
    unknown = UNKNOWN_STATE * len(record)
    mask = np.ones(len(record), dtype=bool) if record.mask is None else record.mask
    digits = "".join("1" if counts else "0" for counts in mask)
    return "\n".join((f">{record.name}", record.sequence, record.ss3 or unknown, record.ss8 or unknown, digits, ""))
