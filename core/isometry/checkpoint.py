"""Checkpoints that survive kill -9, full disks and bit rot, and that hold no code.

A checkpoint is a folder `step-00001200/`:
    manifest.json        what it is: format, app, settings, versions, scores; size and sha256 of every other file
    weights.safetensors  what predictions use (the averaged weights, if there are any)
    state.safetensors    with state.json: all else that training needs to go on; absent in shipped checkpoints
Everything is data: JSON and safetensors. Whatever else lies in the folder is not looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import isometry
from isometry.durable import explained, remove_whole, sweep, sync_folder, temporary_beside, write_synced
from isometry.tree import NATIVE, flattened, rebuilt, storable, unshared

FORMAT = 1
MANIFEST, WEIGHTS, TENSORS, SKELETON = "manifest.json", "weights.safetensors", "state.safetensors", "state.json"
_FOLDER = re.compile(r"step-(\d{8,})(?:-(\d+))?")
_SEAL = ',\n  "sha256": "'  # the manifest's last entry: the digest of all the text before it, in every format


class Damage(ValueError):
    """A checkpoint that is not as it was written: file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint. Its numbers are read, and checked again, when asked for."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return self.manifest["step"]

    @property
    def app(self) -> str:
        return self.manifest["app"]

    @property
    def settings(self) -> dict[str, Any]:
        return self.manifest["settings"]

    @property
    def score(self) -> float | None:
        return self.manifest["score"]

    @property
    def scores(self) -> dict[str, float]:
        return self.manifest["scores"]

    @property
    def has_state(self) -> bool:
        """Whether training can go on from it; a shipped checkpoint has weights only."""
        return SKELETON in self.manifest["files"]

    def weights(self) -> dict[str, Tensor]:
        """The tensors predictions use, on the CPU, by name."""
        return self._tensors(WEIGHTS)

    def state(self) -> Any:
        """The nested state given to `Vault.save`, tensors on the CPU."""
        if not self.has_state:
            raise ValueError(f"{self.path}: holds weights only, for predictions; training cannot go on from it")
        try:
            return rebuilt(json.loads(self._content(SKELETON)), self._tensors(TENSORS))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}/{SKELETON}: {error}") from None

    def _tensors(self, name: str) -> dict[str, Tensor]:
        try:
            return safetensors.torch.load(self._content(name))
        except SafetensorError as error:
            raise ValueError(f"{self.path}/{name}: not a safetensors file: {error}") from None

    def _content(self, name: str) -> bytes:
        # The bytes that are checked are the bytes that are used: the file may have changed since `verified`.
        try:
            with _open_plain(self.path / name) as file:
                content = file.read()
            _compare(name, len(content), hashlib.sha256(content).hexdigest(), self.manifest["files"][name])
        except (Damage, OSError) as error:
            raise ValueError(f"{self.path}: {error}") from None
        return content


def read_checkpoint(path: str | Path, app: str | None = None) -> Checkpoint:
    """The checkpoint in one folder, every file verified.

    Raises FileNotFoundError if there is none, ValueError if it is damaged, made by a newer format, or not of `app`.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such checkpoint folder")
    if not (path / MANIFEST).exists():
        raise FileNotFoundError(f"{path}: no {MANIFEST} in it, so not a checkpoint")
    try:
        checkpoint = _verified(path)
    except Damage as damage:
        raise ValueError(f"{path} is damaged ({damage}): copy it again, or use another checkpoint") from None
    if app is not None and checkpoint.app != app:
        raise ValueError(f"{path}: a checkpoint of the app '{checkpoint.app}', expected '{app}'")
    return checkpoint


class Vault:
    """The checkpoints of one run: the last `keep` and the best, each whole or absent, whatever happens.

    One process writes at a time (see RunFolder's lock). `tell` receives one line about each damaged checkpoint.
    """

    def __init__(
        self,
        folder: str | Path,
        keep: int = 2,
        better: Literal["smaller", "larger"] = "smaller",
        tell: Callable[[str], None] = warnings.warn,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}: at least one checkpoint must be kept")
        self.folder, self.keep, self.better, self.tell = Path(folder), keep, better, tell

    def save(
        self,
        step: int,
        weights: dict[str, Tensor],
        state: Any = None,
        *,
        app: str = "",
        settings: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        score: float | None = None,
        scores: dict[str, float] | None = None,
        versions: dict[str, str] | None = None,
    ) -> Path:
        """Write a checkpoint and return its folder once the disk has it; then remove those no longer needed.

        Args:
            weights: what predictions use. state: nested (see tree.py), None for a checkpoint to ship.
            data: checksums of the data sets. score: the number that decides which is best; nan counts as none.
            versions: of further libraries; isometry, torch, python and numpy are noted anyway.
        Raises TypeError for what cannot be stored, OSError with one line if it cannot be written; the older
        checkpoints are untouched then and nothing of the new one remains.
        """
        manifest = {
            "format": FORMAT,
            "step": int(step),
            "app": app,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "score": None if score is None else float(score),
            "scores": scores or {},
            "settings": settings or {},
            "data": data or {},
            "versions": _versions() | (versions or {}),
        }
        contents = _contents(weights, state)
        target = self._free_name(step)
        self._write(target, manifest, contents)
        self._retain(target)
        return target

    def newest(self, max_step: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that verifies, None if there is none; damaged ones are passed over and told.

        Raises ValueError if one of a newer format is met, or if there are checkpoints but all are damaged.
        """
        paths = [path for path in self._paths() if max_step is None or _step_of(path) <= max_step]
        return self._first_whole(paths)

    def best(self) -> Checkpoint | None:
        """The verified checkpoint with the best score (of equals the earliest), the newest if none has a score."""
        ranked = self._ranked()
        return self._first_whole(ranked) if ranked else self.newest()

    def sweep(self) -> list[str]:
        """Remove what dead writers left, and return the names. Call it while holding the run's lock."""
        return sweep(self.folder)

    def _write(self, target: Path, manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
        partial = temporary_beside(target)
        try:
            self.folder.mkdir(exist_ok=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            files = {name: _write_file(partial / name, content) for name, content in contents.items()}
            write_synced(partial / MANIFEST, _sealed(manifest | {"files": files}))
            sync_folder(partial)
            os.rename(partial, target)
            sync_folder(self.folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise explained(error, target, sum(map(len, contents.values()))) from error
            raise

    def _free_name(self, step: int) -> Path:
        # A step saved again gets a new name: replacing a folder is two renames, with nothing in place between them.
        taken = [_revision_of(path) for path in self._paths() if _step_of(path) == step]
        return self.folder / (f"step-{step:08d}-{max(taken) + 1}" if taken else f"step-{step:08d}")

    def _paths(self) -> list[Path]:
        """The checkpoint folders, newest first."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]
        return sorted(paths, key=lambda path: (_step_of(path), _revision_of(path)), reverse=True)

    def _ranked(self) -> list[Path]:
        """The folders with a score, best first, of equals the earlier step first; by manifest alone."""
        ranked: list[tuple[float, int, int, Path]] = []
        for path in self._paths():
            with contextlib.suppress(Damage):
                score = _read_manifest(path)["score"]
                if score is not None and not math.isnan(score):
                    rank = score if self.better == "smaller" else -score
                    ranked.append((rank, _step_of(path), -_revision_of(path), path))
        return [path for *_, path in sorted(ranked)]

    def _first_whole(self, paths: list[Path]) -> Checkpoint | None:
        damages: list[str] = []
        for path in paths:
            try:
                checkpoint = _verified(path)
            except Damage as damage:
                damages.append(f"{path.name} is damaged ({damage})")
                continue
            for line in damages:
                self.tell(f"checkpoint {line}, falling back to {path.name}")
            return checkpoint
        if damages:
            raise ValueError(
                f"{self.folder}: none of the {len(damages)} checkpoints can be read: {'; '.join(damages)}; "
                "restore the folder from a copy, or remove it to start afresh"
            )
        return None

    def _retain(self, saved: Path) -> None:
        latest: dict[int, Path] = {}
        for path in self._paths():
            latest.setdefault(_step_of(path), path)
        best = [path for path in self._ranked() if path in latest.values()][:1]
        kept = {saved, *list(latest.values())[: self.keep], *best}
        for path in self._paths():
            if path not in kept:
                try:
                    remove_whole(path)
                except OSError as error:
                    self.tell(f"checkpoint {path.name} is no longer needed but could not be removed: {error}")


def _step_of(path: Path) -> int:
    return int(path.name.split("-")[1])


def _revision_of(path: Path) -> int:
    return int([*path.name.split("-"), 1][2])


def _versions() -> dict[str, str]:
    return {
        "isometry": isometry.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _contents(weights: dict[str, Tensor], state: Any) -> dict[str, bytes]:
    """File name -> content; all that can be refused is refused here, before anything is written."""
    memory: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in NATIVE or name == "__metadata__":
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"weights[{name!r}] is {found}, which a weights file cannot hold under this name")
        plain[name] = unshared(storable(tensor, f"weights[{name!r}]"), memory)
    contents = {WEIGHTS: safetensors.torch.save(plain)}
    if state is not None:
        tensors, skeleton = flattened(state)
        contents[TENSORS] = safetensors.torch.save(tensors)
        contents[SKELETON] = json.dumps(skeleton, separators=(",", ":")).encode("ascii")
    return contents


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:  # the digest is computed while the disk writes: both release the GIL
        digest = pool.submit(hashlib.sha256, content)
        write_synced(path, content)
        return {"bytes": len(content), "sha256": digest.result().hexdigest()}


def _sealed(manifest: dict[str, Any]) -> bytes:
    body = json.dumps(manifest, indent=2).removesuffix("\n}")
    return f'{body}{_SEAL}{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as written. Raises Damage; ValueError if a newer isometry wrote it."""
    try:
        with _open_plain(folder / MANIFEST) as file:
            text = file.read().decode("utf-8")
        body, _, seal = text.rpartition(_SEAL)
        if seal != f'{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n':
            raise Damage(f"{MANIFEST}: truncated or changed, its own sha256 differs")
        manifest = json.loads(text)
    except OSError as error:
        raise Damage(f"{MANIFEST}: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Damage(f"{MANIFEST}: not JSON") from None
    if manifest.get("format", 0) > FORMAT:
        raise ValueError(
            f"{folder}: made by format {manifest['format']}, this isometry reads up to {FORMAT}: upgrade isometry"
        )
    _check_fields(manifest)
    return manifest


def _check_fields(manifest: dict[str, Any]) -> None:
    expected = {"step": int, "app": str, "settings": dict, "scores": dict, "files": dict, "versions": dict}
    for key, kind in expected.items():
        if not isinstance(manifest.get(key), kind):
            raise Damage(f"{MANIFEST}: '{key}' is {manifest.get(key)!r}, expected {kind.__name__}")
    if not isinstance(manifest.get("score"), float | int | None):
        raise Damage(f"{MANIFEST}: 'score' is {manifest.get('score')!r}, expected a number or null")
    if set(manifest["files"]) not in ({WEIGHTS}, {WEIGHTS, TENSORS, SKELETON}):
        raise Damage(f"{MANIFEST}: names the files {sorted(manifest['files'])}, which no checkpoint has")


def _verified(folder: Path) -> Checkpoint:
    """The checkpoint in `folder` after comparing every file with the manifest. Raises Damage."""
    manifest = _read_manifest(folder)
    for name, expected in manifest["files"].items():
        try:
            with _open_plain(folder / name) as file:
                size = os.fstat(file.fileno()).st_size
                _compare(name, size, hashlib.file_digest(file, "sha256").hexdigest(), expected)
        except OSError as error:
            raise Damage(f"{name}: {error.strerror}") from None
    return Checkpoint(folder, manifest)


def _compare(name: str, size: int, digest: str, expected: dict[str, Any]) -> None:
    if size != expected["bytes"]:
        raise Damage(f"{name}: {size:,} bytes, expected {expected['bytes']:,}")
    if digest != expected["sha256"]:
        raise Damage(f"{name}: sha256 differs")


def _open_plain(path: Path) -> BinaryIO:
    """Open a regular file for reading; a link could lead out of the folder, a pipe could wait for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Damage(f"{path.name}: not a regular file")
    return os.fdopen(handle, "rb")
