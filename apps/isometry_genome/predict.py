"""Sequences in; what each head says of their windows out, as a table or in the field's own formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry_data.intervals import Interval, check_intervals
from torch import Tensor, nn

from isometry_genome import gene_calls
from isometry_genome.asked import context_of
from isometry_genome.dataset import Place, Strands, WindowDataset
from isometry_genome.formats import (
    FEATURES,
    SIGNALS,
    check_signals,
    write_features,
    write_genes,
    write_runs,
    write_signals,
    write_verdicts,
)
from isometry_genome.genes import CLASSES
from isometry_genome.model import GenomeModel
from isometry_genome.reach import tell_reach
from isometry_genome.readout import Names, as_numbers, n_at_once, names_of, unknown_shares
from isometry_genome.runs import runs
from isometry_genome.windows import Stretch, plan_of, spoken, stretches

OWN_FORMATS = (".bed", *FEATURES, *SIGNALS)

Rows = list[dict[str, Any]]


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
    unknown: float
    """Share of the window's letters that say nothing."""


def predictions(model: nn.Module, codes: Sequence[Tensor]) -> Iterator[Prediction]:
    """One prediction for each window of codes [length], in order; windows of one length are read together."""
    assert isinstance(model, GenomeModel)
    start = 0
    while start < len(codes):
        batch = [codes[start]]
        most = n_at_once(len(batch[0]))
        while start + len(batch) < len(codes) and len(batch) < most:
            following = codes[start + len(batch)]
            if len(following) != len(batch[0]):
                break
            batch.append(following)
        yield from _of_batch(model, torch.stack(batch))
        start += len(batch)


def _of_batch(model: GenomeModel, codes: Tensor) -> Iterator[Prediction]:
    found = {name: as_numbers(values) for name, values in spoken(model, codes).items()}
    for row, unknown in enumerate(unknown_shares(codes)):
        own = {name: values[row] for name, values in found.items()}
        yield Prediction(own.get("classes"), own.get("profile"), own.get("segments"), own.get("language"), unknown)


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


def predict(model: nn.Module, settings: Any, windows: WindowDataset, out: Path | None) -> Rows:
    """What the first head says, or the head whose format `out` is; in that case a summary.

    classes: a row for each window, as wide as the model's context about the middle of an interval; profile: for each
    bin, segments: for each gene, or where genes come in pieces for each run of bases of one class, of intervals or
    whole sequences, however long they are.
    """
    assert isinstance(model, GenomeModel)
    kind = _kind(settings.model.heads, out)
    names = names_of(settings)
    if kind == "classes":
        ends = windows.sequences.lengths if windows.are_tiles else {}
        rows = [_row(number, found, windows, names, ends) for number, found in enumerate(of_dataset(model, windows))]
        return rows if out is None else write_verdicts(out, rows)
    places = _asked(windows)
    plan = plan_of(context_of(settings.data), settings.model)
    tell_reach(model, places, plan)
    if out is not None and out.suffix in SIGNALS:
        check_signals(out)
        places = _sorted(places, windows)
        parts = stretches(model, windows.sequences, places, plan)
        return write_signals(out, parts, names.tracks, settings.model.resolution, windows.sequences.lengths)
    parts = stretches(model, windows.sequences, places, plan)
    if kind == "segments" and names.segments == CLASSES:
        return _genes(gene_calls.called_along(parts, windows.sequences), out, windows.sequences.lengths)
    if out is not None and out.suffix in FEATURES:
        raise ValueError(f"{out}: this format is for genes in one piece, which this model does not tell; choose .bed")
    if out is not None:
        return write_runs(out, parts, names.segments)
    return list(_bins(parts, names.tracks, settings.model.resolution) if kind == "profile" else _runs(parts, names))


def _kind(heads: Sequence[str], out: Path | None) -> str:
    """The head that is told. Raises ValueError where the model has none that fits."""
    if out is None:
        wanted = [head for head in heads if head != "language"]
        what = "a prediction of windows"
    else:
        of_bases = ["segments"] if out.suffix in FEATURES else ["segments", "classes"]
        wanted = ["profile"] if out.suffix in SIGNALS else of_bases
        what = f"{out}: this format"
    for head in wanted:
        if head in heads:
            return head
    has = ", ".join(heads)
    advice = "; `isometry variants` and `isometry mutagenesis` ask such a model" if "language" in heads else ""
    raise ValueError(f"{what} needs a head {' or '.join(wanted or ['classes'])}; this model has {has}{advice}")


def _asked(windows: WindowDataset) -> list[Place]:
    """Intervals, or where none were given whole sequences."""
    if not windows.are_tiles:
        return windows.places
    return [Place(name, 0, length) for name, length in windows.sequences.lengths.items()]


def _sorted(places: list[Place], windows: WindowDataset) -> list[Place]:
    """In the order of the genome. Raises ValueError where a base would have two values."""
    intervals = [Interval(p.chrom, p.start, p.end, source=p.source) for p in places]
    check_intervals(intervals, windows.sequences.lengths, is_disjoint=True)
    order = {name: number for number, name in enumerate(windows.sequences.names)}
    return sorted(places, key=lambda place: (order[place.chrom], place.start))


def _row(
    number: int, found: Prediction, windows: WindowDataset, names: Names, ends: Mapping[str, int]
) -> dict[str, Any]:
    """`ends`: of sequences beyond which windows reach that nobody asked for."""
    place = windows.places[number]
    assert found.classes is not None
    end = min(place.end, ends.get(place.chrom, place.end))
    row: dict[str, Any] = {"record": number + 1, "chrom": place.chrom, "start": place.start, "end": end}
    row |= {"strand": "-" if place.is_minus else "+", "class": names.classes[int(found.classes.argmax())]}
    row |= {f"p_{name}": float(p) for name, p in zip(names.classes, found.classes, strict=True)}
    strands = windows.facts.strands if place.is_minus else Strands()
    if found.profile is not None:
        row |= _means("mean", names.tracks, found.profile, strands.tracks)
    if found.segments is not None:
        row |= _means("share", names.segments, found.segments, strands.segments)
    return row | {"unknown": found.unknown}


def _means(what: str, names: Sequence[str], said: np.ndarray, swap: Sequence[int]) -> dict[str, float]:
    """Of [n, outputs] in a window; `swap`: outputs are told as along the sequence, whatever the window's strand."""
    means = said.mean(0)[list(swap)] if swap else said.mean(0)
    return {f"{what}_{name}": float(value) for name, value in zip(names, means, strict=True)}


def _genes(found: Iterator[gene_calls.Called], out: Path | None, lengths: Mapping[str, int]) -> Rows:
    if out is not None:
        return write_features(out, found, lengths) if out.suffix in FEATURES else write_genes(out, found)
    return [
        {"record": own.record, "chrom": own.chrom, "start": call.gene.start, "end": call.gene.end}
        | {"strand": call.strand, "probability": call.probability, "evidence": call.evidence}
        for own in found
        for call in own.calls
    ]


def _bins(parts: Iterator[Stretch], names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        assert part.profile is not None
        for number, values in enumerate(part.profile):
            start = part.start + number * size
            at = {"record": part.record, "chrom": part.chrom, "start": start, "end": min(start + size, part.end)}
            told = (None if np.isnan(value) else float(value) for value in values)
            yield at | dict(zip(names, told, strict=True)) | {"unknown": part.unknown}


def _runs(parts: Iterator[Stretch], names: Names) -> Iterator[dict[str, Any]]:
    for run in runs(parts):
        row = run._asdict()
        yield row | {"kind": names.segments[run.kind]}
