"""The letters of DNA in files: fifteen of IUPAC and U, in upper and lower case (soft mask), and their complements.

Source: Cornish-Bowden, Nucleic Acids Res. 13, 3021 (1985). A letter means a set of bases, its complement the set of
their partners: R (A, G) becomes Y (C, T). U reads as T; its complement is A, and A becomes T.
"""

from __future__ import annotations

import numpy as np

LETTERS = "ACGTRYSWKMBDHVN"
COMPLEMENTS = "TGCAYRSWMKVHDBN"
_MEANINGS = ("A", "C", "G", "T", "AG", "CT", "CG", "AT", "GT", "AC", "CGT", "AGT", "ACT", "ACG", "ACGT")  # of LETTERS
UNKNOWN = ord("N")
EXPECTED = f"the IUPAC letters {LETTERS} or U"


def _table() -> np.ndarray:
    table = np.zeros(256, dtype=np.uint8)
    for letters, partners in ((LETTERS + "U", COMPLEMENTS + "A"), (LETTERS.lower() + "u", COMPLEMENTS.lower() + "a")):
        table[list(letters.encode())] = list(partners.encode())
    table.flags.writeable = False
    return table


COMPLEMENT = _table()  # [256] by ASCII code; 0 where the code is no base


def _base_sets() -> np.ndarray:
    sets = np.zeros(256, dtype=np.uint8)
    for letter, bases in zip(LETTERS, _MEANINGS, strict=True):
        sets[[ord(letter), ord(letter.lower())]] = sum(1 << "ACGT".index(base) for base in bases)
    sets[[ord("U"), ord("u")]] = sets[ord("T")]
    sets.flags.writeable = False
    return sets


BASE_SETS = _base_sets()  # [256] by ASCII code: bits 0 to 3 for A, C, G, T; 0 where the code is no base


def is_base(letters: np.ndarray) -> np.ndarray:
    """Which of the ASCII codes are letters of DNA; gaps (`-`, `.`) and `*` are not."""
    return COMPLEMENT[letters] != 0


def complement(letters: np.ndarray) -> np.ndarray:
    """The partner of each ASCII letter; its case stays."""
    return COMPLEMENT[letters]


def reverse_complement(letters: np.ndarray) -> np.ndarray:
    """The other strand, read in its own direction; case stays with its base."""
    return COMPLEMENT[letters[::-1]]


def ascii_of(text: str) -> np.ndarray:
    """A string as uint8 [n]."""
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8)


def text_of(letters: np.ndarray) -> str:
    """ASCII codes as a string."""
    return letters.tobytes().decode("ascii")
