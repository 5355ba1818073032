"""UCSC's 2bit genomes, read through py2bit as if their letters stood in one row."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from isometry_data.bases import ascii_of
from isometry_data.fasta_index import Entry


class TwoBitBytes:
    """The letters of every sequence, one after the other; soft mask as lower case. One handle for each process.

    Raises:
        ImportError: without py2bit.
        ValueError: no 2bit file, or cut off.
    """

    def __init__(self, file: Path):
        self._file, self._handle, self._process = file, None, 0
        self.entries, offset = [], 0
        for name, length in self._opened().chroms().items():
            self.entries.append(Entry(name, length, offset, length, length))
            offset += length
        self.size = offset
        self._offsets = np.array([entry.offset for entry in self.entries])

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start] of one sequence."""
        entry = self.entries[int(np.searchsorted(self._offsets, start, side="right")) - 1]
        try:
            return ascii_of(self._opened().sequence(entry.name, start - entry.offset, stop - entry.offset))
        except RuntimeError as error:
            raise ValueError(f"{self._file}: {entry.name} cannot be read ({error}); copy the file again") from None

    def close(self) -> None:
        """The handle is opened again where need be."""
        if self._handle is not None and self._process == os.getpid():
            self._handle.close()
        self._handle = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_handle": None}

    def _opened(self):
        if self._handle is None or self._process != os.getpid():  # a handle of before a fork shares its cursor
            self._handle, self._process = _open(self._file), os.getpid()
        return self._handle


def _open(file: Path):
    try:
        import py2bit
    except ImportError:
        raise ImportError(f"{file}: 2bit needs py2bit: pip install 'isometry[genome]'") from None
    try:
        return py2bit.open(str(file), True)
    except RuntimeError as error:
        raise ValueError(f"{file}: no 2bit file, or cut off ({error}); copy or download it again") from None
