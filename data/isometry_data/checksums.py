"""What identifies the files that a run read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path


def checksums(files: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file, by its name; where two have one name, by as many of its folders as tell them apart.

    Where the files' common folder lies makes no difference: the same data are the same data on another machine.
    """
    sums: dict[str, str] = {}
    for file in files:
        sha256 = sha256_of(file)
        name = next((name for name in _names(Path(file)) if sums.get(name, sha256) == sha256), str(file))
        sums[name] = sha256
    return sums


def _names(file: Path) -> Iterator[str]:
    """c.gz, b/c.gz, a/b/c.gz …"""
    parts = file.parts
    for n in range(1, len(parts) + 1):
        yield "/".join(parts[-n:])


def sha256_of(file: Path) -> str:
    """Of a file's contents, in hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
