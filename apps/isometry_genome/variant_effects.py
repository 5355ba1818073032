"""What a variant changes: both alleles in their surroundings, read by the same network, side by side.

The reference and the alternative allele each stand in the middle of a window of the model's context. Where they differ
in length, the flanks are filled from the genome, and the left one moves by whole bins alone, so that the bins left of
the variant stay the same bins. Or windows stand about places that were named, such as promoters, and an indel moves
what lies beyond it. Bins are compared with the bin that holds the same bases of the genome, or nearest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from isometry_data.bases import ascii_of
from isometry_data.variants import Variant
from torch import Tensor

from isometry_genome.dataset import Sequences
from isometry_genome.heads import is_count
from isometry_genome.letters import BASE_OF, N, codes_of
from isometry_genome.model import GenomeModel
from isometry_genome.objective import LEAST_RATE
from isometry_genome.readout import Names, as_numbers, calibrated, fetched, log_odds, n_at_once, shown, unknown_shares

Effects = dict[str, float | None]
Said = dict[str, np.ndarray]
"""What each head says of one window."""

WINDOWS_OF_A_VARIANT = 2


@dataclass(frozen=True)
class Asked:
    """A network, and how variants are put to it."""

    model: GenomeModel
    sequences: Sequences
    length: int
    """Bases of a window."""
    names: Names
    is_both: bool = True
    """The mean over both strands; else the strand of the file alone."""
    middles: Mapping[str, np.ndarray] | None = None
    """By sequence, sorted: the bases about which windows are read, each variant about the nearest; None: itself."""


class Allele(NamedTuple):
    """An allele in the middle of a window."""

    chrom: str
    start: int
    """Of the variant in the genome."""
    end: int
    letters: str
    left: int
    """Bases of the window before the allele."""
    is_hidden: bool = False
    """Its bases are kept from the network, which is to guess them."""

    @property
    def behind(self) -> int:
        """Where the allele ends in the window."""
        return self.left + len(self.letters)


def effects(variants: Iterable[Variant], asked: Asked) -> Iterator[tuple[Variant, Effects]]:
    """Each variant with the effects on every head, in order, in batches.

    Raises ValueError for an allele that leaves no room in the window.
    """
    asked.model.eval()
    waiting = iter(variants)
    while batch := list(islice(waiting, n_at_once(WINDOWS_OF_A_VARIANT * asked.length))):
        pairs = [alleles(variant, asked) for variant in batch]
        said = _read([allele for pair in pairs for allele in pair], asked) if _is_read(asked) else {}
        hidden = _read([_hidden(pair[0]) for pair in pairs if _is_guessed(pair, asked)], asked)
        for variant, pair in zip(batch, pairs, strict=True):
            yield variant, _of_one(pair, said, hidden, asked)


def alleles(variant: Variant, asked: Asked) -> tuple[Allele, Allele]:
    """Reference and alternative, each in the middle of its window."""
    n, m, length = len(variant.reference), len(variant.alternative), asked.length
    if max(n, m) > length:
        where = f"{variant.source}: " if variant.source else ""
        raise ValueError(
            f"{where}{variant}: an allele is longer than the model's context, {length} bases; leave it out"
        )
    if asked.middles is None:
        left = (length - n) // 2
        unit = asked.model.settings.bin
        other = left + round((n - m) / 2 / unit) * unit
    else:
        middle = nearest(variant, asked.middles)
        left = variant.position - (middle - length // 2)
        other = left if variant.end > middle else left + n - m  # what is read about stays where it is
        if left < 0 or left + n > length:
            raise ValueError(
                f"{variant.source}: {variant} is not within the model's context, {length} bases, about the "
                f"nearest interval, at {variant.chrom}:{middle}; leave it out, or add an interval"
            )
    other = min(max(other, 0), length - m)
    at = (variant.chrom, variant.position, variant.end)
    return Allele(*at, variant.reference, left), Allele(*at, variant.alternative, other)


def nearest(variant: Variant, middles: Mapping[str, np.ndarray]) -> int:
    """Raises ValueError for a sequence without any."""
    there = middles.get(variant.chrom, ())
    if not len(there):
        raise ValueError(f"{variant.source}: {variant}: there is no interval on {variant.chrom} to read it about")
    return int(there[np.abs(np.asarray(there) - variant.position).argmin()])


def codes_with(allele: Allele, asked: Asked) -> Tensor:
    """[length] codes of the window."""
    before = fetched(asked.sequences, allele.chrom, allele.start - allele.left, allele.start)
    behind = fetched(asked.sequences, allele.chrom, allele.end, allele.end + asked.length - allele.behind)
    own = codes_of(ascii_of(allele.letters)).to(torch.uint8)
    return torch.cat([before, torch.full_like(own, N) if allele.is_hidden else own, behind])


def _read(asked_for: list[Allele], asked: Asked) -> dict[Allele, Said]:
    """What the heads say of each different window: the alternatives of one place share their reference."""
    different = list(dict.fromkeys(asked_for))
    found: dict[Allele, Said] = {}
    size = n_at_once(asked.length)
    for first in range(0, len(different), size):
        batch = different[first : first + size]
        with torch.no_grad():
            x = shown(asked.model, torch.stack([codes_with(allele, asked) for allele in batch]))
            said = calibrated(asked.model, x, is_both=asked.is_both)
            if "classes" in said:
                said["odds"], said["classes"] = log_odds(said["classes"]), said["classes"].softmax(-1)
            if "segments" in said:
                said["segments"] = said["segments"].softmax(-1)
        numbers = {name: as_numbers(values) for name, values in said.items()}
        found |= {allele: {name: own[row] for name, own in numbers.items()} for row, allele in enumerate(batch)}
    return found


def _is_read(asked: Asked) -> bool:
    """A model that guesses hidden bases and nothing else is asked with the alleles hidden alone."""
    settings = asked.model.settings
    return settings.is_causal or settings.heads != ("language",)


def _of_one(pair: tuple[Allele, Allele], said: dict[Allele, Said], hidden: dict[Allele, Said], asked: Asked) -> Effects:
    reference, alternative = (said.get(allele, {}) for allele in pair)
    found: Effects = {}
    if "classes" in reference:
        found |= _of_classes(reference, alternative, asked.names.classes)
    if "profile" in reference:
        ours, theirs = partners(pair, len(reference["profile"]), asked.model.settings.resolution)
        found |= _of_tracks(reference["profile"], alternative["profile"], ours, theirs, asked)
    if "segments" in reference:
        ours, theirs = partners(pair, asked.length, 1)
        found |= _of_segments(reference["segments"], alternative["segments"], ours, theirs, asked.names.segments)
    if "language" in asked.model.settings.heads:
        found |= _of_language(pair, said, hidden, asked)
    (found["unknown"],) = unknown_shares(codes_with(pair[0], asked)[None])
    return found


def _of_classes(reference: Said, alternative: Said, names: tuple[str, ...]) -> Effects:
    found: Effects = {}
    for i, name in enumerate(names):
        found[f"p_{name}_reference"] = float(reference["classes"][i])
        found[f"p_{name}_alternative"] = float(alternative["classes"][i])
        found[f"logit_{name}_difference"] = float(alternative["odds"][i] - reference["odds"][i])
    return found


def _of_tracks(
    reference: np.ndarray, alternative: np.ndarray, ours: np.ndarray, theirs: np.ndarray, asked: Asked
) -> Effects:
    found: Effects = {}
    has_folds = is_count(asked.model.settings)
    for i, name in enumerate(asked.names.tracks):
        a, b = reference[:, i], alternative[:, i]
        found[f"{name}_reference"], found[f"{name}_alternative"] = float(a.sum()), float(b.sum())
        if has_folds:
            a, b = np.maximum(a, LEAST_RATE), np.maximum(b, LEAST_RATE)
            found[f"{name}_log2_ratio"] = float(np.log2(b.sum() / a.sum()))
            found[f"{name}_log2_change"] = float(np.abs(np.log2(b[theirs] / a[ours])).sum())
        else:
            found[f"{name}_difference"] = float(b.sum() - a.sum())
            found[f"{name}_change"] = float(np.abs(b[theirs] - a[ours]).sum())
    return found


def _of_segments(
    reference: np.ndarray, alternative: np.ndarray, ours: np.ndarray, theirs: np.ndarray, names: tuple[str, ...]
) -> Effects:
    found: Effects = {}
    for i, name in enumerate(names):
        found[f"{name}_reference"], found[f"{name}_alternative"] = (
            float(own[:, i].sum()) for own in (reference, alternative)
        )
    return found | {"changed_bases": float(np.abs(alternative[theirs] - reference[ours]).sum() / 2)}


# Language


def _hidden(allele: Allele) -> Allele:
    return allele._replace(letters="N" * len(allele.letters), is_hidden=True)


def _is_guessed(pair: tuple[Allele, Allele], asked: Asked) -> bool:
    """Alleles of one length are guessed where they stand, by a head that reads both ways."""
    settings = asked.model.settings
    is_one_length = len(pair[0].letters) == len(pair[1].letters)
    return "language" in settings.heads and not settings.is_causal and is_one_length and _are_certain(pair)


def _are_certain(pair: tuple[Allele, Allele]) -> bool:
    """A letter for several bases would be likelier than any of them."""
    return all(bool((BASE_OF[codes_of(ascii_of(own.letters))] >= 0).all()) for own in pair)


def _of_language(
    pair: tuple[Allele, Allele], said: dict[Allele, Said], hidden: dict[Allele, Said], asked: Asked
) -> Effects:
    """Log-likelihoods in nats: of the hidden alleles; of a causal model, of the whole windows. None of indels, where
    hidden alleles would not have the same places, and of letters for several bases."""
    if asked.model.settings.is_causal and _are_certain(pair):
        logs = [likelihood(said[own]["language"], codes_with(own, asked)) for own in pair]
    elif _is_guessed(pair, asked):
        guessed = hidden[_hidden(pair[0])]["language"][pair[0].left : pair[0].behind]
        logs = [likelihood(guessed, codes_of(ascii_of(own.letters))) for own in pair]
    else:
        return {"log_p_reference": None, "log_p_alternative": None, "log_p_ratio": None}
    return {"log_p_reference": logs[0], "log_p_alternative": logs[1], "log_p_ratio": logs[1] - logs[0]}


def likelihood(logs: np.ndarray, codes: Tensor) -> float:
    """Sum over the bases that are known for certain; logs [n, 4] of probabilities."""
    bases = BASE_OF[codes.long()].numpy()
    known = np.flatnonzero(bases >= 0)
    return float(logs[known, bases[known]].sum())


def partners(pair: tuple[Allele, Allele], n_cells: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of the reference's window, and those of the alternative's that hold the same bases of the genome; what is
    inserted has the reference's last cell before it as its partner."""
    reference, alternative = pair
    ours = np.arange(n_cells)
    n_before = int(((ours + 0.5) * size <= reference.left + len(reference.letters) / 2).sum())
    before = round((alternative.left - reference.left) / size)
    behind = round((alternative.behind - reference.behind) / size)
    theirs = np.concatenate([ours[:n_before] + before, ours[n_before:] + behind])
    inserted = np.arange(n_before + before, n_before + behind)
    ours = np.concatenate([ours, np.full(len(inserted), n_before - 1)])
    theirs = np.concatenate([theirs, inserted])
    is_there = (ours >= 0) & (theirs >= 0) & (theirs < n_cells)
    return ours[is_there], theirs[is_there]
