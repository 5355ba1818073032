"""Windows of sequence with what is known of them, as tensors: fetched from genomes when asked for, or simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from isometry.curriculum import length_at
from isometry_data.genomes import around
from torch import Tensor

from isometry_genome.grammar import TRACKS, drawn, length_for
from isometry_genome.letters import N, codes_of, reverse_complement

NO_LABEL = -1


class Window(NamedTuple):
    """A stretch of bases and its labels; what a data set does not have is empty. In a batch, [n, ...] of each."""

    codes: Tensor  # [length] uint8, sets of bases
    label: Tensor  # [] class of the window; -1 unknown
    profile: Tensor  # [bins, tracks] NaN unknown
    segments: Tensor  # [length] class of each base; -1 unknown
    hidden: Tensor  # [length] bool: bases that the language head guesses and nobody sees
    group: Tensor  # [] number of the sequence that the window lies on, for scores of each


class Place(NamedTuple):
    """Where a window lies, 0-based half-open; it may reach beyond the ends of its sequence."""

    chrom: str
    start: int
    end: int
    label: int = NO_LABEL
    is_minus: bool = False
    name: str = ""
    source: str = ""  # file and line, for messages

    def __str__(self) -> str:
        return self.name or f"{self.chrom}:{self.start}-{self.end}"


class Sequences(Protocol):
    """What windows are fetched from; a `Genome` is one."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def lengths(self) -> dict[str, int]: ...

    def is_circle(self, name: str) -> bool: ...

    def fetch(self, name: str, start: int, end: int, *, is_minus: bool = False, pads: bool = False) -> np.ndarray:
        """Beyond one end a circle goes on at the other."""
        ...


class Signal(Protocol):
    """Numbers along sequences."""

    names: tuple[str, ...]

    def binned(self, chrom: str, start: int, end: int, size: int) -> np.ndarray:
        """[bins, tracks] means over bins of `size` bases; NaN where unknown, and beyond the ends."""
        ...


class Strands(NamedTuple):
    """What becomes of labels on the other strand: the number that takes each one's place; empty: nothing changes."""

    classes: tuple[int, ...] = ()
    tracks: tuple[int, ...] = ()
    segments: tuple[int, ...] = ()


class Facts(NamedTuple):
    """What the labels of a data set are called, and what becomes of them on the other strand."""

    classes: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    n_targets: int | None = None
    """Tracks that are scored, the first ones; those behind them help to learn."""
    n_shares: int = 0
    """Tracks that are shares of cells, the last ones."""
    strands: Strands = Strands()


@dataclass(frozen=True)
class Reading:
    """How windows are read."""

    length: int
    """Bases of a window."""
    resolution: int = 1
    """Bases of a bin of the profile."""
    hidden: float = 0.0
    """Share of bases hidden for the language head."""
    shift: int = 0
    """Training: windows move by up to so many bases either way."""
    flips: bool = False
    """Training: half of the windows are read on the other strand."""
    masked: float = 0.0
    """Training: share of bases read as N."""
    core: int | None = None
    """Evaluation: only so many bases at the window's centre have labels, so that each base counts once."""
    shortest: int = 1
    """Bases of a window at the curriculum's lowest levels."""


class WindowDataset:
    """Windows of sequences, an indexable sequence.

    Args:
        sequences: a `Genome`, or anything that fetches letters.
        places: where the windows lie; each is widened or cut to `reading.length` about its centre.
        signal: the profile's tracks.
        segments: by sequence, [length] int8 class of each base, -1 unknown.
        are_tiles: nobody asked for these places: they cover whole sequences.
    """

    def __init__(
        self,
        sequences: Sequences,
        places: Sequence[Place],
        reading: Reading,
        facts: Facts = Facts(),  # noqa: B008 - a NamedTuple, never changed
        signal: Signal | None = None,
        segments: Mapping[str, np.ndarray] | None = None,
        *,
        are_tiles: bool = False,
    ):
        self.are_tiles = are_tiles
        self.sequences, self.reading = sequences, reading
        self.places = places if are_tiles else list(places)
        self.facts, self.signal, self.segments = facts, signal, segments
        self._groups = {name: number for number, name in enumerate(sequences.names)}

    def __len__(self) -> int:
        return len(self.places)

    def length(self, _index: int) -> int:
        return self.reading.length

    def name(self, index: int) -> str:
        return str(self.places[index])

    def __getitem__(self, index: int) -> Window:
        """The window as it is evaluated: always the same bases are hidden."""
        place = self._place(index)
        window = self._window(place, self._middle(place), self.reading.length, np.random.default_rng(index))
        return window if self.reading.core is None else _core_only(window, self.reading.core)

    def draw(self, index: int, rng: np.random.Generator, level: float = 1.0) -> Window:
        """The window as it is trained on."""
        place, reading = self._place(index), self.reading
        middle = self._middle(place)
        if reading.shift:
            middle += int(rng.integers(-reading.shift, reading.shift + 1))
        length = length_at(level, min(reading.shortest, reading.length), reading.length, reading.resolution)
        window = self._window(place, middle, length, rng)
        if reading.masked:
            is_masked = torch.from_numpy(rng.random(length) < reading.masked)
            window = window._replace(codes=window.codes.masked_fill(is_masked, N))
        return flipped(window, self.facts.strands) if reading.flips and rng.random() < 0.5 else window

    def segment_counts(self) -> np.ndarray:
        """[n_segments] bases of each class in all windows."""
        counts = np.zeros(len(self.facts.segments), dtype=np.int64)
        for place in self.places:
            start = self._middle(place) - self.reading.length // 2
            own = self._segments(place.chrom, start, start + self.reading.length)
            found = np.bincount(own[own >= 0].numpy(), minlength=len(counts))
            swap = self.facts.strands.segments if place.is_minus else ()
            counts += found[list(swap)] if swap else found
        return counts

    def _place(self, index: int) -> Place:
        if not 0 <= index < len(self.places):
            raise IndexError(f"window {index} of a data set of {len(self.places)}")
        return self.places[index]

    def _middle(self, place: Place) -> int:
        return (place.start + place.end) // 2

    def _window(self, place: Place, middle: int, length: int, rng: np.random.Generator) -> Window:
        reading, start = self.reading, middle - length // 2
        end = start + length
        codes = codes_of(self.sequences.fetch(place.chrom, start, end, pads=True)).to(torch.uint8)
        window = Window(
            codes=codes,
            label=torch.tensor(place.label),
            profile=self._profile(place.chrom, start, end),
            segments=self._segments(place.chrom, start, end),
            hidden=torch.from_numpy(rng.random(length) < reading.hidden) if reading.hidden else NOTHING_HIDDEN,
            group=torch.tensor(self._groups[place.chrom]),
        )
        if not place.is_minus:
            return window
        return flipped(window, self.facts.strands)._replace(
            label=window.label
        )  # the label is that of the stranded window

    def _profile(self, chrom: str, start: int, end: int) -> Tensor:
        if self.signal is None:
            return torch.zeros(0, 0)
        n, size = self.sequences.lengths[chrom], self.reading.resolution
        if 0 <= start < end <= n or not self.sequences.is_circle(chrom):
            return torch.from_numpy(self.signal.binned(chrom, start, end, size))
        turns = range(start // n, (end - 1) // n + 1)
        found = torch.from_numpy(np.stack([self.signal.binned(chrom, start - k * n, end - k * n, size) for k in turns]))
        return found.nanmean(0)  # a bin across the origin is known of either side

    def _segments(self, chrom: str, start: int, end: int) -> Tensor:
        if self.segments is None:
            return torch.zeros(0, dtype=torch.long)
        own = self.segments[chrom]
        if self.sequences.is_circle(chrom):
            found = np.concatenate([own[a:b] for a, b in around(start, end, len(own))])
        else:
            found = np.full(end - start, NO_LABEL, dtype=np.int8)
            first, last = min(max(start, 0), len(own)), max(min(end, len(own)), 0)
            found[first - start : last - start] = own[first:last]
        return torch.from_numpy(found.astype(np.int64))


class GrammarDataset:
    """Simulated windows; training draws new ones in every epoch, so that none is ever seen twice.

    Args:
        seed: of the windows that are evaluated; other data sets need another one.
        distance: bases from the promoter to the enhancer. At a level of a curriculum, that share of it.
        spread: in training, logarithms of distances are drawn evenly from this share of the distance up.
        shortest: bases, the least distance at any level.
    """

    def __init__(
        self, n: int, seed: int, distance: int, resolution: int, hidden: float = 0.0, spread: float = 1.0, shortest=500
    ):
        self.n, self.seed, self.distance, self.resolution = n, seed, distance, resolution
        self.hidden, self.spread, self.shortest = hidden, spread, min(shortest, distance)

    def __len__(self) -> int:
        return self.n

    def length(self, _index: int) -> int:
        return length_for(self.distance)

    def name(self, index: int) -> str:
        return f"simulated {index}"

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < self.n:
            raise IndexError(f"window {index} of a data set of {self.n}")
        return self._drawn(np.random.default_rng([self.seed, index]), self.distance, self.distance)

    def draw(self, _index: int, rng: np.random.Generator, level: float = 1.0) -> Window:
        longest = max(round(level * self.distance), self.shortest)
        least = max(self.spread * longest, self.shortest)
        distance = round(least * (longest / least) ** rng.random())
        return self._drawn(rng, distance, longest)

    def _drawn(self, rng: np.random.Generator, distance: int, longest: int) -> Window:
        made = drawn(rng, distance, length_for(longest))
        hidden = torch.from_numpy(rng.random(len(made.bases)) < self.hidden) if self.hidden else NOTHING_HIDDEN
        return Window(
            codes=torch.from_numpy(1 << made.bases),
            label=torch.tensor(int(made.case.is_active)),
            profile=torch.from_numpy(made.coverage(self.resolution)) / SIGNAL_UNIT,
            segments=torch.zeros(0, dtype=torch.long),
            hidden=hidden,
            group=torch.tensor(0),
        )

    @property
    def facts(self) -> Facts:
        return Facts(("inactive", "active"), TRACKS)


NOTHING_HIDDEN = torch.zeros(0, dtype=torch.bool)
SIGNAL_UNIT = 32.0
"""Bases of an element that make one count of a simulated track."""


def collate(windows: list[Window]) -> Window:
    """A batch of windows of one length."""
    lengths = {len(window.codes) for window in windows}
    if len(lengths) > 1:
        raise ValueError(f"windows of {sorted(lengths)} bases in one batch; expected one length (data.length)")
    return Window(*(torch.stack(parts) for parts in zip(*windows, strict=True)))


def flipped(window: Window, strands: Strands) -> Window:
    """The window on the other strand, with what that makes of its labels."""
    label, profile, segments = window.label, window.profile.flip(0), window.segments.flip(0)
    if strands.classes and label >= 0:
        label = torch.tensor(strands.classes)[label]
    if strands.tracks and profile.numel():
        profile = profile[:, list(strands.tracks)]
    if strands.segments and len(segments):
        segments = torch.where(segments >= 0, torch.tensor(strands.segments)[segments.clamp(min=0)], segments)
    return window._replace(
        codes=reverse_complement(window.codes),
        label=label,
        profile=profile,
        segments=segments,
        hidden=window.hidden.flip(0),
    )


def _core_only(window: Window, core: int) -> Window:
    """Without labels outside the `core` bases at the centre."""
    length = len(window.codes)
    edge = (length - core) // 2
    profile, segments = window.profile.clone(), window.segments.clone()
    if len(profile):
        bins = edge * len(profile) // length
        profile[:bins] = torch.nan
        profile[len(profile) - bins :] = torch.nan
    if len(segments):
        segments[:edge] = NO_LABEL
        segments[length - edge :] = NO_LABEL
    return window._replace(profile=profile, segments=segments)
