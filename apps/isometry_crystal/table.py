"""The padded neighbour table: a ragged list of edges as rectangles [n_atoms, width], one row per atom."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Table(NamedTuple):
    """Empty places hold the atom itself as neighbour and themselves as reverse, and are masked."""

    neighbour: Tensor  # [n_atoms, width] int64
    reverse: Tensor  # [n_atoms, width] int64: where the same edge stands seen from the neighbour, as n * width + place
    place: Tensor  # [n_edges] int64: where each edge of the list went, as n * width + place
    mask: Tensor  # [n_atoms, width] bool


def tabulate(edge_index: Tensor, edge_reverse: Tensor, n_atoms: int) -> Table:
    """Pad a list of edges.

    Args:
        edge_index: [2, n_edges] centre and neighbour, sorted by centre.
        edge_reverse: [n_edges] the position of the opposite edge, see `opposite_edges`.
    """
    centre, neighbour = edge_index
    count = torch.bincount(centre, minlength=n_atoms)
    width = max(int(count.max()) if n_atoms else 0, 1)
    start = count.cumsum(0) - count
    place = centre * width + torch.arange(len(centre), device=centre.device) - start[centre]
    atoms = torch.arange(n_atoms, device=centre.device)
    table = atoms.repeat_interleave(width).index_put((place,), neighbour)
    reverse = torch.arange(n_atoms * width, device=centre.device).index_put((place,), place[edge_reverse])
    mask = torch.arange(width, device=centre.device) < count[:, None]
    return Table(table.view(n_atoms, width), reverse.view(n_atoms, width), place, mask)


def opposite_edges(edge_index: Tensor, edge_shift: Tensor) -> Tensor:
    """[n_edges] for each edge (i, j, shift) the position of (j, i, -shift); -1 where the list does not hold it.

    Args:
        edge_index: [2, n_edges]. edge_shift: [n_edges, 3] lattice vectors to the neighbour's cell.
    """
    if edge_index.shape[1] == 0:
        return edge_index.new_zeros(0)
    forward, backward = _keys(edge_index, edge_shift), _keys(edge_index.flip(0), -edge_shift)
    _, key = torch.unique(torch.cat([forward, backward]), dim=0, return_inverse=True)
    forward, backward = key.tensor_split(2)
    sorted_keys, order = forward.sort()
    found = torch.searchsorted(sorted_keys, backward).clamp(max=len(order) - 1)
    return torch.where(sorted_keys[found] == backward, order[found], -1)


def _keys(edge_index: Tensor, edge_shift: Tensor) -> Tensor:
    return torch.cat([edge_index, edge_shift.T.to(edge_index.dtype)]).T
