"""The door: what makes a structure unusable, said in one line (without the file, which the reader adds)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isometry_data.neighbours import neighbours

if TYPE_CHECKING:
    from ase import Atoms

# No bond is shorter than H2's 0.74 Å and scans of the repulsive wall seldom go below 0.3 Å, while an atom written
# twice (a site generated from two symmetry operations, an image kept at both faces) lies within its rounding, 0.05 Å.
CLOSEST_ATOMS = 0.2  # Å
HEAVIEST_ELEMENT = 118
MOST_BINS = 1e5  # the search divides the cell into bins as wide as its cutoff; a mostly empty cell shall stay cheap
FLATTEST_CELL = 1e-6  # volume over the product of the lengths of the periodic vectors


def check_structure(atoms: Atoms) -> None:
    """Raises ValueError where elements, positions, cell or distances cannot be those of real matter."""
    if len(atoms) == 0:
        raise ValueError("no atoms, expected at least one")
    _check_elements(atoms)
    _check_cell(np.asarray(atoms.cell), np.asarray(atoms.pbc))
    unsound = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if unsound.size:
        raise ValueError(f"the position of atom {unsound[0]} is not finite (NaN or infinity)")
    _check_distances(atoms)


def _check_elements(atoms: Atoms) -> None:
    numbers = atoms.numbers
    strange = np.flatnonzero((numbers < 1) | (numbers > HEAVIEST_ELEMENT))
    if strange.size:
        first = strange[0]
        raise ValueError(f"atom {first} has atomic number {numbers[first]} (unknown element), expected 1 to 118")
    occupancy = atoms.info.get("occupancy")  # from a CIF: {site: {symbol: share}}
    for site, share in occupancy.items() if isinstance(occupancy, dict) else ():
        if len(share) > 1 or min(share.values()) < 1:
            raise ValueError(f"site {site} is partially occupied ({share}); expected an ordered structure")


def _check_cell(cell: np.ndarray, pbc: np.ndarray) -> None:
    if not np.isfinite(cell).all():
        raise ValueError("the cell is not finite (NaN or infinity)")
    vectors = cell[pbc]
    spanned = np.sqrt(max(np.linalg.det(vectors @ vectors.T), 0.0)) if len(vectors) else 1.0
    if spanned <= FLATTEST_CELL * np.prod(np.linalg.norm(vectors, axis=1)):
        raise ValueError(f"the cell is singular: its periodic vectors {vectors.tolist()} Å span no volume")


def _check_distances(atoms: Atoms) -> None:
    volume = abs(np.linalg.det(np.asarray(atoms.cell)))
    edges, shift = neighbours(atoms, cutoff=max(1.0, (volume / MOST_BINS) ** (1 / 3)))
    if edges.shape[1] == 0:
        return
    centre, neighbour = edges
    apart = atoms.positions[neighbour] + shift @ np.asarray(atoms.cell) - atoms.positions[centre]
    distance = np.linalg.norm(apart, axis=1)
    nearest = int(distance.argmin())
    if distance[nearest] < CLOSEST_ATOMS:
        pair = f"atoms {centre[nearest]} and {neighbour[nearest]}"
        image = " (through the periodic boundary)" if shift[nearest].any() else ""
        raise ValueError(
            f"{pair} overlap{image}: {distance[nearest]:.3f} Å apart, expected at least {CLOSEST_ATOMS} Å; "
            "check for atoms written twice and for the unit of length (Å)"
        )
