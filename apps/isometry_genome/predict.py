"""Sequences in; what each head says of their windows out, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from isometry_genome.asked import SourceSettings
from isometry_genome.dataset import WindowDataset
from isometry_genome.model import GenomeModel
from isometry_genome.objective import probabilities

BASES_AT_ONCE = 1 << 18
"""Bases of one batch: bounds the memory, whatever the number of windows."""


class Prediction(NamedTuple):
    """What a model says of one window; None where it has no such head."""

    classes: np.ndarray | None
    """[n_classes] probabilities"""
    profile: np.ndarray | None
    """[bins, tracks] in the tracks' own unit"""
    segments: np.ndarray | None
    """[length, n_segments] probabilities"""
    bases: np.ndarray | None
    """[length, 4] probabilities of A, C, G, T"""


def predictions(model: nn.Module, codes: Sequence[Tensor]) -> Iterator[Prediction]:
    """One prediction for each window of codes [length], in order; windows of one length are read together."""
    assert isinstance(model, GenomeModel)
    model.eval()
    start = 0
    while start < len(codes):
        end = start + 1
        length = len(codes[start])
        while end < len(codes) and len(codes[end]) == length and (end + 1 - start) * length <= BASES_AT_ONCE:
            end += 1
        yield from _of_batch(model, torch.stack([codes[i] for i in range(start, end)]))
        start = end


def _of_batch(model: GenomeModel, codes: Tensor) -> Iterator[Prediction]:
    with torch.no_grad():
        said = model(probabilities(codes.to(next(model.parameters()).device), model))
        for head, name in (("classes", "class"), ("segments", "segment"), ("language", "base")):
            if head in said:
                said[head] = model.temperatures[name](said[head]).softmax(-1)
    found = {name: values.cpu().double().numpy() for name, values in said.items()}
    names = ("classes", "profile", "segments", "language")
    for row in range(len(codes)):
        yield Prediction(*(found[name][row] if name in found else None for name in names))


class _Codes(Sequence):
    """The codes of a data set's windows, fetched when they are asked for."""

    def __init__(self, windows: Any):
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: Any) -> Any:
        return self.windows[index].codes


def of_dataset(model: nn.Module, windows: Any) -> Iterator[Prediction]:
    """One prediction for each window of a data set."""
    return predictions(model, _Codes(windows))


def predict(model: nn.Module, settings: Any, windows: WindowDataset, _out: Path | None) -> list[dict[str, Any]]:
    """A row for each bin of a profile; else one for each window."""
    rows: list[dict[str, Any]] = []
    for number, found in enumerate(of_dataset(model, windows)):
        rows += _rows(number, windows, found, settings)
    return rows


def _rows(number: int, windows: WindowDataset, found: Prediction, settings: Any) -> Iterator[dict[str, Any]]:
    place, names = windows.places[number], settings.data
    start = (place.start + place.end) // 2 - windows.reading.length // 2
    whole: dict[str, Any] = {"record": number + 1, "chrom": place.chrom}
    end = _of_classes(found, names)
    if found.profile is None:
        span = {"start": place.start, "end": place.end, "strand": "-" if place.is_minus else "+"}
        yield whole | span | end | _of_bases(found, names)
        return
    size, n = windows.reading.resolution, windows.sequences.lengths[place.chrom]
    at = [(start + i * size, values) for i, values in enumerate(found.profile)]
    if place.is_minus:
        at = [(start + (len(at) - 1 - i) * size, values) for i, (_, values) in enumerate(at)]
    for first, values in sorted(at, key=lambda pair: pair[0]):
        if 0 <= first < n:
            own = dict(zip(names.track_names, values.tolist(), strict=True))
            yield whole | {"start": first, "end": min(first + size, n)} | own | end


def _of_classes(found: Prediction, names: SourceSettings) -> dict[str, Any]:
    if found.classes is None:
        return {}
    verdict = {"class": names.class_names[int(found.classes.argmax())]}
    return verdict | {f"p_{name}": float(p) for name, p in zip(names.class_names, found.classes, strict=True)}


def _of_bases(found: Prediction, names: SourceSettings) -> dict[str, Any]:
    """Shares of the window's bases by class, where there is no profile to write."""
    if found.segments is None:
        return {}
    shares = np.bincount(found.segments.argmax(1), minlength=len(names.segment_names)) / len(found.segments)
    return {f"share_{name}": float(share) for name, share in zip(names.segment_names, shares, strict=True)}
