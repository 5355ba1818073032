"""The folder of one run: where everything lies, one run at a time, no file half-written."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from isometry.durable import bytes_free, explained, sweep, sync_folder, write_whole

LOCK = ".lock"
_LOCK_BEGINS = b'{"pid": '


class RunFolder:
    """Layout of a run, and its lock while it is open.

    .lock           who is writing: held by the kernel, so free again the moment its process is gone
    settings.json   what the run was asked to do
    events.jsonl    what happened, one event a line
    checkpoints/    see checkpoint.py
    scores.json     the scores of the evaluations
    report.html     the report with the curves

    `RunFolder(path)` only knows the names; `RunFolder.open(path)` makes the folder and takes the lock;
    `RunFolder.existing(path)` is for readers and takes no lock.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings = self.path / "settings.json"
        self.events = self.path / "events.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.scores = self.path / "scores.json"
        self.report = self.path / "report.html"
        self._lock: int | None = None

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Make the folder if it is missing, lock it and sweep what dead writers left.

        Raises OSError with one line: a file is in the way, the folder holds something else, another run is using it,
        or it cannot be written.
        """
        run = cls(path)
        made = run._make()
        try:
            run._take_lock()
            sweep(run.path)
            sweep(run.checkpoints)
        except BaseException:
            run.close()
            if made:
                run._unmake()
            raise
        return run

    @classmethod
    def existing(cls, path: str | Path) -> Self:
        """A run folder to read from. Raises FileNotFoundError with one line if it is none."""
        run = cls(path)
        if not run.path.is_dir():
            raise FileNotFoundError(f"{path}: no such run folder")
        if not run._is_run():
            raise FileNotFoundError(f"{path}: not a run folder (no {run.settings.name} or checkpoints in it)")
        return run

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run at one instant; never a part of it. Raises OSError with one clear line."""
        if not name or Path(name).name != name:
            raise ValueError(f"'{name}': a file of a run lies directly in its folder")
        write_whole(self.path / name, text)
        return self.path / name

    def write_json(self, name: str, value: Any) -> Path:
        """`write_text` of `value` as indented JSON."""
        return self.write_text(name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        """What `write_json` wrote. Raises FileNotFoundError, or ValueError if it is not JSON."""
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file in this run")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: not valid JSON: {error}") from None

    def close(self) -> None:
        """Give the lock back; the file stays, for removing it would let two runs lock different files."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()

    def _make(self) -> bool:
        """Make the folder; False if it was there. Raises OSError if it is not ours to write in."""
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self.path}: a file is in the way: a run needs a folder of its own")
        if self.path.is_dir():
            if any(entry.name != LOCK for entry in self.path.iterdir()) and not self._is_run():
                raise FileExistsError(f"{self.path}: holds files but no run: choose a new or empty folder")
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path.parent)
        except OSError as error:
            reason = f"{error.strerror}, {bytes_free(self.path)} bytes free"
            raise type(error)(f"{self.path}: the folder cannot be made ({reason}): choose another one") from error
        return True

    def _unmake(self) -> None:
        with contextlib.suppress(OSError):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def _is_run(self) -> bool:
        if self.settings.is_file() and self.checkpoints.is_dir():
            return True  # copied from elsewhere, without the hidden file
        with contextlib.suppress(OSError):
            return (self.path / LOCK).read_bytes().startswith(_LOCK_BEGINS)
        return False

    def _take_lock(self) -> None:
        path = self.path / LOCK
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        line = (json.dumps(owner) + "\n").encode()
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self._lock, line, 0)  # before it is cut: at no moment is the file empty
            os.ftruncate(self._lock, len(line))
        except BlockingIOError:
            raise BlockingIOError(
                f"{self.path}: in use by {_owner(path)}: wait, stop it, or choose another folder"
            ) from None
        except OSError as error:
            raise explained(error, path, len(line)) from error
        _close_in_children(self)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def _close_in_children(run: RunFolder) -> None:
    # A forked data worker inherits the lock and would hold it after its parent was killed.
    known = weakref.ref(run)

    def close() -> None:
        inherited = known()
        if inherited is not None:
            inherited.close()

    os.register_at_fork(after_in_child=close)
