"""The manifest of a checkpoint: what its files are, and whether they are still what was written.

Its last entry is the sha256 of all the text before it, so a changed byte of the manifest itself is noticed too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST, WEIGHTS, TENSORS, SKELETON = "manifest.json", "weights.safetensors", "state.safetensors", "state.json"

_SEAL = ',\n  "sha256": "'  # the same in every format, so that a newer one is told from a damaged one
_FIELDS = {"step": int, "app": str, "settings": dict, "scores": dict, "data": dict, "versions": dict, "files": dict}


class Damage(ValueError):
    """A checkpoint that is not as it was written: the file and what is wrong with it."""


def sealed(manifest: dict[str, Any]) -> bytes:
    """The manifest's text, with its own digest as the last entry."""
    body = json.dumps(manifest, indent=2).removesuffix("\n}")
    return f'{body}{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as written. Raises Damage; a plain ValueError if a newer isometry wrote it."""
    try:
        text = read_plain(folder / MANIFEST).decode("utf-8")
        body, _, seal = text.rpartition(_SEAL)
        if seal != f'{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n':
            raise Damage(f"{MANIFEST}: truncated or changed, its own sha256 differs")
        manifest = json.loads(text)
        made_by = int(manifest["format"])
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Damage(f"{MANIFEST}: not JSON") from None
    except (KeyError, TypeError):
        raise Damage(f"{MANIFEST}: has no format version") from None
    if made_by > FORMAT:
        raise ValueError(f"{folder}: made by format {made_by}, this isometry reads up to {FORMAT}: upgrade isometry")
    _check_fields(manifest)
    return manifest


def verified(folder: Path) -> dict[str, Any]:
    """The manifest of `folder` after comparing every file with it. Raises Damage, or ValueError as `read_manifest`."""
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        with open_plain(folder / name) as file:
            compare(name, os.fstat(file.fileno()).st_size, None, expected)  # the cheap test first
            compare(name, expected["bytes"], hashlib.file_digest(file, "sha256").hexdigest(), expected)
    return manifest


def compare(name: str, size: int, digest: str | None, expected: dict[str, Any]) -> None:
    """Raises Damage if a file's size or digest is not the one in the manifest."""
    if size != expected["bytes"]:
        raise Damage(f"{name}: {size:,} bytes, expected {expected['bytes']:,}")
    if digest is not None and digest != expected["sha256"]:
        raise Damage(f"{name}: sha256 differs")


def read_plain(path: Path) -> bytes:
    """All of a regular file. Raises Damage."""
    with open_plain(path) as file:
        return file.read()


def open_plain(path: Path) -> BufferedReader:
    """Open a regular file: a link could lead out of the folder, a pipe could wait for ever. Raises Damage."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        reason = "a link, expected a file" if error.errno == errno.ELOOP else error.strerror
        raise Damage(f"{path.name}: {reason}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Damage(f"{path.name}: not a regular file")
    return file


def _check_fields(manifest: dict[str, Any]) -> None:
    for key, kind in _FIELDS.items():
        if not isinstance(manifest.get(key), kind):
            raise Damage(f"{MANIFEST}: '{key}' is {manifest.get(key)!r}, expected {kind.__name__}")
    if not isinstance(manifest.get("score"), float | int | None):
        raise Damage(f"{MANIFEST}: 'score' is {manifest['score']!r}, expected a number or null")
    files = manifest["files"]
    if set(files) not in ({WEIGHTS}, {WEIGHTS, TENSORS, SKELETON}):
        raise Damage(f"{MANIFEST}: names the files {sorted(files)}, which no checkpoint has")
    for name, entry in files.items():
        if not (isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)):
            raise Damage(f"{MANIFEST}: no size and sha256 of {name}")
