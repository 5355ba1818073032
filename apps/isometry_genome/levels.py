"""The levels at which a sequence is seen, from the finest that a head asks for to the bins of the trunk."""

from __future__ import annotations

from typing import NamedTuple


class Level(NamedTuple):
    resolution: int
    """Bases of a cell."""
    width: int
    """Features of a cell."""


def levels_of(
    bin_size: int, finest: int, stem: int, width: int, asked: int | None = None, first: int | None = None
) -> list[Level]:
    """Finest first. The first step makes 4 bases one cell, or of bins of 3, 6, 12, ... one codon, and the others join
    two; widths grow in equal ratios.

    Args:
        bin_size: bases of a bin of the trunk, a power of 2 or thrice one.
        finest: bases of the smallest cell that a head reads; single bases make a level where it is 1, and before
            codons.
        stem: features of the finest level.
        width: features of a bin.
        asked: a resolution that must be among the levels.
        first: bases of the first cells, where they are not read base by base.
    """
    first = first or _first(bin_size, finest, asked)
    resolutions = [1] if finest == 1 or bin_size == 1 or first == 3 else []
    cell = first
    while cell <= bin_size:
        resolutions.append(cell)
        cell *= 2
    n_steps = max(len(resolutions) - 1, 1)
    widths = [_even(stem * (width / stem) ** (i / n_steps)) for i in range(len(resolutions))]
    return [Level(*level) for level in zip(resolutions, [*widths[:-1], width], strict=True)]


def _first(bin_size: int, finest: int, asked: int | None) -> int:
    if bin_size % 3 == 0:
        return 3
    return 4 if bin_size >= 4 and 2 not in (finest, asked) else 2


def _even(width: float) -> int:
    """The nearest multiple of 8, at least 8: halves stay whole, and vector registers are filled."""
    return max(8, round(width / 8) * 8)
