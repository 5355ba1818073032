"""Contacts: which residues touch. Pairs are made of low-rank projections of their residues, some at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from isometry.initialise import Projection, initialise
from isometry_data.contacts import CONTACT, SHORT
from torch import Tensor, nn

N_BINS = 24
PAIRS_AT_ONCE = 1 << 19


class ContactHead(nn.Module):
    """Logit of a pair: w · (gelu(a_i + b_j + s) + gelu(a_j + b_i + s)) / 2 with s of |i - j|; the same for (j, i).

    Args:
        rank: features of a pair, and numbers that it takes in memory.
    """

    def __init__(self, n_features: int, rank: int):
        super().__init__()
        self.left, self.right = Projection(n_features, rank), Projection(n_features, rank)
        self.apart = nn.Embedding(N_BINS, rank)
        self.out = nn.Linear(rank, 1)
        initialise(self, "gelu")

    def forward(self, features: Tensor, pairs: Tensor) -> Tensor:
        """[n_pairs] logits.

        Args:
            features: [n, longest, n_features]
            pairs: [3, n_pairs] protein, i, j.
        """
        protein, i, j = pairs
        left, right, apart = self.left(features), self.right(features), self.apart(_bin((i - j).abs()))
        one = nn.functional.gelu(left[protein, i] + right[protein, j] + apart)
        other = nn.functional.gelu(left[protein, j] + right[protein, i] + apart)
        return self.out((one + other) / 2).squeeze(-1)

    def blocks(self, features: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs [3, some] and logits [some] of all pairs of one protein [1, length, n_features], part by part."""
        length = features.shape[1]
        n_rows = max(PAIRS_AT_ONCE // length, 1)
        for start in range(0, length - SHORT, n_rows):
            pairs = pairs_of(start, min(start + n_rows, length - SHORT), length, features.device)
            yield pairs, self(features, pairs)


def pairs_of(start: int, end: int, length: int, device: torch.device | None = None) -> Tensor:
    """[3, n_pairs] of protein 0: i in start … end - 1, j from i + 6 to length - 1."""
    rows, columns = torch.arange(start, end, device=device), torch.arange(length, device=device)
    i, j = (columns >= rows[:, None] + SHORT).nonzero(as_tuple=True)
    return torch.stack([torch.zeros_like(i), i + start, j])


def known_pairs(positions: Tensor, most: int | None = None, *, is_random: bool = False) -> tuple[Tensor, Tensor]:
    """Pairs [3, n_pairs] of residues with known positions, and whether they touch [n_pairs].

    Args:
        positions: [n, longest, 3] Å, NaN where unknown.
        most: pairs of a protein, evenly spread.
        is_random: from a random start on.
    """
    pairs, labels = [], []
    for number, own in enumerate(positions):
        where = (~own.isnan().any(-1)).nonzero().squeeze(-1)
        first, second = torch.triu_indices(len(where), len(where), 1, device=positions.device)
        first, second = where[first], where[second]
        is_far = second - first >= SHORT
        chosen = torch.stack([torch.full_like(first, number), first, second])[:, is_far]
        if most is not None and chosen.shape[1] > most:
            step = -(-chosen.shape[1] // most)
            chosen = chosen[:, int(torch.randint(step, ())) if is_random else 0 :: step]
        pairs.append(chosen)
        labels.append(((own[chosen[1]] - own[chosen[2]]).square().sum(-1) < CONTACT**2).long())
    return torch.cat(pairs, 1), torch.cat(labels)


def _bin(apart: Tensor) -> Tensor:
    """0 … N_BINS - 1: one for each up to 10, then eight to a factor of ten."""
    logarithmic = 10 + 8 * (apart.clamp(min=1).float() / 10).log10()
    return torch.where(apart <= 10, apart, logarithmic.long()).clamp(0, N_BINS - 1)
