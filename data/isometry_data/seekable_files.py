"""Any stretch of bytes of a file, plain or bgzipped, without reading the rest; safe in forked and spawned workers."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np

_EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")  # SAM specification, 4.1.2


class MemoryBytes:
    """Bytes that are in memory already."""

    def __init__(self, content: np.ndarray):
        self._content = content
        self.size = len(content)

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start]; fewer at the end."""
        return self._content[start:stop]

    def close(self) -> None:
        """Nothing is open."""


class PlainBytes:
    """A file read by position: no shared cursor, so workers that were forked may use one handle."""

    def __init__(self, file: Path):
        self._file = file
        self._handle: int | None = None
        self.size = file.stat().st_size

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start]; fewer at the end. OSError where the file has gone."""
        if self._handle is None:
            self._handle = os.open(self._file, os.O_RDONLY)
        parts = []
        while start < stop and (part := os.pread(self._handle, stop - start, start)):
            parts.append(part)
            start += len(part)
        return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), dtype=np.uint8)

    def close(self) -> None:
        """The handle is opened again where need be."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_handle": None}

    def __del__(self) -> None:
        self.close()


class BgzBytes:
    """A bgzipped file by positions of its unpacked bytes; only the blocks that are asked for are unpacked.

    Raises:
        ValueError: cut off, or not made of bgzip's blocks.
    Source: SAM/BAM format specification, section 4.1.
    """

    def __init__(self, file: Path):
        self._file = file
        self._packed = PlainBytes(file)
        self._offsets, self._starts = self._blocks()
        self.size = int(self._starts[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start] of the unpacked bytes; fewer at the end."""
        stop = min(stop, self.size)
        if start >= stop:
            return np.empty(0, dtype=np.uint8)
        first, last = (int(np.searchsorted(self._starts, at, side="right")) - 1 for at in (start, stop - 1))
        packed = self._packed.read(int(self._offsets[first]), int(self._offsets[last + 1])).tobytes()
        base = int(self._offsets[first])
        parts = [self._unpacked(packed, int(self._offsets[number]) - base, number) for number in range(first, last + 1)]
        whole = np.frombuffer(b"".join(parts), dtype=np.uint8)
        return whole[start - int(self._starts[first]) : stop - int(self._starts[first])]

    def close(self) -> None:
        """The handle is opened again where need be."""
        self._packed.close()

    def _unpacked(self, packed: bytes, at: int, number: int) -> bytes:
        """One block; its checksum is checked by zlib."""
        try:
            unpacked = zlib.decompress(packed[at : at + self._length(number)], wbits=31)
        except zlib.error as error:
            raise ValueError(
                f"{self._file}: damaged at byte {self._offsets[number]} ({error}); copy it again"
            ) from None
        if len(unpacked) != self._starts[number + 1] - self._starts[number]:
            raise ValueError(f"{self._file}: damaged at byte {self._offsets[number]}; copy it again")
        return unpacked

    def _length(self, number: int) -> int:
        return int(self._offsets[number + 1] - self._offsets[number])

    def _blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each block begins, packed and unpacked; one entry more for the end."""
        size = self._packed.size
        if self._packed.read(size - len(_EOF_BLOCK), size).tobytes() != _EOF_BLOCK:
            raise ValueError(
                f"{self._file}: bgzip's end mark is missing: the file is cut off; copy or download it again"
            )
        offsets, starts = [0], [0]
        while offsets[-1] < size:
            head = self._packed.read(offsets[-1], offsets[-1] + 18).tobytes()
            if not is_bgzip(head):
                raise ValueError(f"{self._file}: no bgzip block at byte {offsets[-1]}; pack it again with bgzip")
            offsets.append(offsets[-1] + int.from_bytes(head[16:18], "little") + 1)
            tail = self._packed.read(offsets[-1] - 4, offsets[-1]).tobytes()
            starts.append(starts[-1] + int.from_bytes(tail, "little"))
        if offsets[-1] != size:
            raise ValueError(f"{self._file}: the file is cut off; copy or download it again")
        return np.array(offsets), np.array(starts)


def is_bgzip(head: bytes) -> bool:
    """Whether a file (its first 18 bytes) is made of bgzip's blocks, and not plain gzip."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"
