"""Letters of a sequence as sets of bases, as probabilities, and on the other strand.

A code is a set of A, C, G, T in four bits: N is all of them, R is A or G. No letter is ever taken for another one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BASES = "ACGT"
"""In this order the complement is the reverse."""
A, C, G, T = 1, 2, 4, 8
N = A | C | G | T
IUPAC = {
    "A": A, "C": C, "G": G, "T": T, "U": T,
    "R": A | G, "Y": C | T, "S": C | G, "W": A | T, "K": G | T, "M": A | C,
    "B": C | G | T, "D": A | G | T, "H": A | C | T, "V": A | C | G, "N": N,
}  # fmt: skip
"""Cornish-Bowden 1985, "Nomenclature for incompletely specified bases in nucleic acid sequences"."""

_CODES = np.zeros(256, dtype=np.int64)
for _letter, _code in IUPAC.items():
    _CODES[[ord(_letter), ord(_letter.lower())]] = _code

BASE_OF = torch.full((16,), -1)
BASE_OF[[A, C, G, T]] = torch.arange(4)
"""By code, the base that it is; -1 where it is a set of several."""
_LETTERS = np.frombuffer((BASES + "N").encode(), dtype=np.uint8)

_MEMBERS = (torch.arange(16)[:, None] >> torch.arange(4)) & 1  # [16, 4]
_COMPLEMENTS = (_MEMBERS.flip(1) * torch.tensor([A, C, G, T])).sum(1)
_ROWS = torch.cat([torch.full((1, 4), 0.25), _MEMBERS[1:] / _MEMBERS[1:].sum(1, keepdim=True)])


def codes_of(letters: np.ndarray) -> Tensor:
    """[n] codes of ASCII letters, uint8, in either case: 1, 2, 4, 8 for A, C, G, T (U), their sums for IUPAC's.

    Raises:
        ValueError: a letter that IUPAC does not know, gaps among them; it and its position, counted from 0, are named.
    """
    letters = np.asarray(letters, dtype=np.uint8)
    codes = _CODES[letters]
    if not codes.all():
        position = int((codes == 0).argmax())
        found = chr(letters[position])
        raise ValueError(f"letter {found!r} at position {position}; expected one of {''.join(IUPAC)} in either case")
    return torch.from_numpy(codes)


def ascii_of(codes: Tensor) -> np.ndarray:
    """[n] upper-case letters of codes; N for any set of several bases."""
    return _LETTERS[BASE_OF[codes.long()].numpy()]


def one_hot(codes: Tensor) -> Tensor:
    """[...] codes to [..., 4] probabilities of A, C, G, T: even among the members of the set; code 0 reads as N."""
    return _ROWS.to(codes.device)[codes.long()]


def complement(codes: Tensor) -> Tensor:
    """What stands opposite: R (A or G) for Y (C or T), N for N; same shape and type."""
    return _COMPLEMENTS.to(codes.device)[codes.long()].to(codes.dtype)


def reverse_complement(codes: Tensor) -> Tensor:
    """The other strand, read in its own direction: [..., length] to the same."""
    return complement(codes).flip(-1)


def reverse_complement_of(probabilities: Tensor) -> Tensor:
    """The other strand of [..., length, 4] probabilities."""
    return probabilities.flip(-1, -2)
