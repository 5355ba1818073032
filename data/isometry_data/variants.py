"""Differences from a genome: VCF read strictly, and the check that its reference alleles are the genome's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from isometry_data.genomes import Genome


@dataclass(frozen=True, slots=True)
class Variant:
    """`reference` at `position` (0-based) becomes `alternative`; each has at least one letter, as in VCF."""

    chrom: str
    position: int
    reference: str
    alternative: str
    name: str = ""
    source: str = ""  # file and line, for messages

    def __str__(self) -> str:
        return f"{self.chrom}:{self.position + 1} {self.reference}>{self.alternative}"  # 1-based, as VCF and HGVS

    @property
    def end(self) -> int:
        """0-based, behind the last reference letter."""
        return self.position + len(self.reference)


def read_vcf(path: str | os.PathLike[str]) -> list[Variant]:
    """Every alternative of every line as one variant."""
    raise NotImplementedError


def check_references(variants: Sequence[Variant], genome: Genome) -> None:
    """Refuses variants whose reference allele is not what the genome has there."""
    raise NotImplementedError
