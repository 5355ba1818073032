"""What identifies the files that a run read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def checksums(files: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file, by its name; by its whole path where two have one name."""
    sums: dict[str, str] = {}
    for file in files:
        name = Path(file).name if Path(file).name not in sums else str(file)
        sums[name] = sha256_of(file)
    return sums


def sha256_of(file: Path) -> str:
    """Of a file's contents, in hexadecimal digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
