"""Classes along whole sequences, by windows that overlap: what lies across the end of one is whole in the next.

Windows begin a stride apart; the last one ends with its sequence, and on a circle they go on across the origin. A
network that reads one strand reads each window on both. Where there is room for one value, as in a track, each base has
that of the window whose middle is nearest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice, tee
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry_genome.asked import context_of
from isometry_genome.dataset import Place, Sequences
from isometry_genome.letters import N, reverse_complement
from isometry_genome.model import GenomeModel
from isometry_genome.readout import as_numbers, fetched, n_at_once, reads_both
from isometry_genome.windows import Stretch, spoken

SHARE = 16
"""A window's share from one window to the next, where no stride was asked for."""


class Slide(NamedTuple):
    """How windows lie along one sequence, in bases."""

    record: int
    """Of the sequences, counted from 1."""
    chrom: str
    n: int
    """Of the sequence."""
    length: int
    """Of a window."""
    stride: int
    is_circle: bool

    @property
    def n_windows(self) -> int:
        if self.is_circle:
            return -(-self.n // self.stride)
        return -(-max(self.n - self.length, 0) // self.stride) + 1

    def start(self, number: int) -> int:
        """Where a window begins; on a circle, also of the turns before and behind."""
        if not self.is_circle:
            return max(min(number * self.stride, self.n - self.length), 0)
        turn, own = divmod(number, self.n_windows)
        return turn * self.n + own * self.stride

    def place(self, number: int, *, is_minus: bool = False) -> Place:
        """On a circle it may end past the length; on a line that is shorter than a window it ends with the line."""
        start = self.start(number)
        end = start + self.length if self.is_circle else min(start + self.length, self.n)
        return Place(self.chrom, start, end, is_minus=is_minus)

    def cells(self) -> Iterator[Cell]:
        """By position, the bases that each window tells; together, every base once."""
        first, last = self._edge(0), self._edge(self.n_windows)
        for turn in range(last // self.n, first // self.n - 1, -1) if self.is_circle else (0,):
            for number in range(self.n_windows):
                start = max(self._edge(number) - turn * self.n, 0)
                end = min(self._edge(number + 1) - turn * self.n, self.n)
                if start < end:
                    yield Cell(number, start, end)

    def _edge(self, number: int) -> int:
        """Half way between the middles of a window and of the one before it; a line's ends are edges."""
        if not self.is_circle and number in (0, self.n_windows):
            return self.n if number else 0
        return (self.start(number - 1) + self.start(number) + 1) // 2 + self.length // 2


class Cell(NamedTuple):
    """[start, end) of a sequence, told by the window of this number."""

    number: int
    start: int
    end: int


def slides(sequences: Sequences, settings: Any) -> list[Slide]:
    """One for each sequence. Raises ValueError for a stride that would leave bases between windows."""
    length = context_of(settings.data)
    stride = settings.data.stride or max(length // SHARE, 1)
    if stride > length:
        raise ValueError(
            f"windows of {length} bases {stride} apart (--stride) leave bases unread; expected 1 to {length}"
        )
    lengths = sequences.lengths.items()
    return [
        Slide(record, name, n, length, stride, sequences.is_circle(name))
        for record, (name, n) in enumerate(lengths, start=1)
    ]


def strands_of(settings: Any) -> tuple[bool, ...]:
    """Whether each reading is of the minus strand; one reading where the network knows both strands."""
    return (False,) if reads_both(settings, None) else (False, True)


def batches(sequences: Sequences, slide: Slide, numbers: Iterable[int]) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers of windows with their codes [n, length]; neighbours are fetched at once."""
    most = n_at_once(slide.length)
    for _, run in groupby(enumerate(numbers), key=lambda pair: (pair[0] // most, pair[1] - pair[0])):
        own = [number for _, number in run]
        starts = torch.tensor([slide.start(number) for number in own])
        first = int(starts[0])
        codes = fetched(sequences, slide.chrom, first, int(starts[-1]) + slide.length)
        yield own, codes[(starts - first)[:, None] + torch.arange(slide.length)]


def on_strand(codes: Tensor, is_minus: bool) -> Tensor:
    return reverse_complement(codes) if is_minus else codes


def tracks(
    model: GenomeModel, sequences: Sequences, along: Iterable[Slide], strands: Sequence[bool]
) -> Iterator[Stretch]:
    """Probabilities of the classes as a profile in bins of a stride: of all classes on each strand in turn. Windows of
    N alone have no value."""
    for slide in along:
        cells, asked = tee(slide.cells())
        for numbers, codes in batches(sequences, slide, (cell.number for cell in asked)):
            said = (spoken(model, on_strand(codes, is_minus))["classes"] for is_minus in strands)
            values = np.concatenate([as_numbers(own) for own in said], 1)
            values[(codes == N).all(1).numpy()] = np.nan
            yield from _told(slide, list(islice(cells, len(numbers))), values)


def track_names(classes: Sequence[str], strands: Sequence[bool]) -> list[str]:
    """With the strand where there are two."""
    signs = ["+-"[is_minus] if len(strands) > 1 else "" for is_minus in strands]
    return [name + sign for sign in signs for name in classes]


def _told(slide: Slide, cells: list[Cell], values: np.ndarray) -> Iterator[Stretch]:
    """Cells of a stride's width are bins side by side; a wider one, at an end, is several bins of one value."""
    at = 0
    for is_bin, run in groupby(cells, key=lambda cell: cell.end - cell.start == slide.stride):
        for start, end, n in [_hull(run)] if is_bin else [(cell.start, cell.end, 1) for cell in run]:
            profile = values[at : at + n]
            if not is_bin:
                profile = np.repeat(profile, -(-(end - start) // slide.stride), 0)
            yield Stretch(slide.record, slide.chrom, start, end, profile, None)
            at += n


def _hull(run: Iterable[Cell]) -> tuple[int, int, int]:
    own = list(run)
    return own[0].start, own[-1].end, len(own)
