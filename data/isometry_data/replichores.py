"""Which strand of a bacterial chromosome is copied as the leading strand, from its origin to its terminus.

From the origin both forks run to the terminus. Where a fork runs towards higher positions, the plus strand is made as
the leading strand: there it is richer in G than in C. So the sum of (G - C) along the plus strand is lowest at the
origin and highest at the terminus.

Source: Lobry, Mol. Biol. Evol. 13, 660 (1996); Grigoriev, Nucleic Acids Res. 26, 2286 (1998). dif, where the two
copies are parted: Kuempel et al., New Biol. 3, 799 (1991).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isometry_data.bases import ascii_of, reverse_complement, text_of
from isometry_data.genomes import Genome

DIF = "GGTGCGCATAATGTATATTATGTTAAAT"  # of E. coli; binds XerC and XerD
LEADING, LAGGING = 1, 0


@dataclass(frozen=True)
class Replichores:
    """The two halves of a circular chromosome."""

    chrom: str
    length: int
    origin: int  # 0-based
    terminus: int
    source: str  # how the two were found

    def plus_is_leading(self, positions: np.ndarray | int) -> np.ndarray:
        """int8, 1 where the plus strand is made as the leading strand; the reverse complement has the other label."""
        run = (np.asarray(positions) - self.origin) % self.length  # along the plus strand, from the origin
        return np.where(run < (self.terminus - self.origin) % self.length, LEADING, LAGGING).astype(np.int8)

    def distance(self, position: int) -> int:
        """Bases, around the circle, to the nearer of origin and terminus: labels close to them are uncertain."""
        away = [abs(position - mark) for mark in (self.origin, self.terminus)]
        return min(min(bases, self.length - bases) for bases in away)


def replichores(
    genome: Genome, *, origins: dict[str, int] | None = None, terminus_site: str = DIF
) -> dict[str, Replichores]:
    """Of each sequence of a genome: the origin as given, else at the minimum of the summed GC skew; the terminus at
    its dif site where exactly one is found on either strand, else at the maximum.

    Raises:
        ValueError: a sequence without skew (no G and C, or one half shorter than a tenth of it).
    """
    found = {}
    for name, length in genome.lengths.items():
        letters = genome.fetch(name, 0, length) & 0xDF  # upper case
        summed = np.cumsum((letters == ord("G")).astype(np.int64) - (letters == ord("C")))
        origin, terminus = (int(np.argmin(summed)) + 1) % length, (int(np.argmax(summed)) + 1) % length
        said = ["origin at the minimum of the summed GC skew", "terminus at its maximum"]
        if origins and name in origins:
            origin, said[0] = origins[name], "origin as given"
        if (site := _single_site(letters, terminus_site)) is not None:
            terminus, said[1] = site, "terminus at dif"
        half = (terminus - origin) % length
        if min(half, length - half) < length / 10:
            raise ValueError(f"{genome.file}: {name}: origin {origin}, terminus {terminus} of {length}: no replichores")
        found[name] = Replichores(name, length, origin, terminus, ", ".join(said))
    return found


def _single_site(letters: np.ndarray, site: str) -> int | None:
    """Where the middle of the only copy on either strand lies."""
    text = text_of(letters)
    spellings = {site, text_of(reverse_complement(ascii_of(site)))}
    starts = [at for spelling in spellings for at in (text.find(spelling), text.rfind(spelling)) if at >= 0]
    return starts[0] + len(site) // 2 if len(set(starts)) == 1 else None
