"""A checked protein chain: its sequence and, residue by residue, whatever is known of its structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")  # of a sequence; a model maps them with `standard_letters`
EIGHT_STATES = "GHIBESTC"  # Kabsch & Sander 1983; C is their blank, and the P (polyproline) of DSSP 4
THREE_STATES = "HEC"
UNKNOWN_STATE = "."
# Two ways from eight states to three are in use: published scores differ by which. The first is the field's usual.
THREE_OF_EIGHT = {"GHI/EB": ("GHI", "EB"), "H/E": ("H", "E")}

_STANDARD = str.maketrans({"U": "C", "O": "K", "B": "X", "Z": "X", "J": "X"})


@dataclass(frozen=True, eq=False)
class ProteinRecord:
    """One chain. All labels have the length of the sequence; None where nothing is known.

    A state may be `.` and a number NaN for a residue whose label is unknown.
    """

    name: str
    sequence: str  # full: of a structure also the residues that it does not show; upper case
    source: str  # file
    line: int = 0  # in the file, from 1; 0 where the format has none
    ss8: str | None = None  # G H I B E S T C
    ss3: str | None = None  # H E C
    accessibility: np.ndarray | None = None  # [n] relative to the most a residue can show, usually 0 to 1
    mask: np.ndarray | None = None  # [n] bool, True where the labels count
    disorder: np.ndarray | None = None  # [n] bool, True where the structure does not show the residue
    positions: np.ndarray | None = None  # [n, 3] Å, Cβ (Cα of glycine)

    def __post_init__(self) -> None:
        strange = sorted(set(self.sequence) - LETTERS)
        if strange or not self.sequence:
            found = f"has {_named(strange)}" if strange else "is empty"
            raise ValueError(f"{self.label}: the sequence {found}; expected letters A to Z")
        for name, states in (("ss8", EIGHT_STATES), ("ss3", THREE_STATES)):
            self._check_states(name, states)
        for name, shape in (("accessibility", ()), ("mask", ()), ("disorder", ()), ("positions", (3,))):
            self._check_shape(name, (len(self.sequence), *shape))

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def label(self) -> str:
        """`proteins.fasta, line 12, record P69905`: where a message points to."""
        line = f", line {self.line}" if self.line else ""
        return f"{self.source}{line}, record {self.name}"

    def _check_states(self, name: str, states: str) -> None:
        found = getattr(self, name)
        if found is None:
            return
        if len(found) != len(self):
            raise ValueError(f"{self.label}: {len(found)} states in {name}, expected {len(self)}, one for each residue")
        strange = sorted(set(found) - set(states) - {UNKNOWN_STATE})
        if strange:
            raise ValueError(f"{self.label}: {name} has {_named(strange)}; expected {' '.join(states)} or '.'")

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        found = getattr(self, name)
        if found is not None and found.shape != shape:
            raise ValueError(f"{self.label}: {name} has shape {found.shape}, expected {shape}")


class Reading(NamedTuple):
    """What a file held, in its order, and what its reader met and dealt with on the way."""

    records: list[ProteinRecord]
    notes: list[str]  # one line each: place, what was found, what was done


def three_states(ss8: str, mapping: str = "GHI/EB") -> str:
    """Eight states to H, E, C; `.` stays. `mapping`: a key of `THREE_OF_EIGHT`, every other state becomes C."""
    if mapping not in THREE_OF_EIGHT:
        raise ValueError(f"unknown mapping {mapping!r}; expected one of {', '.join(THREE_OF_EIGHT)}")
    helix, strand = THREE_OF_EIGHT[mapping]
    letters = {state: "H" if state in helix else "E" if state in strand else "C" for state in EIGHT_STATES}
    return ss8.translate(str.maketrans(letters))


def standard_letters(sequence: str) -> str:
    """The sequence in the twenty amino acids and X: U as C, O as K (their nearest kin), B, Z, J as X."""
    return sequence.translate(_STANDARD)


def label_counts(records: Sequence[ProteinRecord]) -> str:
    """`511 chains, 84,119 residues, with ss8 511, ss3 511, mask 511`: what a set of records is labelled with."""
    names = ("ss8", "ss3", "accessibility", "mask", "disorder", "positions")
    counts = {name: sum(getattr(record, name) is not None for record in records) for name in names}
    known = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    n_residues = sum(len(record) for record in records)
    return f"{len(records):,} chains, {n_residues:,} residues{', with ' + known if known else ''}"


def _named(letters: Sequence[str]) -> str:
    shown = ", ".join(repr(letter) for letter in letters[:5])
    return f"{shown} and {len(letters) - 5} more" if len(letters) > 5 else shown
