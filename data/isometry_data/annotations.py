"""Genes and other marked stretches of a genome, out of GFF3, GenBank and plain tables.

GFF3 and GenBank count from 1 and include the end; here everything is 0-based half-open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from isometry_data.intervals import Interval


@dataclass(frozen=True, slots=True)
class Feature:
    """One stretch of a kind; a feature of several stretches (exons, across the origin of a circle) is several of these
    with one name, numbered along the sequence.
    """

    interval: Interval
    kind: str  # as the file says: gene, CDS, tRNA, ...
    name: str
    part: int = 1
    n_parts: int = 1


def read_features(path: str | os.PathLike[str]) -> list[Feature]:
    """The features of a GFF3, a GenBank file or a table (`chrom start0 end type strand name`), in the file's order."""
    raise NotImplementedError
