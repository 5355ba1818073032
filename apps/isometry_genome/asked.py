"""What a source of windows is asked for, and what it hands back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from isometry.settings import Settings
from pydantic import Field, NonNegativeInt, PositiveInt

from isometry_genome.dataset import GrammarDataset, Reading, Strands, WindowDataset
from isometry_genome.grammar import length_for

Windows = WindowDataset | GrammarDataset


ON_BOTH_STRANDS = ("simulated", "strand", "timing", "genes")
"""Sources whose windows are read on either strand in training, unless data.flips says otherwise."""


class SourceSettings(Settings):
    """Which windows to train, validate and test on."""

    source: Literal["simulated", "promoters", "strand", "timing", "genes", "files"] = "simulated"
    """simulated: an enhancer, a promoter, an insulator; promoters: Umarov & Solovyev 2017; strand: leading or lagging
    in E. coli; timing: replication of yeast; genes: of E. coli; files: yours."""
    length: PositiveInt | None = None
    """Bases of a window. None: as the source has it; files: the longest interval."""
    stride: PositiveInt | None = None
    """Predicted classes of whole sequences: bases from one window to the next. None: a sixteenth of a window."""
    fold: int = Field(default=0, ge=0)
    """promoters (0 to 4), timing (0 to 3), strand and genes (0 to 2, a genome): what is held out for the test."""
    n_train: PositiveInt | None = None
    """Take only so many training windows, evenly spaced (a learning curve). simulated: windows of an epoch."""
    hidden: float = Field(default=0.15, gt=0, lt=1)
    """Share of bases that a language head guesses."""
    flips: bool | None = None
    """Training windows are read on either strand. None: as the source has it."""
    masked: float = Field(default=0.0, ge=0, lt=1)
    """Share of bases that training windows lack: short ones are learnt by heart otherwise."""
    shift: NonNegativeInt = 0
    """promoters: training windows move by up to so many bases either way."""
    shortest: PositiveInt = 4096
    """Bases of a window at a curriculum's lowest levels."""
    distance: PositiveInt = 50_000
    """simulated: bases from the promoter to its enhancer."""
    spread: float = Field(default=0.125, gt=0, le=1)
    """simulated: training distances are drawn, evenly by their logarithms, from this share of the distance up."""
    promoters: Literal["ecoli_s70", "ath_nontata", "mouse_tata"] = "ecoli_s70"
    """promoters: the set."""
    with_annotation: bool = True
    """timing: tracks of annotation beside, which are no targets but help to learn."""
    genome: Path | None = None
    """files: FASTA (plain, gz, bgz), 2bit or GenBank."""
    circular: tuple[str, ...] = ()
    """files: sequences that are circles, beside those of which GenBank, GFF3 (Is_circular=true) or the header of FASTA
    ([topology=circular], circular=true) says so."""
    intervals: Path | None = None
    """files: BED of windows, whose names are their classes. None: windows side by side along the whole sequences."""
    labels: Path | None = None
    """files: a CSV file of whole sequences: name, class."""
    tracks: tuple[Path, ...] = ()
    """files: bigWig or bedGraph, one for each track of the profile."""
    annotation: Path | None = None
    """files: GFF3 or GenBank whose features of the kinds below are the classes of bases."""
    kinds: tuple[str, ...] = ("CDS",)
    """files: kinds of features that make gene structure."""
    valid: tuple[str, ...] = ()
    """files: sequences to validate on. None: about a tenth of the bases, whole sequences, or of one alone a stretch."""
    test: tuple[str, ...] = ()
    """files: sequences to test on. None: another tenth, unless data.valid is given."""
    most_unknown: float = Field(default=0.5, ge=0, le=1)
    """files: a window with a greater share of N, or reaching farther beyond its sequence, is left out; windows are
    as wide as data.length, whatever the interval."""
    most_shared: float | None = Field(default=0.05, ge=0, le=1)
    """files: training is refused where a greater share of the held-out windows have a near copy among the training
    windows. None: not looked for."""
    class_names: tuple[str, ...] = ()
    """Filled from the data, as are the following."""
    track_names: tuple[str, ...] = ()
    segment_names: tuple[str, ...] = ()


class Split(NamedTuple):
    train: Windows
    valid: Windows | None
    test: Windows | None


class Found(NamedTuple):
    """Data sets, the files they came from, and what was met on the way."""

    split: Split
    files: tuple[Path, ...]
    notes: tuple[str, ...]


class Wanted(NamedTuple):
    """What the model's settings ask of the data."""

    heads: tuple[str, ...]
    resolution: int
    is_causal: bool
    strands: Strands = Strands()
    """The swaps of the model's settings."""

    def hidden(self, settings: SourceSettings) -> float:
        return settings.hidden if "language" in self.heads and not self.is_causal else 0.0


def context_of(settings: SourceSettings) -> int:
    """Bases of a window that a model was trained on."""
    return settings.length or length_for(settings.distance)


def reading(settings: SourceSettings, wanted: Wanted, length: int, **more: Any) -> Reading:
    """How windows of a source are read. Raises ValueError for a length that is no multiple of the profile's bins."""
    has_profile = "profile" in wanted.heads
    if has_profile and length % wanted.resolution:
        raise ValueError(
            f"windows of {length} bases (data.length) with bins of {wanted.resolution} (model.resolution); expected a "
            f"multiple, such as {-(-length // wanted.resolution) * wanted.resolution}"
        )
    return Reading(
        length=length,
        resolution=wanted.resolution if has_profile else 1,
        hidden=wanted.hidden(settings),
        shortest=min(settings.shortest, length),
        masked=settings.masked,
        **more,
    )


def thinned(places: list, n: int | None) -> list:
    """Evenly spaced ones."""
    return places if n is None or n >= len(places) else [places[i * len(places) // n] for i in range(n)]
