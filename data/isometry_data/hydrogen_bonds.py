"""Hydrogen bonds of a backbone by the electrostatic energy of Kabsch and Sander.

Source: Kabsch & Sander, Biopolymers 22, 2577 (1983). As their program (and mkdssp 4, against which this is compared)
does, the energy is rounded to 0.001 kcal/mol and each NH and each CO keeps only its two best partners.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NITROGEN, ALPHA, CARBON, OXYGEN = range(4)  # order of the backbone's atoms: N, Cα, C, O
COUPLING = -27.888  # kcal Å/mol: -332 x 0.42 x 0.20, charges on N-H and C=O
STRONGEST = -9.9  # kcal/mol, also of atoms that coincide
BOND = -0.5  # kcal/mol; weaker is none
COINCIDENT = 0.5  # Å
FARTHEST = 9.0  # Å between the Cα of two residues that may bond
PEPTIDE = 2.5  # Å from C to the next N; longer is a break of the chain


@dataclass(frozen=True)
class Bonds:
    """Who donates its N-H to whose C=O."""

    n: int
    pairs: np.ndarray  # [n_bonds] donor * n + acceptor, sorted

    def has(self, donor: np.ndarray, acceptor: np.ndarray) -> np.ndarray:
        """Of each donor and acceptor, whether they are bonded; numbers outside the chains are not."""
        inside = (donor >= 0) & (acceptor >= 0) & (donor < self.n) & (acceptor < self.n)
        return inside & np.isin(donor * self.n + acceptor, self.pairs)


def is_joined(backbone: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """[n] bool: a peptide bond leads from the residue before; `backbone` [n, 4, 3] Å, `chain` [n] a number of each."""
    joined = np.zeros(len(backbone), dtype=bool)
    length = np.linalg.norm(backbone[1:, NITROGEN] - backbone[:-1, CARBON], axis=1)
    joined[1:] = (chain[1:] == chain[:-1]) & (length <= PEPTIDE)
    return joined


def hydrogen_bonds(backbone: np.ndarray, joined: np.ndarray, is_proline: np.ndarray) -> Bonds:
    """The bonds between residues of complete backbones [n, 4, 3] (N, Cα, C, O) in Å.

    Hydrogens are placed, not read: 1 Å from N, against the C=O before. Where there is none the energy is taken with
    the hydrogen at N; proline donates nothing.
    """
    from scipy.spatial import KDTree

    n = len(backbone)
    close = KDTree(backbone[:, ALPHA]).query_pairs(FARTHEST, output_type="ndarray").astype(np.int64)
    donor = np.concatenate([close[:, 0], close[:, 1]])
    acceptor = np.concatenate([close[:, 1], close[:, 0]])
    sensible = (donor != acceptor + 1) & ~is_proline[donor]  # N-H and C=O of one peptide group do not bond
    donor, acceptor = donor[sensible], acceptor[sensible]
    energy = _energy(backbone, _hydrogens(backbone, joined, is_proline), donor, acceptor)
    kept = _is_among_best(donor, acceptor, energy) & (energy < BOND)
    return Bonds(n, np.sort(donor[kept] * n + acceptor[kept]))


def _hydrogens(backbone: np.ndarray, joined: np.ndarray, is_proline: np.ndarray) -> np.ndarray:
    hydrogens = backbone[:, NITROGEN].copy()
    places = np.flatnonzero(joined & ~is_proline)
    along = backbone[places - 1, CARBON] - backbone[places - 1, OXYGEN]
    hydrogens[places] += along / np.linalg.norm(along, axis=1, keepdims=True)
    return hydrogens


def _energy(backbone: np.ndarray, hydrogens: np.ndarray, donor: np.ndarray, acceptor: np.ndarray) -> np.ndarray:
    """[n_pairs] kcal/mol."""
    h, n = hydrogens[donor], backbone[donor, NITROGEN]
    c, o = backbone[acceptor, CARBON], backbone[acceptor, OXYGEN]
    ho, hc, nc, no = (np.linalg.norm(a - b, axis=1) for a, b in ((h, o), (h, c), (n, c), (n, o)))
    nearest = np.minimum(np.minimum(ho, hc), np.minimum(nc, no))
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = np.round(COUPLING * (1 / ho - 1 / hc + 1 / nc - 1 / no), 3)
    return np.where(nearest < COINCIDENT, STRONGEST, np.maximum(energy, STRONGEST))


def _is_among_best(donor: np.ndarray, acceptor: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Whether the pair is one of the donor's two strongest; of equals the first in the chain counts."""
    order = np.lexsort((acceptor, energy, donor))
    sorted_donor = donor[order]
    start = np.searchsorted(sorted_donor, sorted_donor, side="left")
    among = np.zeros(len(donor), dtype=bool)
    among[order] = np.arange(len(donor)) - start < 2
    return among
