"""Where each record of a FASTA file lies, so that any stretch of it can be read without the rest (samtools' `.fai`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from isometry_data.bases import EXPECTED, LETTERS

CHUNK = 1 << 22  # bytes scanned at a time
_NEWLINE, _RETURN, _HEADER = b"\n\r>"
_ALLOWED = np.zeros(256, dtype=bool)
_ALLOWED[list(f"{LETTERS}U{LETTERS.lower()}u\n\r".encode())] = True
_log = logging.getLogger(__name__)


class Bytes(Protocol):
    """A file's unpacked contents."""

    size: int

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8, fewer at the end."""
        ...

    def close(self) -> None:
        """May be called again; reading opens it again."""
        ...


class Entry(NamedTuple):
    """A record whose lines are all equally long but the last."""

    name: str
    length: int  # bases
    offset: int  # byte of the first base
    bases: int  # in a line
    width: int  # bytes of a line with its end


class _Lines(NamedTuple):
    """Whole lines, in the order of the file."""

    start: np.ndarray  # byte
    n_letters: np.ndarray  # without the line's end
    n_bytes: np.ndarray  # with it
    is_header: np.ndarray
    first: int  # number of the first line, from 1


class _Record:
    """What is known of a record while its lines pass by."""

    def __init__(self, name: str, line: int):
        self.name, self.line = name, line
        self.length = self.offset = self.bases = self.width = 0
        self.is_even = True
        self._has_ended = False  # a shorter line was seen: no bases may follow

    def add(self, lines: _Lines, part: slice) -> None:
        start, letters, width = lines.start[part], lines.n_letters[part], lines.n_bytes[part]
        if not letters.any():
            self._has_ended = self._has_ended or len(letters) > 0
            return
        if self.length == 0:
            self.offset, self.bases, self.width = int(start[0]), int(letters[0]), int(width[0])
        shorter = np.flatnonzero((letters != self.bases) | (width != self.width))
        follows = letters[shorter[0] + 1 :].any() or letters[shorter[0]] > self.bases if shorter.size else False
        self.is_even &= not (self._has_ended or follows)
        self._has_ended = self._has_ended or shorter.size > 0
        self.length += int(letters.sum())


def index_of(content: Bytes, source: str) -> list[Entry] | None:
    """Every record of a FASTA file, which is read once in pieces; None where a record's lines differ in length.

    Raises:
        ValueError: one line with file and line: not FASTA, a letter that is no base, a record without bases, a name
            given twice.
    """
    records: dict[str, _Record] = {}
    current: _Record | None = None
    for lines in _lines(content, source):
        begin = 0
        for at in (*np.flatnonzero(lines.is_header).tolist(), len(lines.start)):
            _add(current, lines, slice(begin, at), source)
            if at < len(lines.start):
                _check_length(current, source)
                current = _new_record(content, lines, at, source, records)
            begin = at + 1
    _check_length(current, source)
    if not records:
        raise ValueError(f"{source}: the file is empty, expected FASTA records")
    if not all(record.is_even for record in records.values()):
        return None
    return [Entry(r.name, r.length, r.offset, r.bases, r.width) for r in records.values()]


def read_fai(file: Path, content: Bytes) -> list[Entry] | None:
    """The index in `<file>.fai`; None where there is none, where it is older than the file, or does not fit it."""
    beside = file.with_name(file.name + ".fai")
    if not beside.is_file():
        return None
    if beside.stat().st_mtime < file.stat().st_mtime:
        _log.warning("%s is older than %s; it is not used", beside, file.name)
        return None
    try:
        rows = [line.split("\t") for line in beside.read_text(encoding="utf-8").splitlines() if line.strip()]
        entries = [Entry(row[0], *(int(cell) for cell in row[1:5])) for row in rows]
        fits = all(_fits(entry, content) for entry in entries)
    except (ValueError, TypeError, ZeroDivisionError, OSError):
        fits, entries = False, []
    if not fits or not entries or len({entry.name for entry in entries}) < len(entries):
        _log.warning("%s is no index of %s; it is not used", beside, file.name)
        return None
    return entries


def stretch(content: Bytes, entry: Entry, start: int, end: int) -> np.ndarray:
    """The letters of a record from `start` to `end`, without line ends."""
    first = entry.offset + start // entry.bases * entry.width + start % entry.bases
    last = entry.offset + (end - 1) // entry.bases * entry.width + (end - 1) % entry.bases
    found = content.read(first, last + 1)
    return found if entry.bases == entry.width else found[(found != _NEWLINE) & (found != _RETURN)]


def joined(content: np.ndarray) -> tuple[np.ndarray, list[Entry]]:
    """Records with lines of any lengths, checked before, as one array without line ends, and where each lies in it."""
    is_break = content == _NEWLINE
    starts = np.concatenate([[0], np.flatnonzero(is_break) + 1])
    headers = starts[starts < len(content)]
    headers = headers[content[headers] == _HEADER]
    parts, entries, offset = [], [], 0
    for begin, end in zip(headers, (*headers[1:], len(content)), strict=True):
        header, _, _ = content[begin:end].tobytes().partition(b"\n")
        body = content[begin + len(header) + 1 : end]
        parts.append(body[body > ord(" ")])
        entries.append(Entry(header[1:].split()[0].decode(), *((len(parts[-1]), offset) + (len(parts[-1]),) * 2)))
        offset += len(parts[-1])
    return np.concatenate(parts), entries


def _fits(entry: Entry, content: Bytes) -> bool:
    """Whether a line begins at the record's first base, and one ends at its last."""
    last = entry.offset + (entry.length - 1) // entry.bases * entry.width + (entry.length - 1) % entry.bases
    around = [content.read(entry.offset - 1, entry.offset), content.read(last + 1, last + 2)]
    return last < content.size and all(letter in (_NEWLINE, _RETURN) for part in around for letter in part)


def _add(record: _Record | None, lines: _Lines, part: slice, source: str) -> None:
    if record is not None:
        record.add(lines, part)
    elif lines.n_letters[part].any():
        line = lines.first + int(np.flatnonzero(lines.n_letters[part])[0])
        raise ValueError(f"{source}, line {line}: expected FASTA, whose records begin with '>' and a name")


def _check_length(record: _Record | None, source: str) -> None:
    if record is not None and record.length == 0:
        raise ValueError(f"{source}, line {record.line}, record {record.name}: no bases; remove the record")


def _new_record(content: Bytes, lines: _Lines, at: int, source: str, records: dict[str, _Record]) -> _Record:
    start, line = int(lines.start[at]), lines.first + at
    words = content.read(start + 1, start + int(lines.n_letters[at])).tobytes().split()
    if not words:
        raise ValueError(f"{source}, line {line}: '>' without a name; give the record one")
    name = words[0].decode("utf-8", "replace")
    if name in records:
        raise ValueError(f"{source}, line {line}: a second record {name!r} (the first: line {records[name].line})")
    records[name] = _Record(name, line)
    return records[name]


def _lines(content: Bytes, source: str) -> Iterator[_Lines]:
    """The file's lines, some megabytes at a time; a line longer than that comes in parts that join it again."""
    pending, number, first_byte, last_byte = 0, 1, 0, 0  # where the unfinished line began, its number and first byte
    for at in range(0, content.size, CHUNK):
        chunk = content.read(at, at + CHUNK)
        breaks = np.flatnonzero(chunk == _NEWLINE)
        before = np.concatenate([[last_byte], chunk])[breaks]  # the byte before each line's end
        ends, last_byte = breaks + at, int(chunk[-1])
        if at + len(chunk) == content.size and last_byte != _NEWLINE:  # the last line has no end
            ends, before = np.append(ends, content.size), np.append(before, last_byte)
        starts = np.concatenate([[pending], ends[:-1] + 1]) if len(ends) else np.empty(0, dtype=np.int64)
        inside = np.concatenate([starts, [ends[-1] + 1]]) if len(ends) else np.array([pending])
        firsts = np.where(inside >= at, chunk[np.clip(inside - at, 0, len(chunk) - 1)], first_byte)
        _check_letters(chunk, at, inside, firsts == _HEADER, number, source)
        n_letters = ends - starts - (before == _RETURN) * (ends > starts)
        n_bytes = np.minimum(ends + 1, content.size) - starts
        yield _Lines(starts, n_letters, n_bytes, firsts[: len(starts)] == _HEADER, number)
        pending, first_byte, number = int(inside[-1]), int(firsts[-1]), number + len(ends)


def _check_letters(
    chunk: np.ndarray, at: int, starts: np.ndarray, is_header: np.ndarray, number: int, source: str
) -> None:
    """Refuses the first letter outside headers that is no base."""
    strange = np.flatnonzero(~_ALLOWED[chunk])
    line = np.searchsorted(starts - at, strange, side="right") - 1
    strange, line = strange[~is_header[line]], line[~is_header[line]]
    if strange.size:
        letter = chr(chunk[strange[0]])
        raise ValueError(f"{source}, line {number + line[0]}: {letter!r} is no base, expected {EXPECTED}; remove it")
