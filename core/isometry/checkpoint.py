"""Checkpoints that survive kill -9, full disks and bit rot, and that hold no code.

A checkpoint is a folder `step-00001200/`:
    manifest.json        what it is: format, app, settings, versions, scores; size and sha256 of every other file
    weights.safetensors  what predictions use (the averaged weights, if there are any)
    state.safetensors    with state.json: all else that training needs to go on; absent in shipped checkpoints
Everything is data: JSON and safetensors. Whatever else lies in the folder is not looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import isometry
from isometry.durable import explained, remove_whole, sweep, sync_file, sync_folder, temporary_beside, write_synced
from isometry.manifest import (
    FORMAT,
    MANIFEST,
    SKELETON,
    TENSORS,
    WEIGHTS,
    Damage,
    compare,
    read_manifest,
    read_plain,
    sealed,
    verified,
)
from isometry.tree import flattened, named, rebuilt

_NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


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
        """The tensors predictions use, on the CPU, by name. Raises ValueError if the file has changed since."""
        tensors, unusual = self._tensors(WEIGHTS), self.manifest.get("unusual", {})
        return {name: rebuilt(unusual.get(name, {"tensor": name}), tensors) for name in tensors}

    def state(self) -> Any:
        """The nested state given to `Vault.save`, tensors on the CPU. Raises ValueError if there is none."""
        if not self.has_state:
            raise ValueError(f"{self.path}: holds weights only, for predictions: training cannot go on from it")
        content, tensors = self._content(SKELETON), self._tensors(TENSORS)
        try:
            return rebuilt(json.loads(content), tensors)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}/{SKELETON}: not the state of a run: {error}") from None

    def _tensors(self, name: str) -> dict[str, Tensor]:
        try:
            return safetensors.torch.load(self._content(name))
        except SafetensorError as error:
            raise ValueError(f"{self.path}/{name}: not a safetensors file: {error}") from None

    def _content(self, name: str) -> bytes:
        # The bytes that are checked are the bytes that are used: the file may have changed since it was verified.
        try:
            content = read_plain(self.path / name)
            compare(name, len(content), hashlib.sha256(content).hexdigest(), self.manifest["files"][name])
        except Damage as damage:
            raise ValueError(f"{self.path} is damaged ({damage}): copy it again, or use another one") from None
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
        checkpoint = Checkpoint(path, verified(path))
    except Damage as damage:
        raise ValueError(f"{path} is damaged ({damage}): copy it again, or use another one") from None
    if app is not None and checkpoint.app != app:
        raise ValueError(f"{path}: a checkpoint of the app '{checkpoint.app}', expected '{app}'")
    return checkpoint


class Vault:
    """The checkpoints of one run: the last `keep` and the best (the first until one has a score), each whole or absent,
    whatever happens.

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
        if better not in ("smaller", "larger"):
            raise ValueError(f"better is '{better}', expected 'smaller' or 'larger'")
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
        calibration: dict[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint and return its folder once the disk has it; then remove those no longer needed.

        Args:
            weights: what predictions use. state: nested (see tree.py); None for a checkpoint to ship.
            data: checksums of the data sets. score: the number that decides which is best; nan counts as none.
            versions: of further libraries; isometry, torch, python and numpy are noted anyway.
            calibration: how the temperatures among the weights were found.
        Raises TypeError for what cannot be stored, OSError with one line if it cannot be written; the older
        checkpoints are untouched then and nothing of the new one remains.
        """
        files, unusual = _files(weights, state)
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
            "calibration": calibration or {},
            "unusual": unusual,
        }
        json.dumps(manifest)  # refused before anything is written
        target = self._free_name(step)
        self._write(target, manifest, files)
        self._retain(target)
        return target

    def amend(self, checkpoint: Checkpoint, tensors: dict[str, Tensor], **fields: Any) -> Checkpoint:
        """The checkpoint with some of its weights and entries of its manifest replaced; its training state stays.

        It is written whole under a new name, by which it comes before the original everywhere, and only then the
        original is removed: killed in between, both are good. Doing it again changes nothing.

        Args:
            tensors: by the names of weights; stored in the number format these have.
        Raises ValueError for names that no weight has, OSError as `save`; the original is untouched then.
        """
        weights = checkpoint.weights()
        foreign = sorted(tensors.keys() - weights.keys())
        if foreign:
            raise ValueError(f"{checkpoint.path}: has no weights called {', '.join(foreign)}")
        changes = {name: tensor.to(weights[name]).reshape(weights[name].shape) for name, tensor in tensors.items()}
        is_same = all(_same_bits(weights[name], tensor) for name, tensor in changes.items())
        # Compared as text: what is no number does not equal itself.
        if not (is_same and json.dumps(checkpoint.manifest | fields) == json.dumps(checkpoint.manifest)):
            checkpoint = self._write_again(checkpoint, weights | changes, fields)
        for path in self._paths():
            step, revision = _order(path)
            if step == checkpoint.step and revision < _order(checkpoint.path)[1]:
                self._discard(path)
        return checkpoint

    def newest(self, max_step: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that verifies, None if there is none; damaged ones are passed over and told.

        Raises ValueError if one of a newer format is met, or if there are checkpoints but all are damaged.
        """
        return self._first_whole([path for path in self._paths() if max_step is None or _order(path)[0] <= max_step])

    def best(self) -> Checkpoint | None:
        """The verified checkpoint with the best score (of equals the earliest), the newest if none has a score."""
        ranked = self._ranked(self._paths())
        return self._first_whole(ranked) if ranked else self.newest()

    def haven(self) -> Checkpoint | None:
        """The checkpoint to go back to when a run goes wrong: the best, or the first if none has a score.

        Never the newest: which one that is depends on the clock, and a resumed run must go back to the same one.
        """
        paths = self._paths()
        return self._first_whole(self._ranked(paths) or paths[::-1])

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints later than `step`: a run that went back to it must not find them when it resumes."""
        for path in self._paths():
            if _order(path)[0] > step:
                remove_whole(path)

    def sweep(self) -> list[str]:
        """Remove what dead writers left, and return the names. Call it while holding the run's lock."""
        return sweep(self.folder)

    def _write(self, target: Path, manifest: dict[str, Any], files: dict[str, _Content]) -> None:
        partial = temporary_beside(target)
        try:
            if not self.folder.is_dir():
                self.folder.mkdir()
                sync_folder(self.folder.parent)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            entries = {name: _write_file(partial / name, content) for name, content in files.items()}
            write_synced(partial / MANIFEST, sealed(manifest | {"files": entries}))
            sync_folder(partial)
            os.rename(partial, target)
            sync_folder(self.folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise explained(error, target, sum(map(_size, files.values()))) from error
            raise

    def _write_again(self, old: Checkpoint, weights: dict[str, Tensor], fields: dict[str, Any]) -> Checkpoint:
        files, unusual = _files(weights, None)
        files |= {name: old._content(name) for name in old.manifest["files"] if name != WEIGHTS}
        kept = {key: value for key, value in old.manifest.items() if key not in ("files", "sha256")}
        target = self._free_name(old.step)
        self._write(target, kept | fields | {"unusual": unusual}, files)
        return read_checkpoint(target)

    def _free_name(self, step: int) -> Path:
        # A step saved again gets a new name: replacing a folder is two renames, with nothing in place between them.
        taken = [_order(path)[1] for path in self._paths() if _order(path)[0] == step]
        return self.folder / (f"step-{step:08d}-{max(taken) + 1}" if taken else f"step-{step:08d}")

    def _paths(self) -> list[Path]:
        """The checkpoint folders, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else []
        paths = [path for path in found if _NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
        return sorted(paths, key=_order, reverse=True)

    def _ranked(self, paths: list[Path]) -> list[Path]:
        """Those with a score, best first, of equals the earlier step first; by manifest alone."""
        ranked: list[tuple[float, int, int, Path]] = []
        for path in paths:
            try:
                score = read_manifest(path)["score"]
            except (Damage, OSError):
                continue
            if score is not None and not math.isnan(score):
                step, revision = _order(path)
                ranked.append((score if self.better == "smaller" else -score, step, -revision, path))
        return [path for *_, path in sorted(ranked)]

    def _first_whole(self, paths: list[Path]) -> Checkpoint | None:
        damages: list[str] = []
        for path in paths:
            try:
                checkpoint = Checkpoint(path, verified(path))
            except (Damage, OSError) as damage:
                damages.append(f"{path.name} is damaged ({damage})")
                continue
            for line in damages:
                self.tell(f"checkpoint {line}, falling back to {path.name}")
            return checkpoint
        if damages:
            raise ValueError(
                f"{self.folder}: no checkpoint can be read: {'; '.join(damages)}: "
                "restore the folder from a copy, or remove it to start afresh"
            )
        return None

    def _retain(self, saved: Path) -> None:
        paths = self._paths()
        latest = {_order(path)[0]: path for path in reversed(paths)}  # of a step, the last one saved
        by_age = [latest[step] for step in sorted(latest, reverse=True)]
        # The best may be an earlier save of a step: one saved again on a signal has no score. Until one has a score,
        # the first is the state to go back to.
        kept = {saved, *by_age[: self.keep], *(self._ranked(paths) or by_age[::-1])[:1]}
        for path in paths:
            if path not in kept:
                self._discard(path)

    def _discard(self, path: Path) -> None:
        try:
            remove_whole(path)
        except OSError as error:
            self.tell(f"checkpoint {path.name} is no longer needed but could not be removed: {error}")


_Content = bytes | dict[str, Tensor]


def _order(path: Path) -> tuple[int, int]:
    """The step of a checkpoint folder, and how many times that step was saved."""
    _, step, revision = [*path.name.split("-"), "1"][:3]
    return int(step), int(revision)


def _versions() -> dict[str, str]:
    return {
        "isometry": isometry.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _files(weights: dict[str, Tensor], state: Any) -> tuple[dict[str, _Content], dict[str, Any]]:
    """File name -> content, and how to read unusual weights; all that cannot be stored is refused here."""
    tensors, unusual = named(weights, "weights")
    files: dict[str, _Content] = {WEIGHTS: tensors}
    if state is not None:
        files[TENSORS], skeleton = flattened(state)
        files[SKELETON] = json.dumps(skeleton, separators=(",", ":")).encode("ascii")
    return files, unusual


def _size(content: _Content) -> int:
    if isinstance(content, bytes):
        return len(content)
    return sum(tensor.nbytes + len(name) + 80 for name, tensor in content.items())  # 80: its entry in the header


def _write_file(path: Path, content: _Content) -> dict[str, Any]:
    if isinstance(content, bytes):
        write_synced(path, content)
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        path.touch()
        mode = path.stat().st_mode
        # Straight to the file: serialising in memory first takes twice the memory and 1.5 times as long.
        safetensors.torch.save_file(content, path)
        path.chmod(mode)  # as the umask says; safetensors would let its owner alone read it
    except SafetensorError as error:
        number = _OS_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number.group(1)), os.strerror(int(number.group(1)))) from error
    with ThreadPoolExecutor(1) as pool, open(path, "rb") as file:
        flushed = pool.submit(sync_file, path)  # the disk writes while the digest is computed: both release the GIL
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        flushed.result()
    return {"bytes": path.stat().st_size, "sha256": digest}
