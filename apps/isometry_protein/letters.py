"""Letters of a sequence as the codes that the network reads."""

from __future__ import annotations

import numpy as np
import torch
from isometry_data.protein_records import AMINO_ACIDS, standard_letters
from torch import Tensor

N_AMINO_ACIDS = len(AMINO_ACIDS)
UNKNOWN, PAD, HIDDEN = 20, 21, 22
"""Codes behind those of the twenty amino acids: X and whatever stands for it, padding, a residue to be guessed."""
N_LETTERS = 23

_CODES = np.full(128, UNKNOWN, dtype=np.int64)
_CODES[[ord(letter) for letter in AMINO_ACIDS]] = np.arange(N_AMINO_ACIDS)


def letters_of(sequence: str) -> Tensor:
    """[n] codes of letters in upper case: U as C, O as K, whatever else is no amino acid as X."""
    return torch.from_numpy(_CODES[np.frombuffer(standard_letters(sequence).encode("ascii"), dtype=np.uint8)])
