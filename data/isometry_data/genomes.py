"""A genome in a file: any stretch of any of its sequences, on either strand, without holding the whole.

FASTA (plain or bgzipped; an index `.fai` beside it is used, none is written), 2bit, GenBank. A file packed with plain
gzip, or with lines of different lengths, cannot be read in pieces: it is held in memory once, and that is logged.

A sequence is a circle where GenBank's LOCUS says `circular`, where the header of a FASTA record says
`[topology=circular]` (as NCBI has it) or `circular=true` (as assemblers have it), or where its name is given.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
from collections.abc import Collection
from pathlib import Path
from types import TracebackType

import numpy as np

from isometry_data.bases import EXPECTED, UNKNOWN, is_base, reverse_complement
from isometry_data.chromosome_names import unknown_name
from isometry_data.fasta_index import Bytes, Entry, index_of, joined, read_fai, stretch
from isometry_data.genbank import Record, read_sequences
from isometry_data.seekable_files import BgzBytes, MemoryBytes, PlainBytes, is_bgzip
from isometry_data.two_bit import TwoBitBytes

_log = logging.getLogger(__name__)
_CIRCULAR = re.compile(rb"\[topology=circular\]|\b(?:is_)?circular=(?:true|yes|y)\b", re.IGNORECASE)
_LONGEST_HEADER = 4096  # bytes that are looked at
_TWO_BIT = (bytes.fromhex("1a412743"), bytes.fromhex("4327411a"))  # either order of bytes


class Genome:
    """The sequences of a file by name. Can be sent to workers, forked or spawned; nothing is shared but the file."""

    def __init__(
        self,
        file: Path,
        entries: list[Entry],
        content: Bytes,
        circles: Collection[str] = (),
        *,
        has_headers: bool = False,
    ):
        self.file = file
        self._entries = {entry.name: entry for entry in entries}
        self._content = content
        self._circles = dict.fromkeys(circles, True)
        self._has_headers = has_headers  # before the letters of each sequence

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(self._entries)

    @property
    def lengths(self) -> dict[str, int]:
        """Bases of each sequence."""
        return {name: entry.length for name, entry in self._entries.items()}

    def is_circle(self, name: str) -> bool:
        """Whether the sequence goes on at its other end."""
        if name not in self._circles and not self._has_headers:
            return False
        if name not in self._circles:
            start = self._entries[name].offset
            before = self._content.read(max(start - _LONGEST_HEADER, 0), start)
            header = before.tobytes().rpartition(b">")[2]
            self._circles[name] = _CIRCULAR.search(header) is not None
        return self._circles[name]

    def fetch(self, name: str, start: int, end: int, *, is_minus: bool = False, pads: bool = False) -> np.ndarray:
        """The letters of [start, end), 0-based half-open, as they stand in the file (lower case: soft mask).

        Args:
            is_minus: their reverse complement.
            pads: N for what lies beyond the ends of the sequence, instead of an error. A circle has no ends.
        Returns:
            uint8 [end - start], ASCII.
        Raises:
            ValueError: one line: unknown name, coordinates beyond the ends, a letter that is no base.
        """
        if name not in self._entries:
            raise ValueError(unknown_name(name, self._entries, str(self.file)))
        entry = self._entries[name]
        if start < end and not 0 <= start < end <= entry.length and self.is_circle(name):
            found = np.concatenate([self._letters(entry, a, b) for a, b in around(start, end, entry.length)])
            return reverse_complement(found) if is_minus else found
        if start > end or (not pads and (start < 0 or end > entry.length)):
            raise ValueError(f"{self.file}: {name}:{start}-{end} is not within 0-{entry.length}, 0-based half-open")
        first, last = min(max(start, 0), entry.length), max(min(end, entry.length), 0)
        letters = self._letters(entry, first, last) if first < last else np.empty(0, dtype=np.uint8)
        if pads and len(letters) < end - start:
            before = max(min(-start, end - start), 0) if start < 0 else 0
            padded = np.full(end - start, UNKNOWN, dtype=np.uint8)
            padded[before : before + len(letters)] = letters
            letters = padded
        return reverse_complement(letters) if is_minus else letters

    def close(self) -> None:
        """Lets go of the file; a later fetch opens it again."""
        self._content.close()

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Genome({str(self.file)!r}, {len(self._entries)} sequences, {sum(self.lengths.values())} bases)"

    def _letters(self, entry: Entry, start: int, end: int) -> np.ndarray:
        letters = stretch(self._content, entry, start, end)
        if len(letters) != end - start:
            raise ValueError(
                f"{self.file}: {entry.name}:{start}-{end} has {len(letters)} letters: the file was changed, or its "
                ".fai belongs to another file; delete the .fai"
            )
        strange = np.flatnonzero(~is_base(letters))
        if strange.size:
            letter, at = chr(letters[strange[0]]), start + int(strange[0])
            raise ValueError(f"{self.file}: {entry.name}, base {at + 1}: {letter!r} is no base, expected {EXPECTED}")
        return letters


def around(start: int, end: int, n: int) -> list[tuple[int, int]]:
    """[start, end) of a circle of n as stretches within [0, n)."""
    pieces, at = [], start
    while at < end:
        here = at % n
        last = min(here + end - at, n)
        pieces.append((here, last))
        at += last - here
    return pieces


def open_genome(file: str | os.PathLike[str], circles: Collection[str] = ()) -> Genome:
    """A genome out of FASTA (plain, gz, bgz), 2bit or GenBank (plain, gz); the contents decide, not the name.

    Args:
        circles: names of sequences that are circles, beside those of which the file says so.
    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with the file, and the line or record: no such format, cut off, a letter that is no base
            (gaps, digits), a record without bases or name, a name given twice.
    """
    file = Path(file)
    if file.is_dir():
        raise ValueError(f"{file}: is a folder, expected a file")
    if not file.exists():
        raise FileNotFoundError(f"{file}: no such file")
    with open(file, "rb") as stream:
        head = stream.read(18)
    if head.startswith(_TWO_BIT):
        content = TwoBitBytes(file)
        return Genome(file, content.entries, content, circles)
    if is_bgzip(head):
        return _fasta(file, BgzBytes(file), circles)
    if head.startswith(b"\x1f\x8b"):
        return _fasta(file, MemoryBytes(_unpacked(file)), circles, is_indexed=False)
    return _fasta(file, PlainBytes(file), circles)


def _fasta(file: Path, content: Bytes, circles: Collection[str], is_indexed: bool = True) -> Genome:
    if content.read(0, 5).tobytes() == b"LOCUS":
        return _held(file, read_sequences(file), circles)
    entries = (read_fai(file, content) if is_indexed else None) or index_of(content, str(file))
    if entries is None:
        _log.info("%s: lines of different lengths; the file is held in memory", file)
        whole = content.read(0, content.size)
        letters, entries = joined(whole)
        headers = (line.removeprefix(b">") for line in whole.tobytes().splitlines() if line.startswith(b">"))
        circles = {*circles, *(line.split()[0].decode() for line in headers if _CIRCULAR.search(line))}
        return Genome(file, entries, MemoryBytes(letters), circles)
    return Genome(file, entries, content, circles, has_headers=True)


def _unpacked(file: Path) -> np.ndarray:
    _log.info("%s: plain gzip; the file is held in memory (bgzip would let it be read in pieces)", file)
    try:
        return np.frombuffer(gzip.decompress(file.read_bytes()), dtype=np.uint8)
    except EOFError:
        raise ValueError(f"{file}: the file is cut off; copy or download it again") from None
    except Exception as error:  # gzip and zlib fail in several ways
        raise ValueError(f"{file}: cannot be unpacked ({type(error).__name__}: {error}); copy it again") from None


def _held(file: Path, records: dict[str, Record], circles: Collection[str]) -> Genome:
    """A genome whose sequences are in memory."""
    entries, offset = [], 0
    for name, (letters, _) in records.items():
        entries.append(Entry(name, len(letters), offset, len(letters), len(letters)))
        offset += len(letters)
    circles = {*circles, *(name for name, record in records.items() if record.is_circle)}
    return Genome(file, entries, MemoryBytes(np.concatenate([record.letters for record in records.values()])), circles)
