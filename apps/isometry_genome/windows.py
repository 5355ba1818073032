"""Long sequences by overlapping windows, blended where they overlap; nothing is held but one batch of windows.

The outer bases of a window are read but not believed (its margins); behind them, over a ramp, one window hands over to
the next by weights that sum to one. A prediction therefore does not depend on where windows are cut, exactly so where
the network reaches no farther than the margin. Windows begin at whole bins from the start of the stretch.

A trunk that reads elements would read those of a whole window, at its ends from one side alone. Here it reads those up
to half a training window away on both sides, whatever the window, and windows are long enough for margins of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry_genome.dataset import Place, Sequences
from isometry_genome.letters import N, reverse_complement
from isometry_genome.model import GenomeModel, ModelSettings, turned_outputs
from isometry_genome.readout import as_numbers, calibrated, fetched, n_at_once, shown, unknown_shares

MARGIN, RAMP = 1 / 8, 1 / 8
"""Of a window, on either side: 5/8 of each window are new, so that a sequence is read 1.6 times."""
LONGER, LOCAL = 4, 8
"""Where the trunk reads elements: training windows in one of these, and bins that are read beside what it sees."""


class Plan(NamedTuple):
    """How windows lie, in bases, all of them multiples of the bins."""

    length: int
    margin: int
    """At each end of a window, read but not believed."""
    ramp: int
    """Behind the margin, shared with the neighbouring window."""
    unit: int
    """Windows begin at multiples of this from the start of a stretch, so that every cell stays a cell."""
    sight: int | None = None
    """How far away a trunk reads elements; None: all of a window."""

    @property
    def step(self) -> int:
        return self.length - 2 * self.margin - self.ramp

    def n_windows(self, n: int) -> int:
        """Windows of a stretch of n bases."""
        return max(-(-(n - self.ramp) // self.step), 1)


class Stretch(NamedTuple):
    """What the heads say of [start, end) of a sequence; None where the model has no such head."""

    record: int
    """Of the places, counted from 1."""
    chrom: str
    start: int
    end: int
    profile: np.ndarray | None
    """[ceil((end - start) / resolution), n_tracks] in the tracks' own unit; NaN of bins without any known base"""
    segments: np.ndarray | None
    """[end - start, n_segments] probabilities"""
    unknown: float = 0.0
    """Share of the letters that say nothing in the window that was read, of two that blend in the second."""


class _Job(NamedTuple):
    """One window of one place."""

    record: int
    place: Place
    number: int
    start: int


def plan_of(length: int, settings: ModelSettings) -> Plan:
    """Windows of about `length` bases: the multiple of the bins below, at least one bin."""
    unit = max(settings.bin, settings.resolution) if "profile" in settings.heads else settings.bin
    n_units = max(length // unit, 1)
    if settings.reads == "elements":
        sight = (n_units + 1) // 2
        return Plan((LONGER * n_units + 2 * LOCAL) * unit, (sight + LOCAL) * unit, 0, unit, sight * unit)
    return Plan(n_units * unit, int(n_units * MARGIN) * unit, int(n_units * RAMP) * unit, unit)


def stretches(model: GenomeModel, sequences: Sequences, places: Iterable[Place], plan: Plan) -> Iterator[Stretch]:
    """Profile and segments of each place, in consecutive stretches from its start to its end.

    A place that one window can hold lies in its middle; a minus place is read on its own strand, and told, as all
    others are, along the sequence, with the outputs of that strand.
    """
    cells = cells_of(model.settings)
    carried: dict[str, np.ndarray] = {}
    for job, said, unknown in _read(model, sequences, _jobs(places, plan), plan):
        place, n_windows = job.place, plan.n_windows(job.place.end - job.place.start)
        is_last = job.number == n_windows - 1
        start = place.start + job.number * plan.step
        end = place.end if is_last else start + plan.step
        done: dict[str, np.ndarray] = {}
        for name, size in cells.items():
            values = said[name][(start - job.start) // size :]
            if job.number:
                values = _handed_over(carried[name], values)
            if not is_last:
                carried[name] = values[plan.step // size : (plan.step + plan.ramp) // size]
            done[name] = values[: -(-(end - start) // size)]
        yield Stretch(job.record, place.chrom, start, end, done.get("profile"), done.get("segments"), unknown)


def cells_of(settings: ModelSettings) -> dict[str, int]:
    """Bases of a cell, for each head that speaks of places."""
    sizes = {"profile": settings.resolution, "segments": 1}
    return {head: size for head, size in sizes.items() if head in settings.heads}


def _handed_over(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The first cells are shared with the window before; its weight falls evenly."""
    n = len(before)
    own = ((np.arange(n) + 0.5) / n)[:, None]
    return np.concatenate([before * (1 - own) + values[:n] * own, values[n:]])


def _jobs(places: Iterable[Place], plan: Plan) -> Iterator[_Job]:
    for record, place in enumerate(places, start=1):
        n = place.end - place.start
        n_windows = plan.n_windows(n)
        # One window has as much on either side of the place, but for less than a bin.
        before = plan.margin if n_windows > 1 else (plan.length - n) // 2 // plan.unit * plan.unit
        for number in range(n_windows):
            yield _Job(record, place, number, place.start - before + number * plan.step)


def _read(
    model: GenomeModel, sequences: Sequences, jobs: Iterator[_Job], plan: Plan
) -> Iterator[tuple[_Job, dict[str, np.ndarray], float]]:
    while batch := list(islice(jobs, n_at_once(plan.length))):
        codes = torch.stack([_codes(sequences, job, plan.length) for job in batch])
        with nullcontext() if model.elements is None else model.elements.seeing(plan.sight):
            said = spoken(model, codes)
        if "profile" in said:
            said["profile"] = said["profile"].masked_fill(_is_unknown(codes, said["profile"]), torch.nan)
        other = turned_outputs(said, model.settings) if any(job.place.is_minus for job in batch) else said
        for row, (job, unknown) in enumerate(zip(batch, unknown_shares(codes), strict=True)):
            own = other if job.place.is_minus else said
            yield job, {name: as_numbers(own[name][row]) for name in cells_of(model.settings)}, unknown


def _is_unknown(codes: Tensor, profile: Tensor) -> Tensor:
    """[n, bins, 1] of N alone: a network that was never shown such bins says anything of them."""
    return (codes == N).unflatten(1, (profile.shape[1], -1)).all(2, keepdim=True).to(profile.device)


def _codes(sequences: Sequences, job: _Job, length: int) -> Tensor:
    codes = fetched(sequences, job.place.chrom, job.start, job.start + length)
    return reverse_complement(codes) if job.place.is_minus else codes


def spoken(model: GenomeModel, codes: Tensor) -> dict[str, Tensor]:
    """What each head says of windows of codes [n, length]: tracks in their own unit, all else as probabilities."""
    model.eval()
    with torch.no_grad():
        said = calibrated(model, shown(model, codes))
        return {
            name: values if name == "profile" else values.exp() if name == "language" else values.softmax(-1)
            for name, values in said.items()
        }
