"""Sequences with states and mask in five lines a record, the format of the training sets."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from isometry_data.protein_records import UNKNOWN_STATE, ProteinRecord
from isometry_data.text_files import lines_of, name_of

LINES = ("name", "sequence", "three states", "eight states", "mask")


def read_states(path: str | os.PathLike[str], *, mask_is_order: bool = False) -> list[ProteinRecord]:
    """Records of `>id`, sequence, three states (H E C), eight states (or `.`), mask (1 counts, 0 does not); gz too.

    Args:
        mask_is_order: the mask is 0 exactly where the structure does not show the residue: then it gives `disorder`.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file, line and record: a header out of place, lengths that differ, strange letters.
    """
    source, lines = name_of(path), lines_of(path)
    last = len(lines) - len(lines) % len(LINES)
    if last < len(lines):
        raise ValueError(f"{source}, line {last + 1}: {len(lines) - last} lines left over; expected 5 for each record")
    return [
        _record(lines[first : first + len(LINES)], source, first + 1, mask_is_order)
        for first in range(0, last, len(LINES))
    ]


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
    header, sequence, ss3, ss8, mask = (text.strip() for text in lines)
    if not header.startswith(">") or not header[1:].strip():
        raise ValueError(f"{source}, line {line}: {header[:30]!r}, expected '>' and a name: every record has 5 lines")
    name = header[1:].split()[0]
    for below, found in enumerate((ss3, ss8, mask), start=2):
        if len(found) != len(sequence):
            raise ValueError(
                f"{source}, line {line + below}, record {name}: {len(found)} letters of {LINES[below]}, "
                f"expected {len(sequence)}, one for each residue"
            )
    if strange := sorted(set(mask) - {"0", "1"}):
        raise ValueError(f"{source}, line {line + 4}, record {name}: {strange[0]!r} in the mask; expected 0 or 1")
    counts = np.frombuffer(mask.encode(), dtype=np.uint8) == ord("1")
    return ProteinRecord(
        name=name,
        sequence=sequence.upper(),
        source=source,
        line=line,
        ss3=None if set(ss3) <= {UNKNOWN_STATE} else ss3,
        ss8=None if set(ss8) <= {UNKNOWN_STATE} else ss8,
        mask=counts,
        disorder=~counts if mask_is_order else None,
    )


def _lines(record: ProteinRecord) -> str:
    unknown = UNKNOWN_STATE * len(record)
    mask = np.ones(len(record), dtype=bool) if record.mask is None else record.mask
    digits = "".join("1" if counts else "0" for counts in mask)
    return "\n".join((f">{record.name}", record.sequence, record.ss3 or unknown, record.ss8 or unknown, digits, ""))
