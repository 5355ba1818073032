"""Freed memory back to the system: batches of ever other lengths leave a heap that only grows.

The C library keeps freed blocks of up to 32 MiB for reuse, and those of another size seldom fit. Convolutions over
batches of ever other lengths so came to hold several times the memory that they used.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

SECONDS = 30.0
"""Between two clearings: each takes some tenths of a second, with the pages that are then asked for again."""


class Heap:
    """The process's heap, cleared from time to time; no result depends on it. Nothing happens without glibc."""

    def __init__(self) -> None:
        self._trim, self._cleared_at = _trimmer(), time.monotonic()

    def clear(self) -> None:
        """Gives freed memory back, if the last time is long enough ago."""
        if self._trim is not None and time.monotonic() - self._cleared_at >= SECONDS:
            self._trim(0)
            self._cleared_at = time.monotonic()


def _trimmer() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes = [ctypes.c_size_t]
    return trim
