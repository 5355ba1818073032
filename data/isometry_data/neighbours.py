"""Who is near whom: every pair of atoms within a cutoff, through all periodic images.

By matscipy. It and vesin 0.6 find the pairs of ASE's slow, clear list in every case tried, and vesin takes 0.55 to 0.95
of its time (`benchmarks/neighbour_lists.py`); but vesin imports torch wherever torch is installed, and whoever reads
a file shall not wait seconds for that.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np

MOST_BINS = 100  # in each direction without periodicity; a stray atom shall not fill the memory with empty bins


class Structure(Protocol):
    """What a neighbour list needs; a `CrystalRecord` and an ASE `Atoms` both have it."""

    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...


def neighbours(
    structure: Structure | tuple[np.ndarray, np.ndarray, np.ndarray], cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """All directed pairs no farther apart than the cutoff, an atom's own images included, itself excluded.

    Args:
        structure: anything with `positions` [n, 3] Å, `cell` [3, 3] Å (rows) and `pbc` [3], or that triple itself.
            Positions may lie outside the cell; rows of `cell` without periodicity are not looked at.
        cutoff: Å, positive; may exceed the cell.
    Returns:
        edge_index int64 [2, n_edges]: row 0 the centre i, ascending, row 1 its neighbour j.
        shift int64 [n_edges, 3]: lattice vectors between them, positions[j] + shift @ cell - positions[i]
        being the vector from i to j; zero along directions without periodicity.
    """
    from matscipy.neighbours import neighbour_list

    positions, cell, pbc = _arrays(structure)
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"the cutoff must be a positive length in Å, found {cutoff}")
    if len(positions) == 0:
        return np.zeros((2, 0), np.int64), np.zeros((0, 3), np.int64)
    origin, box = _enclosing_box(positions, cell, pbc, cutoff)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Ratio of simulation cell size to cutoff")  # a stray atom: slower, not wrong
        centre, neighbour, shift = neighbour_list(
            "ijS", cutoff=float(cutoff), positions=positions, cell=box, pbc=pbc, cell_origin=origin
        )
    return np.stack([centre, neighbour]).astype(np.int64), shift.astype(np.int64)


def _arrays(structure: Structure | tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Contiguous float64 positions and cell, bool pbc."""
    if isinstance(structure, tuple):
        positions, cell, pbc = structure
    else:
        positions, cell, pbc = structure.positions, structure.cell, structure.pbc
    return (
        np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3),
        np.ascontiguousarray(cell, dtype=np.float64),
        np.broadcast_to(np.asarray(pbc, dtype=bool), 3).copy(),
    )


def _enclosing_box(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Origin [3] and rows [3, 3] of a regular box: periodic rows as they are, the others just around the atoms.

    The library bins atoms by the box; a missing, singular or too small row where there is no periodicity would
    cost it pairs or time. Those rows never enter a vector, because their shift is zero. Atoms beyond the longest box
    are found all the same, all in its last bins.
    """
    if pbc.all():
        return np.zeros(3), cell
    periodic = cell[pbc]
    _, _, directions = np.linalg.svd(np.vstack([periodic, np.zeros((1, 3))]))
    box, origin = cell.copy(), np.zeros(3)
    longest = MOST_BINS * cutoff
    for row, normal in zip(np.flatnonzero(~pbc), directions[len(periodic) :], strict=True):
        along = positions @ normal
        box[row] = normal * min(np.ptp(along) + 2.0, longest)  # Å; a margin keeps a flat molecule's box regular
        origin += normal * (along.min() - 1.0)
    return origin, box
