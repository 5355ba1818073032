"""Which residues touch: Cβ closer than 8 Å, and how far apart they are along the chain."""

from __future__ import annotations

import numpy as np

CONTACT = 8.0  # Å between Cβ (Cα of glycine)
SHORT, MEDIUM, LONG = 6, 12, 24  # the least |i - j| of CASP's three ranges; nearer residues touch by being neighbours
RANGES = {"short": (SHORT, MEDIUM), "medium": (MEDIUM, LONG), "long": (LONG, None)}


def distances(positions: np.ndarray) -> np.ndarray:
    """[n, n] Å, NaN where a position is; `positions` [n, 3] Å."""
    from scipy.spatial.distance import cdist

    return cdist(positions, positions)


def contacts(positions: np.ndarray, cutoff: float = CONTACT, least_separation: int = SHORT) -> np.ndarray:
    """[n_contacts, 2] pairs i < j closer than `cutoff` Å and at least `least_separation` apart in the chain, in order.

    Found by a search tree: n may be large. A residue without a position touches nothing.
    """
    from scipy.spatial import KDTree

    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    if known.size < 2:
        return np.empty((0, 2), dtype=np.int64)
    pairs = known[KDTree(positions[known]).query_pairs(np.nextafter(cutoff, 0), output_type="ndarray")]
    pairs = pairs[pairs[:, 1] - pairs[:, 0] >= least_separation]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)


def in_range(pairs: np.ndarray, name: str) -> np.ndarray:
    """The rows of `pairs` in a range of `RANGES`: short 6 to 11, medium 12 to 23, long from 24."""
    if name not in RANGES:
        raise ValueError(f"unknown range {name!r}; expected one of {', '.join(RANGES)}")
    least, end = RANGES[name]
    apart = np.abs(pairs[:, 1] - pairs[:, 0])
    return pairs[(apart >= least) & (apart < end if end else True)]
