"""Signals along a genome: bigWig and bedGraph, in and out."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isometry_data.chromosome_names import unknown_name
from isometry_data.genomes import Genome
from isometry_data.intervals import Binned, runs_of
from isometry_data.text_files import name_of, text_of
from isometry_data.written_whole import whole_file

_FAR = 1 << 62  # bases: no sequence is as long
_BIG_WIG = (bytes.fromhex("26fc8f88"), bytes.fromhex("888ffc26"))  # either order of bytes


class Track:
    """A signal in a bigWig or bedGraph file; NaN where the file says nothing.

    May be sent to workers, forked or spawned: a bigWig is opened in each process; a bedGraph is held in memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with the file, and of a bedGraph the line: no such format, cut off, unsorted or
            overlapping lines.
        ImportError: bigWig without pyBigWig.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.file = Path(path)
        self._signal = _BigWig(self.file) if _is_big_wig(self.file) else _BedGraph(self.file)

    @property
    def names(self) -> tuple[str, ...]:
        """The sequences it has a signal on."""
        return tuple(self._signal.lengths)

    def check_genome(self, genome: Genome) -> None:
        """Raises ValueError where it has nothing on any sequence of a genome, or where a sequence ends elsewhere."""
        lengths = genome.lengths
        if not set(self.names) & lengths.keys():
            raise ValueError(f"{self.file}: {unknown_name(self.names[0], lengths, str(genome.file))}")
        for name, reached in self._signal.reached.items():
            own, length = self._signal.lengths[name], lengths.get(name)
            if length is not None and (reached > length or own not in (None, length)):
                ends = f"goes on to {reached}" if own is None else f"has {own} bases"
                raise ValueError(
                    f"{self.file}: {name} {ends}, but {genome.file} has {length} bases of it; is it another assembly?"
                )

    def values(self, chrom: str, start: int, end: int, *, pads: bool = False) -> np.ndarray:
        """float32 [end - start], one for each base, NaN unknown.

        Args:
            pads: NaN beyond the ends of a sequence, and on one that the file does not have, instead of an error.
        Raises:
            ValueError: an unknown name, or coordinates that are not on the sequence (bedGraph does not know its end).
        """
        lengths = self._signal.lengths
        if pads and start < end:
            return self._padded(chrom, start, end)
        if chrom not in lengths:
            raise ValueError(unknown_name(chrom, lengths, str(self.file)))
        length = lengths[chrom]
        if not 0 <= start < end or (length is not None and end > length):
            expected = f"0-{length}" if length is not None else "positions from 0"
            raise ValueError(f"{self.file}: {chrom}:{start}-{end} is not within {expected}, 0-based half-open")
        return self._signal.values(chrom, start, end)

    def _padded(self, chrom: str, start: int, end: int) -> np.ndarray:
        found = np.full(end - start, np.nan, dtype=np.float32)
        length = self._signal.lengths.get(chrom, 0)
        first, last = max(start, 0), end if length is None else min(end, length)
        if first < last:
            found[first - start : last - start] = self._signal.values(chrom, first, last)
        return found

    def binned(self, chrom: str, start: int, end: int, bin: int, *, pads: bool = False) -> np.ndarray:
        """float32 [ceil((end - start) / bin)]: the mean over the known bases of each bin, NaN where none is known.

        Args:
            pads: as in `values`.
        """
        values = self.values(chrom, start, end, pads=pads).astype(np.float64)
        n_bins = -(-len(values) // bin)
        rows = np.full(n_bins * bin, np.nan)
        rows[: len(values)] = values
        is_known = ~np.isnan(rows)
        n_known = is_known.reshape(n_bins, bin).sum(1)
        total = np.where(is_known, rows, 0.0).reshape(n_bins, bin).sum(1)
        return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan).astype(np.float32)


def write_bigwig(path: str | os.PathLike[str], stretches: Iterable[Binned], lengths: Mapping[str, int]) -> None:
    """Stretches sorted by start within each sequence; `lengths` in the order the file shall list the sequences.

    Raises:
        ValueError: a stretch out of order, overlapping the one before, or not on its sequence.
        ImportError: without pyBigWig.
    """
    library, order = _library(path), {name: number for number, name in enumerate(lengths)}
    reached = (0, 0)
    with whole_file(path) as beside:
        out = library.open(str(beside), "w")
        out.addHeader(list(lengths.items()))
        try:
            for part in stretches:
                if part.chrom not in lengths:
                    raise ValueError(unknown_name(part.chrom, lengths, "the genome"))
                if part.end > lengths[part.chrom] or (order[part.chrom], part.start) < reached:
                    where = f"{part.chrom}:{part.start}-{part.end}"
                    raise ValueError(f"{path}: {where} is out of order, overlaps, or ends past {lengths[part.chrom]}")
                reached = (order[part.chrom], part.end)
                if runs := runs_of(part):
                    starts, ends, values = (list(column) for column in zip(*runs, strict=True))
                    out.addEntries([part.chrom] * len(runs), starts, ends=ends, values=values)
        finally:
            out.close()


class _BigWig:
    """A bigWig through pyBigWig, one handle for each process."""

    def __init__(self, file: Path):
        self._file, self._handle, self._process = file, None, 0
        self.lengths: dict[str, int | None] = dict(self._opened().chroms())
        self.reached: dict[str, int] = dict(self._opened().chroms())

    def values(self, chrom: str, start: int, end: int) -> np.ndarray:
        try:
            found = self._opened().values(chrom, start, end, numpy=True)
        except RuntimeError as error:
            raise ValueError(f"{self._file}: {chrom} cannot be read ({error}); copy the file again") from None
        return np.asarray(found, dtype=np.float32)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_handle": None}

    def _opened(self):
        if self._handle is None or self._process != os.getpid():  # a handle of before a fork shares its cursor
            library = _library(self._file)
            try:
                with _quiet():
                    self._handle, self._process = library.open(str(self._file)), os.getpid()
            except RuntimeError:
                raise ValueError(f"{self._file}: no bigWig, or cut off; copy or download it again") from None
        return self._handle


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what C code writes to standard error: libBigWig tells three lines of what our error says in one."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed: nobody reads it
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Steps(NamedTuple):
    """The lines of a bedGraph on one sequence, sorted."""

    starts: np.ndarray
    ends: np.ndarray
    values: np.ndarray


class _Columns(NamedTuple):
    """`_Steps` that grow; in numbers of the machine, which take far less room than Python's."""

    starts: array
    ends: array
    values: array


class _BedGraph:
    """A bedGraph, held in memory."""

    def __init__(self, file: Path):
        rows: dict[str, _Columns] = {}
        for number, line in enumerate(_lines(text_of(file)), start=1):
            if line.strip() and not line.startswith(("#", "track", "browser")):
                chrom, row = _step(line, f"{name_of(file)}, line {number}")
                there = rows.setdefault(chrom, _Columns(array("q"), array("q"), array("d")))
                if there.ends and row[0] < there.ends[-1]:
                    raise ValueError(
                        f"{name_of(file)}, line {number}: {chrom}:{row[0]}-{row[1]} begins before {there.ends[-1]}, "
                        "the end of the line before: unsorted or overlapping; sort the file (sort -k1,1 -k2,2n)"
                    )
                for column, cell in zip(there, row, strict=True):
                    column.append(cell)
        if not rows:
            raise ValueError(f"{file}: no values, expected bedGraph: sequence, start, end, value")
        self._steps = {chrom: _Steps(*map(np.asarray, of)) for chrom, of in rows.items()}
        self.lengths: dict[str, int | None] = dict.fromkeys(self._steps)
        self.reached = {chrom: int(steps.ends[-1]) for chrom, steps in self._steps.items()}

    def values(self, chrom: str, start: int, end: int) -> np.ndarray:
        steps = self._steps[chrom]
        first, last = np.searchsorted(steps.ends, start, side="right"), np.searchsorted(steps.starts, end)
        values = np.full(end - start, np.nan, dtype=np.float32)
        for at in range(int(first), int(last)):
            values[max(steps.starts[at] - start, 0) : steps.ends[at] - start] = steps.values[at]
        return values


def _lines(text: str) -> Iterator[str]:
    """One after the other: all of them at once take several times the room of the text."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end + 1


def _step(line: str, where: str) -> tuple[str, tuple[int, int, float]]:
    cells = line.split()
    try:
        chrom, start, end, value = cells[0], int(cells[1]), int(cells[2]), float(cells[3])
    except (ValueError, IndexError):
        raise ValueError(f"{where}: {line[:40]!r}, expected bedGraph: sequence, start, end, value") from None
    if not 0 <= start < end < _FAR or len(cells) > 4:
        raise ValueError(f"{where}: {line[:40]!r}, expected four columns, 0 <= start < end (0-based half-open)")
    return chrom, (start, end, value)


def _is_big_wig(file: Path) -> bool:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file")
    with open(file, "rb") as stream:
        return stream.read(4) in _BIG_WIG


def _library(path: str | os.PathLike[str]):
    try:
        import pyBigWig
    except ImportError:
        raise ImportError(f"{path}: bigWig needs pyBigWig (pip install pyBigWig)") from None
    return pyBigWig
