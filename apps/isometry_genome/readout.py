"""What a trained network says of windows it was given: calibrated, and of both strands where asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry_genome.asked import ON_BOTH_STRANDS
from isometry_genome.dataset import Sequences
from isometry_genome.letters import N, codes_of
from isometry_genome.model import GenomeModel, calibrated_heads, turned_outputs
from isometry_genome.objective import probabilities
from isometry_genome.strands import turned

BASES_AT_ONCE = 1 << 18
"""Bases of one batch: bounds the memory, whatever the number of windows."""

HEADS_WITH_TEMPERATURE = {"classes": "class", "segments": "segment", "language": "base"}


class Names(NamedTuple):
    """What the outputs are called."""

    classes: tuple[str, ...]
    tracks: tuple[str, ...]
    segments: tuple[str, ...]


def names_of(settings: Any) -> Names:
    return Names(settings.data.class_names, settings.data.track_names, settings.data.segment_names)


def reads_both(settings: Any, asked: bool | None) -> bool:
    """Whether the mean over both strands is told: as asked, else where training saw both."""
    if asked is not None:
        return asked
    flips = settings.data.flips
    return settings.model.strands != "one" or (settings.data.source in ON_BOTH_STRANDS if flips is None else flips)


ONE_STRAND = "read on the genome's strand alone, since training saw no other (--both-strands: the mean over both)"


def n_at_once(length: int) -> int:
    """Windows of a batch."""
    return max(BASES_AT_ONCE // length, 1)


def calibrated(model: GenomeModel, x: Tensor, *, is_both: bool = False) -> dict[str, Tensor]:
    """As `GenomeModel.forward`, with logits divided by their temperature; of `language`, logarithms of probabilities.

    Args:
        x: [n, length, 4] probabilities of the bases; gradients pass.
        is_both: the mean over both strands, where the model does not give that by itself.
    """
    if not is_both or model.settings.strands != "one":
        return _calibrated(model, x)
    given, other = _calibrated(model, x), turned_outputs(_calibrated(model, turned(x)), model.settings)
    return {name: (given[name] + other[name]) / 2 for name in given}


def _calibrated(model: GenomeModel, x: Tensor) -> dict[str, Tensor]:
    said, fitted = model(x), calibrated_heads(model.settings)
    for head, name in HEADS_WITH_TEMPERATURE.items():
        if head in said and name in fitted:
            said[head] = model.temperatures[name](said[head])
    if "language" in said:
        said["language"] = said["language"].log_softmax(-1)
    return said


def shown(model: GenomeModel, codes: Tensor) -> Tensor:
    """[..., 4] probabilities of codes, where the model lives and in its type."""
    return probabilities(codes.to(next(model.parameters()).device), model)


def unknown_shares(codes: Tensor) -> list[float]:
    """Of windows of codes [n, length], the share of letters that say nothing: N, and what lies beyond the ends."""
    return (codes == N).double().mean(1).tolist()


def fetched(sequences: Sequences, chrom: str, start: int, end: int) -> Tensor:
    """[end - start] codes, N beyond the ends of the sequence."""
    return codes_of(sequences.fetch(chrom, start, end, pads=True)).to(torch.uint8)


def log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of each class, from logits [..., n_classes]; other than the logits, it has no free constant."""
    is_own = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = logits[..., None, :].expand(*logits.shape, logits.shape[-1]).masked_fill(is_own, -torch.inf)
    return logits - others.logsumexp(-1)


def as_numbers(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def trained(run: str, device: str) -> tuple[GenomeModel, Any]:
    """The network of a run, and its settings."""
    from isometry.app import load_app
    from isometry.story import load

    loaded = load(load_app("genome"), run, device=device)
    assert isinstance(loaded.model, GenomeModel)
    return loaded.model, loaded.settings
