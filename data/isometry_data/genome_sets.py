"""The public genome data sets as checked records: bacteria, yeast, promoters, and measured variants.

Files are found through the catalogue (`locate`). Positions are 0-based half-open, whatever the file counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isometry_data.annotations import Feature
from isometry_data.genomes import Genome
from isometry_data.intervals import Interval
from isometry_data.variants import Variant

PROMOTER_SETS = ("ecoli_s70", "ath_nontata", "mouse_tata")


@dataclass(frozen=True)
class Timing:
    """Replication timing along each chromosome."""

    columns: tuple[str, ...]  # "sort_W303_S", ..., "Trep" (minutes)
    bin: int  # bases
    values: dict[str, np.ndarray]  # by chromosome: float32 [n_bins, n_columns], bin i begins at i * bin; NaN unknown


@dataclass(frozen=True)
class Promoters:
    """Short sequences, each once, that are promoters (1) or not (0)."""

    name: str
    sequences: tuple[str, ...]  # of one length
    labels: np.ndarray  # int64 [n]
    n_duplicates: int  # left out


@dataclass(frozen=True)
class Saturation:
    """Every measured single change of a region."""

    name: str
    sequence: str  # of the region, plus strand
    variants: tuple[Variant, ...]  # positions within the region
    offset: int  # position of the region's first base on `chrom`
    chrom: str
    assembly: str
    scores: dict[str, np.ndarray]  # by name [n_variants]; NaN unknown
    classes: dict[str, tuple[str, ...]]  # by name, one label for each variant


@dataclass(frozen=True)
class EnhancerPair:
    """An element, silenced or not, and what that did to a gene."""

    element: Interval
    gene: str
    tss: int
    distance: float  # bases to the start of transcription
    is_regulated: bool
    dataset: str
    signals: dict[str, float]  # further numeric columns by name; NaN unknown


def yeast_genome() -> Genome:
    """Saccharomyces cerevisiae S288C R64-1-1: sixteen chromosomes chrI to chrXVI (no mitochondrion)."""
    raise NotImplementedError


def yeast_features() -> list[Feature]:
    """Genes, origins, tRNA, LTR, centromeres, telomeres of yeast."""
    raise NotImplementedError


def yeast_timing() -> Timing:
    """Replication timing of yeast in bins of 1 kb."""
    raise NotImplementedError


def origins() -> list[Interval]:
    """Confirmed origins of yeast (OriDB)."""
    raise NotImplementedError


def ecoli_genomes() -> Genome:
    """Three complete chromosomes of E. coli: K-12 MG1655, IAI39, UMN026; each is a circle cut open."""
    raise NotImplementedError


def ecoli_genes(kinds: tuple[str, ...] = ("CDS",)) -> list[Feature]:
    """The annotated features of those kinds (CDS, tRNA, rRNA, ncRNA, ...) on the three chromosomes."""
    raise NotImplementedError


def promoters(name: str) -> Promoters:
    """One of `PROMOTER_SETS`."""
    raise NotImplementedError


def brca1() -> Saturation:
    """BRCA1 by saturation genome editing; scores: function, CADD, phyloP; classes: func_class, consequence, clinvar."""
    raise NotImplementedError


def cagi5() -> list[Saturation]:
    """Seven regulatory elements; scores: log2_effect, confidence."""
    raise NotImplementedError


def crispri_pairs() -> list[EnhancerPair]:
    """Enhancer-gene pairs in K562 tested by CRISPRi (GRCh38)."""
    raise NotImplementedError
