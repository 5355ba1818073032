"""UCSC's 2bit genomes through Biopython, as if their letters stood in one row: only the bytes of a stretch are read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from isometry_data.fasta_index import Entry


class TwoBitBytes:
    """The letters of every sequence, one after the other; soft mask as lower case. One handle for each process.

    Raises:
        ValueError: no 2bit file that Biopython reads (version 0), or cut off.
    """

    def __init__(self, file: Path):
        self._file, self._reader, self._process = file, None, 0
        self.entries: list[Entry] = []
        self.size = 0
        for name, record in self._opened().sequences.items():
            if not len(record):
                raise ValueError(f"{file}: {name}: no bases; remove the record")
            self.entries.append(Entry(name, len(record), self.size, len(record), len(record)))
            self.size += len(record)
        if not self.entries:
            raise ValueError(f"{file}: no sequences; is it cut off?")
        self._offsets = np.array([entry.offset for entry in self.entries])
        for entry in self.entries:
            self.read(entry.offset + entry.length - 1, entry.offset + entry.length)  # is the file all there?

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start] of one sequence."""
        entry = self.entries[int(np.searchsorted(self._offsets, start, side="right")) - 1]
        sequence = self._opened().sequences[entry.name]
        try:
            letters = bytes(sequence[start - entry.offset : stop - entry.offset])
        except Exception as error:  # numpy and the C parser fail in several ways
            raise ValueError(f"{self._file}: {entry.name} cannot be read ({error}); is it cut off?") from None
        return np.frombuffer(letters, dtype=np.uint8)

    def close(self) -> None:
        """The handle is opened again where need be."""
        if self._reader is not None and self._process == os.getpid():
            self._reader.stream.close()
        self._reader = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_reader": None}

    def __del__(self) -> None:
        self.close()

    def _opened(self):
        if self._reader is None or self._process != os.getpid():  # a handle of before a fork shares its cursor
            from Bio.SeqIO.TwoBitIO import TwoBitIterator

            try:
                self._reader, self._process = TwoBitIterator(str(self._file)), os.getpid()
            except Exception as error:  # as above
                raise ValueError(
                    f"{self._file}: cannot be read as 2bit of version 0 ({error}); is it cut off?"
                ) from None
        return self._reader
