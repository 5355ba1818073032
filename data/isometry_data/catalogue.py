"""The data sets this project knows: what they are, under which licence, and where their files lie or come from.

Third-party files are never shipped. They are looked for below `$ISOMETRY_DATA`, then in the user's cache
(`$ISOMETRY_CACHE`, else the system's), and are fetched into the cache where a public address is known.
"""

from __future__ import annotations

import logging
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from isometry_data.checksums import sha256_of
from isometry_data.crystal_sets import CRYSTAL_SETS
from isometry_data.entries import DataFile, DataSet
from isometry_data.genome_entries import GENOME_SETS
from isometry_data.protein_sets import PROTEIN_SETS
from isometry_data.signaling_sets import SIGNALING_SETS

__all__ = ["DataFile", "DataSet", "cache_folder", "datasets", "locate"]

_log = logging.getLogger(__name__)


def datasets() -> dict[str, DataSet]:
    """Every data set by name."""
    return {entry.name: entry for entry in (*CRYSTAL_SETS, *GENOME_SETS, *PROTEIN_SETS, *SIGNALING_SETS)}


def locate(name: str, file: str | None = None) -> Path:
    """The path of a file that was checked, fetched first where need be.

    Raises:
        ValueError: unknown name, or a file whose size or checksum is not the catalogue's.
        FileNotFoundError: the file is nowhere, and no public address is known or reachable.
    """
    known = datasets()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(known)}")
    entry = known[name]
    wanted = entry.file(file)
    return _own(wanted) if entry.is_own else _third_party(entry, wanted)


def cache_folder() -> Path:
    """`$ISOMETRY_CACHE`, else the system's folder for caches."""
    import pooch

    return Path(os.environ.get("ISOMETRY_CACHE") or pooch.os_cache("isometry"))


def _own(wanted: DataFile) -> Path:
    path = Path(str(files("isometry_data").joinpath(wanted.path)))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this file is part of the package; install isometry again")
    return path


def _third_party(entry: DataSet, wanted: DataFile) -> Path:
    folder = os.environ.get("ISOMETRY_DATA")
    if folder and (path := Path(folder) / wanted.path).exists():
        _check(path, wanted.size, wanted.sha256, "replace it, or unset ISOMETRY_DATA to have it fetched")
        return _told(path, wanted)
    for path in (Path(folder) / other for other in wanted.also if folder):
        if path.exists():
            return _told(path, wanted)
    path = cache_folder() / wanted.path
    if not path.exists():
        _fetch(entry, wanted, path)
    elif (note := _note(path)).exists():
        _check(path, None, note.read_text().strip(), "delete it to have it fetched again")
    else:
        _check(path, wanted.size, wanted.sha256, "delete it to have it fetched again")
    return path


def _told(path: Path, wanted: DataFile) -> Path:
    """The path; a line where nothing says what the file must be."""
    if wanted.sha256 is None:
        _log.warning("%s: no checksum of this file is known; it is read as it is", path)
    return path


def _check(path: Path, size: int | None, sha256: str | None, remedy: str) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        raise ValueError(f"{path}: {found} bytes, expected {size}: changed or cut off; {remedy}")
    if sha256 is not None and (digest := sha256_of(path)) != sha256:
        raise ValueError(f"{path}: sha256 {digest[:12]}…, expected {sha256[:12]}…: its contents differ; {remedy}")


def _note(path: Path) -> Path:
    """Beside a file made here stands its checksum: the same records compress to different bytes elsewhere."""
    return path.with_name(path.name + ".sha256")


def _fetch(entry: DataSet, wanted: DataFile, path: Path) -> None:
    """Downloads the sources, converts and checks them; the file appears last, when its checksum stands beside it."""
    places = " or ".join((wanted.path, *wanted.also))
    by_hand = f"or set ISOMETRY_DATA to a folder that has {places} (from {entry.address})"
    if not wanted.sources or wanted.convert is None:
        raise FileNotFoundError(f"{entry.name} {wanted.name}: not in {path}, no address to fetch it from; {by_hand}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as room:
            sources = [_downloaded(address, Path(room)) for address in wanted.sources]
            made = Path(room) / path.name
            wanted.convert(sources, made)
            _note(path).write_text(sha256_of(made) + "\n")
            os.replace(made, path)
    except (OSError, ValueError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise FileNotFoundError(
            f"{entry.name} {wanted.name}: fetching failed ({reason}); try again, {by_hand}"
        ) from error


def _downloaded(address: str, folder: Path) -> Path:
    """The file behind the address, kept under its own name; OSError where it cannot be had."""
    import pooch

    target = folder / address.rsplit("/", 1)[-1]
    _log.info("fetching %s", address)
    pooch.HTTPDownloader(progressbar=False, timeout=60)(address, str(target), None)  # its failures are OSErrors
    return target
