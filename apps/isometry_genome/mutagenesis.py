"""What each base of a region is worth to one output: every substitution made in turn, and by gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry_genome.attribution import Gradients, Value, gradients
from isometry_genome.dataset import Place
from isometry_genome.heads import N_BASES, is_count
from isometry_genome.letters import N, one_hot
from isometry_genome.model import GenomeModel
from isometry_genome.objective import LEAST_RATE
from isometry_genome.readout import Names, as_numbers, calibrated, fetched, log_odds, n_at_once, shown
from isometry_genome.variant_effects import Asked

BASES_GUESSED = "language"


class Target(NamedTuple):
    """One number that a network says of a window."""

    head: str
    index: int
    name: str
    unit: str


class Region(NamedTuple):
    """A stretch, and the window in which it is read."""

    place: Place
    start: int
    """Of the window."""
    length: int

    @property
    def first(self) -> int:
        """Where the stretch begins in the window."""
        return self.place.start - self.start

    @property
    def n(self) -> int:
        return self.place.end - self.place.start


class Map(NamedTuple):
    """A region of n bases, and what they are worth to the target."""

    place: Place
    target: Target
    value: float | None
    """Of the target, as the genome is; None of hidden bases, each of which is a window of its own."""
    codes: np.ndarray
    """[n]"""
    effects: np.ndarray
    """[n, 4] what the target gains when the base becomes A, C, G, T; 0 at the base that is there"""
    slopes: Gradients | None
    """None of hidden bases."""


def target_of(name: str | None, model: GenomeModel, names: Names) -> Target:
    """By the name of a class, a track, a class of bases, or `language`; None: the last class, the first track, or what
    else the first head says. Raises ValueError that lists the names."""
    targets = _targets(model, names)
    if name is None:
        first = model.settings.heads[0]
        own = [target for target in targets if target.head == first]
        return own[-1] if first == "classes" else own[min(1, len(own) - 1)] if first == "segments" else own[0]
    for target in targets:
        if target.name == name:
            return target
    raise ValueError(f"--target {name!r}: this model says {', '.join(target.name for target in targets)}")


def _targets(model: GenomeModel, names: Names) -> list[Target]:
    settings = model.settings
    of_tracks = "log2 of the window's sum" if is_count(settings) else "the window's sum"
    by_head = {
        "classes": (names.classes, "log-odds"),
        "profile": (names.tracks, of_tracks),
        "segments": (names.segments, "bases"),
        "language": (() if settings.is_causal else (BASES_GUESSED,), "log-probability"),
    }
    return [
        Target(head, index, name, by_head[head][1])
        for head in settings.heads
        for index, name in enumerate(by_head[head][0])
    ]


def region_of(place: Place, length: int, centre: int | None) -> Region:
    """Raises ValueError for a stretch that does not lie in the window about the centre, by default its own."""
    middle = (place.start + place.end) // 2 if centre is None else centre
    start = middle - length // 2
    if place.start < start or place.end > start + length:
        about = "" if centre is None else f" about {centre}"
        raise ValueError(
            f"--region {place} is not within the model's context{about}, {place.chrom}:{start}-{start + length} "
            f"({length} bases); choose a shorter one{' or another --centre' if about else ''}"
        )
    return Region(place, start, length)


def mutate(region: Region, target: Target, asked: Asked) -> Map:
    """3 n + 1 predictions of the window; for hidden bases n of them."""
    model = asked.model.eval()
    codes = fetched(asked.sequences, region.place.chrom, region.start, region.start + region.length)
    own = codes[region.first : region.first + region.n]
    if target.head == BASES_GUESSED:
        return Map(region.place, target, None, own.numpy(), _guesses(codes, region, asked), None)

    def value(x: Tensor) -> Tensor:
        return read_target(model, x, target, asked.is_both)

    x = shown(model, codes[None])
    reference, effects = _substituted(x[0], own, region, value)
    slopes = gradients(x[0], region.first, region.n, value)
    return Map(region.place, target, reference, own.numpy(), effects, slopes)


def read_target(model: GenomeModel, x: Tensor, target: Target, is_both: bool) -> Tensor:
    """[n] of windows [n, length, 4]; gradients pass.

    Of a class the logarithm of its odds, of a track its sum over the window (of counts, the logarithm to base 2), of a
    class of bases how many there are expected.
    """
    said = calibrated(model, x, is_both=is_both)[target.head]
    if target.head == "classes":
        return log_odds(said)[:, target.index]
    if target.head == "segments":
        return said.softmax(-1)[..., target.index].sum(1)
    total = said[..., target.index].sum(1)
    return total.clamp(min=LEAST_RATE).log2() if is_count(model.settings) else total


def _substituted(x: Tensor, codes: Tensor, region: Region, value: Value) -> tuple[float, np.ndarray]:
    """Of the window as it is, and [n, 4] of its substitutions."""
    found = np.zeros((region.n, N_BASES))
    with torch.no_grad():
        reference = float(value(x[None])[0])
        waiting = list(_substitutions(codes))
        size = n_at_once(region.length)
        for begin in range(0, len(waiting), size):
            batch = waiting[begin : begin + size]
            windows = x.repeat(len(batch), 1, 1)
            for row, (at, base) in enumerate(batch):
                windows[row, region.first + at] = torch.eye(N_BASES)[base].to(x)
            rows, columns = zip(*batch, strict=True)
            found[list(rows), list(columns)] = as_numbers(value(windows)) - reference
    return reference, found


def _substitutions(codes: Tensor) -> Iterator[tuple[int, int]]:
    """Place and base, wherever the base is not there already."""
    for at, code in enumerate(codes.tolist()):
        for base in range(N_BASES):
            if code != 1 << base:
                yield at, base


def _guesses(codes: Tensor, region: Region, asked: Asked) -> np.ndarray:
    """[n, 4] log-probabilities of each base where it is hidden, less that of what is there."""
    model, found = asked.model, np.zeros((region.n, N_BASES))
    places, size = list(range(region.first, region.first + region.n)), n_at_once(region.length)
    for begin in range(0, len(places), size):
        batch = places[begin : begin + size]
        windows = codes.repeat(len(batch), 1)
        windows[torch.arange(len(batch)), batch] = N
        with torch.no_grad():
            said = calibrated(model, shown(model, windows), is_both=asked.is_both)["language"]
        for row, at in enumerate(batch):
            logs = as_numbers(said[row, at])
            there = one_hot(codes[at : at + 1])[0].double().numpy()
            found[at - region.first] = logs - np.log(there @ np.exp(logs))
    return found
