"""A simulated genome with regulatory grammar: an enhancer acts on a promoter unless an insulator lies between them.

Each window holds a promoter at its centre; at a chosen distance, on either side, an enhancer or a decoy of it; and
always one insulator, which counts only where it lies between the two. Further decoys stand anywhere. What the promoter
does is therefore known, and so is the score of every rule that looks at part of the grammar alone (`accuracy_of`).

An element is a cluster of sites, each drawn from the matrix of its motif; a decoy has the same matrices with their
columns in reverse order (not complemented): equal in composition, another word. Everything is drawn anew from a seed.
The design is ours; enhancer blocking by CTCF: Bell, West & Felsenfeld 1999, Cell 98, 387.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

BASES = "ACGT"
BACKGROUND = (0.295, 0.205, 0.205, 0.295)
"""Frequencies of A, C, G, T between elements: 41 % GC, about as in man."""
FIDELITY = 0.97
"""Share of the bases that the consensus allows, at each position of a motif."""
IUPAC = dict(zip("ACGTRYSWKMN", ["A", "C", "G", "T", "AG", "CT", "CG", "AT", "GT", "AC", "ACGT"], strict=True))
N_SITES = {"promoter": 8, "enhancer": 8, "insulator": 5}
"""Sites of an element."""
SPACER = (3, 9)
"""Shortest and longest stretch between two sites of an element."""
TRACKS = ("promoter", "enhancer", "insulator")


class Motif(NamedTuple):
    """A binding site as published."""

    name: str
    consensus: str
    source: str

    @property
    def matrix(self) -> np.ndarray:
        """[n, 4] probabilities of A, C, G, T."""
        return _matrix(self.consensus)


@cache
def _matrix(consensus: str) -> np.ndarray:
    allowed = np.array([[base in IUPAC[letter] for base in BASES] for letter in consensus], dtype=float)
    n_allowed = allowed.sum(1, keepdims=True)
    rest = (1 - FIDELITY) / np.maximum(4 - n_allowed, 1)
    share = np.where(n_allowed < 4, FIDELITY, 1.0) / n_allowed
    return np.where(allowed > 0, share, rest)


TATA = Motif("TATA box", "STATAWAWR", "Bucher 1990, J. Mol. Biol. 212, 563")
GC = Motif("GC box (SP1)", "KGGGCGGRRY", "Bucher 1990, J. Mol. Biol. 212, 563")
AP1 = Motif("AP-1", "TGASTCA", "Angel et al. 1987, Cell 49, 729")
CEBP = Motif("C/EBP", "RTTGCGYAAY", "Osada et al. 1996, J. Biol. Chem. 271, 3891")
CTCF = Motif("CTCF", "TGGCCACYAGRKGGCRSYA", "Kim et al. 2007, Cell 128, 1231; JASPAR MA0139")

ELEMENTS = {"promoter": (GC, TATA), "enhancer": (AP1, CEBP), "insulator": (CTCF,)}


class Case(NamedTuple):
    """One of the compositions of a window, and how often it comes."""

    probability: float
    has_enhancer: bool
    is_same_side: bool
    """Whether the insulator lies on the enhancer's side of the promoter."""
    is_nearer: bool
    """Whether it is nearer to the promoter than the enhancer."""

    @property
    def is_between(self) -> bool:
        return self.is_same_side and self.is_nearer

    @property
    def is_active(self) -> bool:
        """The truth: what the promoter does."""
        return self.has_enhancer and not self.is_between


CASES = tuple(
    Case((2 / 3 if has_enhancer else 1 / 3) / 4, has_enhancer, is_same_side, is_nearer)
    for has_enhancer in (True, False)
    for is_same_side in (True, False)
    for is_nearer in (True, False)
)
RULES: dict[str, Callable[[Case], bool]] = {
    "always active": lambda case: True,
    "enhancer only": lambda case: case.has_enhancer,
    "insulator only": lambda case: not case.is_between,
    "nearer insulator, either side": lambda case: case.has_enhancer and not case.is_nearer,
    "full": lambda case: case.is_active,
}


def accuracy_of(rule: Callable[[Case], bool]) -> float:
    """The share of windows of which a rule says the truth, exactly."""
    return sum(case.probability for case in CASES if rule(case) == case.is_active)


class Placed(NamedTuple):
    """An element of a window."""

    kind: str
    """A key of `ELEMENTS`."""
    start: int
    end: int
    is_decoy: bool = False


class Drawn(NamedTuple):
    """A simulated window."""

    bases: np.ndarray
    """[length] uint8 index into ACGT"""
    case: Case
    placed: tuple[Placed, ...]

    @property
    def letters(self) -> np.ndarray:
        """[length] uint8 ASCII"""
        return np.frombuffer(BASES.encode(), dtype=np.uint8)[self.bases]

    def coverage(self, resolution: int) -> np.ndarray:
        """[length / resolution, 3] bases of each bin within a true promoter, enhancer, insulator."""
        per_base = np.zeros((len(self.bases), len(TRACKS)), dtype=np.float32)
        for element in self.placed:
            if not element.is_decoy:
                per_base[element.start : element.end, TRACKS.index(element.kind)] = 1
        return per_base.reshape(-1, resolution, len(TRACKS)).sum(1)


LEAST_MARGIN = 256  # bases on either side of the farthest element
APART = 200  # bases between the centres of two elements, at least
FARTHEST = 1.2  # of the enhancer's distance: how far an insulator may be


def length_for(distance: int) -> int:
    """Bases of a window that holds an enhancer at this distance on either side: a power of two."""
    needed = 2 * (FARTHEST * distance + LEAST_MARGIN)
    return 1 << int(np.ceil(np.log2(needed)))


def drawn(rng: np.random.Generator, distance: int, length: int | None = None) -> Drawn:
    """A window with its promoter at the centre and the enhancer, or its decoy, `distance` bases away.

    Raises ValueError where the window is too short for the distance.
    """
    length = length or length_for(distance)
    if length < 2 * FARTHEST * distance + LEAST_MARGIN:
        raise ValueError(f"a window of {length} bases cannot hold an enhancer {distance} bases from its centre")
    case = CASES[rng.choice(len(CASES), p=[case.probability for case in CASES])]
    side = rng.choice((-1, 1))
    share = rng.uniform(0.2, 0.8) if case.is_nearer else rng.uniform(1.05, FARTHEST)
    apart = max(share * distance, distance + APART)
    if case.is_nearer:
        apart = min(max(share * distance, APART), distance - APART)
    offset = int(side * apart * (1 if case.is_same_side else -1))
    bases = background(rng, length)
    placed = [
        put(rng, bases, "promoter", length // 2),
        put(rng, bases, "enhancer", length // 2 + int(side) * distance, is_decoy=not case.has_enhancer),
        put(rng, bases, "insulator", length // 2 + offset),
    ]
    for kind in ("enhancer", "insulator"):
        decoy = put(rng, bases, kind, free_place(rng, placed, length), is_decoy=True)
        placed.append(decoy)
    return Drawn(bases, case, tuple(placed))


def background(rng: np.random.Generator, length: int) -> np.ndarray:
    """[length] uint8 bases without grammar."""
    below = np.cumsum(BACKGROUND)[:-1]
    return np.searchsorted(below, rng.random(length), side="right").astype(np.uint8)


def put(rng: np.random.Generator, bases: np.ndarray, kind: str, centre: int, *, is_decoy: bool = False) -> Placed:
    """Write an element, on either strand, into a window."""
    own = element(rng, kind, is_decoy=is_decoy)
    if rng.random() < 0.5:
        own = (3 - own)[::-1]
    start = centre - len(own) // 2
    bases[start : start + len(own)] = own
    return Placed(kind, start, start + len(own), is_decoy)


def element(rng: np.random.Generator, kind: str, *, is_decoy: bool = False) -> np.ndarray:
    """[n] uint8 bases: sites of the element's motifs by turns, each on a strand of its own, with spacers."""
    motifs, parts = ELEMENTS[kind], []
    for i in range(N_SITES[kind]):
        matrix = motifs[i % len(motifs)].matrix
        site = _site(rng, matrix[::-1] if is_decoy else matrix)
        parts += [site if rng.random() < 0.5 else (3 - site)[::-1], background(rng, int(rng.integers(*SPACER)))]
    return np.concatenate(parts[:-1])


def _site(rng: np.random.Generator, matrix: np.ndarray) -> np.ndarray:
    return (rng.random((len(matrix), 1)) > matrix.cumsum(1)[:, :-1]).sum(1).astype(np.uint8)


def free_place(rng: np.random.Generator, placed: list[Placed], length: int) -> int:
    """A place for a decoy, apart from what is there."""
    while True:
        place = int(rng.integers(LEAST_MARGIN // 2, length - LEAST_MARGIN // 2))
        if all(abs(place - (other.start + other.end) // 2) > APART for other in placed):
            return place


# What can be read from the bases alone

SITE = 5.0  # bits beyond which a place counts as a site, and from which its evidence counts
ELEMENT = 38.0  # bits of evidence that make an element
SPAN = 192  # bases over which evidence adds up


def evidence(bases: np.ndarray, motif: Motif) -> np.ndarray:
    """[n] bits by which the motif, on the better strand, explains the bases from here on better than the background."""
    odds = np.log2(motif.matrix / np.array(BACKGROUND))
    n = len(bases) - len(odds) + 1
    both = np.zeros((2, n))
    for strand, own in enumerate((odds, odds[::-1, ::-1])):
        for column, by_base in enumerate(own):
            both[strand] += by_base[bases[column : column + n]]
    return (both.max(0) - SITE).clip(0)


def strongest(bases: np.ndarray, kind: str) -> tuple[int, float]:
    """Where an element most probably is, and the evidence for it in bits."""
    total = np.zeros(len(bases) + 1)
    for motif in ELEMENTS[kind]:
        own = evidence(bases, motif)
        total[1 : len(own) + 1] += own
    sums = total.cumsum()
    spans = sums[SPAN:] - sums[:-SPAN]
    first = int(spans.argmax())
    return first + SPAN // 2, float(spans[first])


def read_by_matrices(bases: np.ndarray) -> bool:
    """The full rule applied to what the true matrices find in the bases: about the best that sequence tells."""
    centre = len(bases) // 2
    enhancer, bits = strongest(bases, "enhancer")
    insulator, _ = strongest(bases, "insulator")
    return bits > ELEMENT and not min(enhancer, centre) < insulator < max(enhancer, centre)
