"""Files that are whole or absent: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

TEMPORARY = ".tmp-"  # begins the name of everything unfinished; a writer that died leaves it for `sweep`

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}


def temporary_beside(path: Path) -> Path:
    """Where `path` is written before it is renamed: same folder, so same file system; the writer's pid in its name."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Wait until the disk has what was written to the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's list of names: after a rename, what makes it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync for folders
            raise
    finally:
        os.close(handle)


def write_whole(path: Path, content: str | bytes) -> None:
    """Replace a file at one instant: at any moment a reader finds the old content or the new, never a part.

    Raises OSError with one line saying bytes needed, bytes free and what to do; the old content is then untouched.
    """
    content = content.encode("utf-8") if isinstance(content, str) else content
    partial = temporary_beside(path)
    try:
        write_synced(partial, content)
        os.replace(partial, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explained(error, path, len(content)) from error
        raise


def check_writable(path: Path) -> None:
    """Raises OSError with one line when nothing can be written beside `path`: tried, for rights alone do not tell."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file; name a file in it")
    trial = temporary_beside(path)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        line = f"{path}: cannot be written in the folder {path.parent} ({reason}); choose a folder you may write to"
        raise _numbered(error, line) from error


def remove_whole(folder: Path) -> None:
    """Remove a folder so that a crash leaves it either as it was or under a name that `sweep` knows."""
    doomed = temporary_beside(folder)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def sweep(folder: Path) -> list[str]:
    """Remove what dead writers left unfinished and return the names. The caller must hold the lock of the run."""
    if not folder.is_dir():
        return []
    litter = sorted(entry for entry in folder.iterdir() if entry.name.startswith(TEMPORARY))
    for entry in litter:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return [entry.name for entry in litter]


def explained(error: OSError, path: Path, needed: int) -> OSError:
    """The same failure to write in one line that says the bytes needed, the bytes free and what to do."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT:
        advice = f"there is no folder {path.parent}; make it first, or choose another one"
        return _numbered(error, f"{path}: not written ({reason}): {advice}")
    if error.errno in _NO_ROOM:
        advice = "free some space (or raise the limit) and run again, or choose another folder"
    elif error.errno in _NO_RIGHT:
        advice = "choose a folder you may write to"
    else:
        advice = "check the disk and the folder, or choose another one"
    room = f"{needed:,} bytes needed, {bytes_free(path)} bytes free"
    return _numbered(error, f"{path}: not written ({reason}): {room}; {advice}")


def _numbered(error: OSError, line: str) -> OSError:
    clear = type(error)(line)
    clear.errno = error.errno
    return clear


def bytes_free(path: Path) -> str:
    """Bytes free where `path` is or would be, in words."""
    for folder in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            return f"{shutil.disk_usage(folder).free:,}"
    return "unknown"
