"""Sequences held in memory, fetched from as from a genome."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from isometry_data.bases import reverse_complement
from isometry_data.genomes import around


class InMemory:
    """Sequences by name. Raises ValueError for one without bases."""

    def __init__(self, sequences: Mapping[str, str], circles: Collection[str] = ()):
        self._circles = frozenset(circles)
        self._letters = {name: np.frombuffer(own.encode("ascii"), dtype=np.uint8) for name, own in sequences.items()}
        for name, own in self._letters.items():
            if not len(own):
                raise ValueError(f"{name}: a sequence without bases")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._letters)

    @property
    def lengths(self) -> dict[str, int]:
        """Bases of each sequence."""
        return {name: len(own) for name, own in self._letters.items()}

    def is_circle(self, name: str) -> bool:
        return name in self._circles

    def fetch(self, name: str, start: int, end: int, *, is_minus: bool = False, pads: bool = False) -> np.ndarray:
        """As `Genome.fetch`."""
        own = self._letters[name]
        if name in self._circles:
            found = np.concatenate([own[a:b] for a, b in around(start, end, len(own))])
            return reverse_complement(found) if is_minus else found
        if not pads and not 0 <= start <= end <= len(own):
            raise ValueError(f"{name}:{start}-{end} is not within 0-{len(own)}, 0-based half-open")
        found = np.full(end - start, ord("N"), dtype=np.uint8)
        first, last = min(max(start, 0), len(own)), max(min(end, len(own)), 0)
        if first < last:
            found[first - start : last - start] = own[first:last]
        return reverse_complement(found) if is_minus else found
