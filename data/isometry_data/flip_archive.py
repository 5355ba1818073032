"""FLIP's archive of secondary structures to five-line state files.

The archive (`splits.zip`) has sequences, labels with `SET=` and `VALIDATION=` in their headers, and a mask of resolved
residues, each in FASTA. Its inside was not at hand: what is made of it is therefore compared with what is known of the
prepared files before it is kept.
Source: Dallago et al. 2021, FLIP, `splits/secondary_structure`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isometry_data.protein_records import ProteinRecord
from isometry_data.state_files import write_states

SPLITS = {"train": ("train", "false"), "valid": ("train", "true")}  # our name -> FLIP's SET and VALIDATION


class Content(NamedTuple):
    """What a converted file must hold, whatever the order of its records."""

    n_chains: int
    n_residues: int
    records: str  # sha256 of the sorted lines `sequence states mask`


def content_of(records: Sequence[ProteinRecord]) -> Content:
    """The contents of records with three states and a mask."""
    lines = sorted(f"{record.sequence} {record.ss3} {_digits(record.mask)}" for record in records)
    return Content(len(records), sum(map(len, records)), hashlib.sha256("\n".join(lines).encode()).hexdigest())


def convert_flip(sources: Sequence[Path], target: Path, *, split: str, expected: Content | None = None) -> None:
    """Writes one split, `train` or `valid`; ValueError where the archive is not as described or its contents differ."""
    (archive,) = sources
    sequences, labels, masks = (_parsed(archive, name) for name in ("sequences", "sampled", "mask"))
    records = []
    for name, (header, states) in labels.items():
        fields = dict(word.lower().split("=", 1) for word in header.split()[1:] if "=" in word)
        if (fields.get("set"), fields.get("validation", "false")) == SPLITS[split]:
            shown = np.array([digit == "1" for digit in masks[name][1]])
            records.append(ProteinRecord(name, sequences[name][1], str(archive), ss3=states, mask=shown))
    found = content_of(records)
    if expected is not None and found != expected:
        raise ValueError(f"the published data changed: {split} is {found}, expected {expected}")
    write_states(target, records)


def _parsed(archive: Path, name: str) -> dict[str, tuple[str, str]]:
    """name of the record -> its whole header and its letters, of the archive's file `name.fasta`."""
    try:
        with zipfile.ZipFile(archive) as opened:
            member = next(path for path in opened.namelist() if path.rsplit("/", 1)[-1] == f"{name}.fasta")
            text = opened.read(member).decode()
    except (zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
        raise ValueError(f"{archive}: no {name}.fasta in it ({type(error).__name__}); expected FLIP's splits") from None
    blocks = (block.split("\n", 1) for block in text.split(">")[1:])
    return {header.split()[0]: (header, "".join(body.split())) for header, body in blocks}


def _digits(mask: np.ndarray | None) -> str:
    return "" if mask is None else "".join("1" if counts else "0" for counts in mask)
