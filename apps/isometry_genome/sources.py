"""Where a run's windows come from: simulated, a public set, or a user's files; and how they are split."""

from __future__ import annotations

from collections.abc import Callable

from isometry_data.checksums import checksums

from isometry_genome.asked import Found, SourceSettings, Split, Wanted
from isometry_genome.dataset import GrammarDataset
from isometry_genome.files import of_files
from isometry_genome.grammar import length_for
from isometry_genome.public import gene_structure, promoters, strand, timing

SIMULATED = (480, 100, 300)
"""Windows of an epoch, of validation and of test."""


def windows(settings: SourceSettings, wanted: Wanted, seed: int) -> tuple[Found, dict[str, str]]:
    """Read and split, and the checksum of each file. Raises ValueError or OSError with file and line."""
    found = SOURCES[settings.source](settings, wanted, seed)
    if not len(found.split.train):
        raise ValueError("no training window is left; check the settings of data")
    parts = found.split._asdict().items()
    counts = [f"{name}: {len(part):,} windows of {part.length(0):,} bases" for name, part in parts if part is not None]
    sums = checksums(list(found.files)) if found.files else {"seed": str(seed)}
    return found._replace(notes=(*counts, *found.notes)), sums


def _simulated(settings: SourceSettings, wanted: Wanted, seed: int) -> Found:
    if settings.length not in (None, length_for(settings.distance)):
        raise ValueError(
            f"data.length is {settings.length}; simulated windows have the length that data.distance asks for, "
            f"{length_for(settings.distance)}; leave it out"
        )
    n_train, n_valid, n_test = SIMULATED
    hidden, resolution = wanted.hidden(settings), wanted.resolution if "profile" in wanted.heads else 1
    parts = (
        GrammarDataset(n, 3 * seed + i, settings.distance, resolution, hidden, settings.spread)
        for i, n in enumerate((settings.n_train or n_train, n_valid, n_test))
    )
    return Found(Split(*parts), (), ())


SOURCES: dict[str, Callable[[SourceSettings, Wanted, int], Found]] = {
    "simulated": _simulated,
    "promoters": promoters,
    "strand": strand,
    "timing": timing,
    "genes": gene_structure,
    "files": of_files,
}
