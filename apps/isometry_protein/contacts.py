"""Contacts: which residues touch. Pairs are made of low-rank projections of their residues, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from isometry.initialise import Projection, initialise
from isometry_data.contacts import CONTACT, SHORT
from torch import Tensor, nn

N_BINS = 24
PAIRS_AT_ONCE = 1 << 16
"""Small enough for their features to stay in a CPU's cache: five times as fast as eight times as many."""
PAIRS_DRAWN = 8_000_000
"""Pairs of one protein in a picture: all of up to 4,000 residues."""


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
        left, right = self.left(features).flatten(0, 1), self.right(features).flatten(0, 1)
        apart, first = self.apart(_bin((i - j).abs())), protein * features.shape[1]
        i, j = first + i, first + j
        one = nn.functional.gelu(left.index_select(0, i) + right.index_select(0, j) + apart)
        other = nn.functional.gelu(left.index_select(0, j) + right.index_select(0, i) + apart)
        return self.out((one + other) / 2).squeeze(-1)

    def blocks(self, features: Tensor, most_apart: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs [3, some] and logits [some] of all pairs of one protein [1, length, n_features], part by part.

        Args:
            most_apart: of residues further apart no pair is made.
        """
        length = features.shape[1]
        n_rows = max(PAIRS_AT_ONCE // min(length, most_apart or length), 1)
        for start in range(0, length - SHORT, n_rows):
            pairs = pairs_of(start, min(start + n_rows, length - SHORT), length, features.device, most_apart)
            yield pairs, self(features, pairs)


class ContactMap(NamedTuple):
    """What a picture shows of the contacts of one protein."""

    cells: np.ndarray
    """The largest probability in each cell, of residues i and j, either way round; or, of a protein too long for a
    whole map, [j - i, (i + j) / 2]."""
    per_cell: int
    """Residues along a side of a cell; in a band along its length alone."""
    most_apart: int | None
    """None: all pairs are there."""


def contact_map(head: ContactHead, features: Tensor, cool: Callable[[Tensor], Tensor], side: int) -> ContactMap:
    """Of one protein [1, length, n_features] in at most `side` cells along it.

    Beyond `PAIRS_DRAWN` pairs only those are taken that lie so close in the sequence that they are no more than that.

    Args:
        cool: the temperature of the logits.
    """
    length = features.shape[1]
    most_apart = None if length * length <= 2 * PAIRS_DRAWN else PAIRS_DRAWN // length
    per_cell = -(-length // side)
    n_cells = -(-length // per_cell)
    shape = (n_cells, n_cells) if most_apart is None else (most_apart + 1, n_cells)
    cells = features.new_zeros(shape, dtype=torch.float32)
    for (_, i, j), logits in head.blocks(features, most_apart):
        rows, columns = (i // per_cell, j // per_cell) if most_apart is None else (j - i, (i + j) // 2 // per_cell)
        p = cool(logits.float()).sigmoid()
        cells.view(-1).scatter_reduce_(0, rows * n_cells + columns, p, "amax")
    found = cells.cpu().numpy()
    return ContactMap(np.maximum(found, found.T) if most_apart is None else found, per_cell, most_apart)


def pairs_of(
    start: int, end: int, length: int, device: torch.device | None = None, most_apart: int | None = None
) -> Tensor:
    """[3, n_pairs] of protein 0: i in start … end - 1, j from i + 6 to length - 1, or to i + `most_apart`."""
    last = length if most_apart is None else min(end + most_apart, length)
    rows, columns = torch.arange(start, end, device=device)[:, None], torch.arange(start, last, device=device)
    is_far = columns >= rows + SHORT
    is_wanted = is_far if most_apart is None else is_far & (columns <= rows + most_apart)
    i, j = is_wanted.nonzero(as_tuple=True)
    return torch.stack([torch.zeros_like(i), i + start, j + start])


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
