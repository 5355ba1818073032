"""Text files that are whole or absent: written beside, then renamed."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LEVEL = 6  # of packing; 9 takes letters of DNA several times as long and saves a few percent


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A stream of text that becomes the file at the end of the block; packed where the name ends in `.gz`.

    Where the block fails, a file that stood there before stays, and nothing else does.
    """
    with whole_file(path) as beside, open(beside, "wb") as raw:
        if str(path).endswith(".gz"):
            with gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed, io.TextIOWrapper(packed, "utf-8") as stream:
                yield stream
        else:
            with io.TextIOWrapper(raw, "utf-8", newline="\n") as stream:
                yield stream


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write to; at the end of the block it is renamed to `path`, where the block fails it is removed.

    An OSError about that path speaks of `path`.
    """
    path = Path(path)
    beside = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        if error.filename is None or Path(error.filename) != beside:
            raise
        raise type(error)(f"{path}: not written ({error.strerror}); choose a folder you may write to") from None
    finally:
        beside.unlink(missing_ok=True)
