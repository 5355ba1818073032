"""Structures out of whatever file ASE can read, one by one; every failure is one line with file and frame."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms

XYZ = "extxyz"  # ASE's name for plain and extended XYZ


def structures_in(path: str | os.PathLike[str], index: int | str | slice) -> list[tuple[int, Atoms]]:
    """The chosen structures with their frame numbers; errors as `isometry_data.crystals.read_crystals` lists them."""
    path = _existing(path)
    chosen = _slice(index)
    if (chosen.start or 0) < 0 or (chosen.stop or 0) < 0 or (chosen.step or 1) < 1:
        found = list(enumerate(_parsed(path, slice(None))))[chosen]  # counted from the end: needs the whole file
    else:
        first, step = chosen.start or 0, chosen.step or 1
        found = [(first + i * step, atoms) for i, atoms in enumerate(_parsed(path, chosen))]
    if not found:
        raise ValueError(f"{path}: no frames for index {index!r}; expected at least one structure")
    return found


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a structure file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty, expected structures")
    return path


def _slice(index: int | str | slice) -> slice:
    from ase.io.formats import string2index

    chosen = string2index(index) if isinstance(index, str) else index
    if isinstance(chosen, str):
        raise ValueError(f"index {index!r} is neither a frame number nor a slice such as ':100' or '::10'")
    return slice(chosen, chosen + 1 or None) if isinstance(chosen, int) else chosen


def _parsed(path: Path, chosen: slice) -> Iterator[Atoms]:
    """What ASE finds, none of its warnings, and of its exceptions the gist."""
    from ase.io import iread

    frame, n_lines = chosen.start or 0, 0
    with _one_line(path, frame):
        source, kind = _opened(path)
        frames = iter(iread(source, chosen, format=kind, do_not_split_by_at_sign=True))
    while True:
        with _one_line(path, frame):
            atoms = next(frames, None)
        if atoms is None:
            break
        yield atoms
        frame += chosen.step or 1
        n_lines += len(atoms) + 2
    if kind == XYZ and isinstance(source, io.StringIO) and chosen == slice(None):
        _check_nothing_follows(path, source.getvalue(), n_lines, frame)


def _opened(path: Path) -> tuple[str | IO[Any], str]:
    """What ASE shall read, and as which format: the path, or the contents of an XYZ or compressed file in memory.

    ASE seeks to each frame in turn, and a seek in a compressed stream unpacks it again from its beginning: reading
    262 frames of 108 atoms that way took thirty times as long.
    """
    from ase.io.formats import filetype, get_compression, get_ioformat, open_with_compression

    kind = get_ioformat(filetype(str(path)))
    if kind.name != XYZ and get_compression(str(path))[1] is None:
        return str(path), kind.name
    with open_with_compression(str(path), "rb") as packed:
        contents = packed.read()
    return io.BytesIO(contents) if kind.isbinary else io.StringIO(contents.decode()), kind.name


def _check_nothing_follows(path: Path, text: str, n_lines_read: int, n_frames: int) -> None:
    """ASE takes a blank line for the end of an XYZ file; frames behind it must not be lost in silence."""
    lines = text.rstrip().splitlines()
    n_lines = sum(not line.startswith("VEC") for line in lines)  # an old way to write the cell, below the atoms
    if n_lines > n_lines_read:
        raise ValueError(f"{path}: a blank line after frame {n_frames - 1} hides the lines that follow; remove it")


@contextmanager
def _one_line(path: Path, frame: int) -> Iterator[None]:
    """Readers fail in every way there is, and warn of what does not matter here (CIF symmetry, unread keys)."""
    from ase.io.formats import UnknownFileTypeError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except EOFError as error:
        raise ValueError(f"{path}: the file is cut off ({error}); copy or download it again") from None
    except UnknownFileTypeError as error:
        raise ValueError(f"{path}: not a structure file that ASE knows ({error})") from None
    except KeyError as error:
        raise ValueError(f"{path}, frame {frame}: unknown element or missing entry {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}, frame {frame}: cannot be read ({type(error).__name__}: {reason})") from None
