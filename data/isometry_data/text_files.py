"""Lines of a text file, plain or gzipped, or of standard input; every failure is one line with the file."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

STANDARD_INPUT = "-"
_GZIP = b"\x1f\x8b"


def name_of(path: str | os.PathLike[str]) -> str:
    """The file as messages call it."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def text_of(path: str | os.PathLike[str]) -> str:
    """The whole text, with `\\n` for every kind of line end; `-` is standard input.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, empty, cut off, or not text.
    """
    packed = _bytes_of(path)
    try:
        plain = gzip.decompress(packed) if packed.startswith(_GZIP) else packed
        text = plain.decode("utf-8-sig")
    except EOFError:
        raise ValueError(f"{name_of(path)}: the file is cut off; copy or download it again") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name_of(path)}: not text (byte {error.start} is no UTF-8); expected a text file, plain or gzipped; "
            "unpack or convert it first"
        ) from None
    except Exception as error:  # gzip and zlib fail in several ways
        raise ValueError(f"{name_of(path)}: cannot be unpacked ({type(error).__name__}: {error})") from None
    if "\0" in text:
        raise ValueError(f"{name_of(path)}: a binary file, expected a text file, plain or gzipped; convert it first")
    if not text.strip():
        raise ValueError(f"{name_of(path)}: the file is empty, expected records; name another one, or write it again")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def lines_of(path: str | os.PathLike[str]) -> list[str]:
    """The lines without their ends; errors as `text_of`."""
    return text_of(path).rstrip("\n").split("\n")


def _bytes_of(path: str | os.PathLike[str]) -> bytes:
    if str(path) == STANDARD_INPUT:
        return _poured(sys.stdin.buffer)
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return path.read_bytes()


_read: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()


def _poured(stream: Any) -> bytes:
    """All of a stream, which gives it once: the members of an ensemble each read the files."""
    if stream not in _read:
        _read[stream] = stream.read()
    return _read[stream]
