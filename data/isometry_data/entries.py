"""What the catalogue says of a data set: files, checksums, public addresses, licence, citation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """One file of a data set. A file of our own has no size and checksum here: the package's wheel carries both."""

    name: str  # within its data set
    path: str  # below $ISOMETRY_DATA or the cache; of a file of our own, within this package
    size: int | None = None  # bytes
    sha256: str | None = None
    sources: tuple[str, ...] = ()  # public addresses it is made from
    convert: Callable[[Sequence[Path], Path], None] | None = None  # fetched sources -> this file, checking contents
    also: tuple[str, ...] = ()  # where the same records may lie in another form, below $ISOMETRY_DATA


@dataclass(frozen=True)
class DataSet:
    """A data set and what its users owe to its authors."""

    name: str
    title: str
    files: tuple[DataFile, ...]
    licence: str
    citation: str
    address: str  # a page for people; empty where the data is our own
    is_own: bool = False

    def file(self, name: str | None = None) -> DataFile:
        """The file of that name; the only one where none is named."""
        if name is None and len(self.files) == 1:
            return self.files[0]
        for candidate in self.files:
            if candidate.name == name:
                return candidate
        raise ValueError(f"{self.name} has no file {name!r}; its files: {', '.join(f.name for f in self.files)}")
