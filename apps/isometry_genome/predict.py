"""Sequences in; what each head says of their windows out, as a table or in the field's own formats."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry_data.genomes import around
from isometry_data.intervals import Interval, check_intervals
from torch import Tensor, nn

from isometry_genome import gene_calls
from isometry_genome.asked import context_of
from isometry_genome.dataset import Place, Sequences, Strands, WindowDataset
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
from isometry_genome.scan import Slide, batches, on_strand, slides, strands_of, track_names, tracks
from isometry_genome.windows import Stretch, plan_of, spoken, stretches

_log = logging.getLogger(__name__)

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

    classes: a row for each window, as wide as the model's context about the middle of an interval, or a stride apart
    along whole sequences; profile: for each bin, segments: for each gene, or where genes come in pieces for each run of
    bases of one class, of intervals or whole sequences, however long they are.
    """
    assert isinstance(model, GenomeModel)
    kind = _kind(settings.model.heads, out)
    names, lengths = names_of(settings), windows.sequences.lengths
    if kind == "classes" and windows.are_tiles:
        return _whole(model, settings, windows, out)
    if kind == "classes":
        if out is not None and out.suffix in SIGNALS:
            raise ValueError(
                f"{out}: of classes, tracks are of whole sequences; leave the BED out, or choose .bed or .csv"
            )
        _tell_stride(settings)
        found = zip(windows.places, of_dataset(model, windows), strict=True)
        rows = [_row(number, *own, windows, names) for number, own in enumerate(found, start=1)]
        if out is not None:
            write_verdicts(out, rows, lengths)
        return rows
    _tell_stride(settings)
    places = _asked(windows)
    plan = plan_of(context_of(settings.data), settings.model)
    tell_reach(model, places, plan)
    if out is not None and out.suffix in SIGNALS:
        check_signals(out)
        parts = stretches(model, windows.sequences, _sorted(places, windows), plan)
        return write_signals(out, parts, names.tracks, settings.model.resolution, lengths)
    parts = stretches(model, windows.sequences, places, plan)
    if kind == "segments" and names.segments == CLASSES:
        return _genes(gene_calls.called_along(parts, windows.sequences), out, windows.sequences)
    if out is not None and out.suffix in FEATURES:
        raise ValueError(f"{out}: this format is for genes in one piece, which this model does not tell; choose .bed")
    if out is not None:
        return write_runs(out, parts, names.segments, lengths)
    return list(_bins(parts, names.tracks, settings.model.resolution) if kind == "profile" else _runs(parts, names))


def _tell_stride(settings: Any) -> None:
    """Where nothing is read a stride apart, a note that one was asked for in vain."""
    if settings.data.stride is not None:
        _log.warning(
            "a stride of %d changes nothing here: it is that of classes of whole sequences", settings.data.stride
        )


def _kind(heads: Sequence[str], out: Path | None) -> str:
    """The head that is told. Raises ValueError where the model has none that fits."""
    if out is None:
        wanted = [head for head in heads if head != "language"]
        what = "a prediction of windows"
    else:
        of_bases = ["segments"] if out.suffix in FEATURES else ["segments", "classes"]
        wanted = ["profile", "classes"] if out.suffix in SIGNALS else of_bases
        what = f"{out}: this format"
    for head in wanted:
        if head in heads:
            return head
    has = ", ".join(heads)
    raise ValueError(
        f"{what} needs a head {' or '.join(wanted or ['classes'])}; this model has {has}; {_advice(heads)}"
    )


def _advice(heads: Sequence[str]) -> str:
    if "language" in heads:
        return "`isometry variants` and `isometry mutagenesis` ask such a model"
    of_heads = {".bed": ("classes", "segments"), ".bedgraph": ("classes", "profile")}
    endings = [ending for ending, own in of_heads.items() if any(head in own for head in heads)]
    return f"choose {', '.join(endings)} or .csv"


def _asked(windows: WindowDataset) -> Sequence[Place]:
    """Intervals, or where none were given whole sequences."""
    if not windows.are_tiles:
        return windows.places
    return [Place(name, 0, length) for name, length in windows.sequences.lengths.items()]


def _sorted(places: Sequence[Place], windows: WindowDataset) -> list[Place]:
    """In the order of the genome, those across the origin of a circle in two. Raises ValueError where a base would have
    two values."""
    lengths = windows.sequences.lengths
    places = [p._replace(start=a, end=b) for p in places for a, b in around(p.start, p.end, lengths[p.chrom])]
    intervals = [Interval(p.chrom, p.start, p.end, source=p.source) for p in places]
    check_intervals(intervals, lengths, is_disjoint=True)
    order = {name: number for number, name in enumerate(windows.sequences.names)}
    return sorted(places, key=lambda place: (order[place.chrom], place.start))


def _whole(model: GenomeModel, settings: Any, windows: WindowDataset, out: Path | None) -> Rows:
    """Classes along whole sequences, on both strands where the model reads one."""
    sequences, names, strands = windows.sequences, names_of(settings), strands_of(settings)
    along = slides(sequences, settings)
    if out is not None and out.suffix in SIGNALS:
        check_signals(out)
        told = track_names(names.classes, strands)
        return write_signals(out, tracks(model, sequences, along, strands), told, along[0].stride, sequences.lengths)
    rows = _slid(model, windows, along, names, strands)
    return list(rows) if out is None else write_verdicts(out, rows, sequences.lengths)


def _slid(
    model: GenomeModel, windows: WindowDataset, along: Sequence[Slide], names: Names, strands: Sequence[bool]
) -> Iterator[dict[str, Any]]:
    """A row for each window and strand, by position."""
    record = count(1)
    for slide in along:
        for numbers, codes in batches(windows.sequences, slide, range(slide.n_windows)):
            said = [list(_of_batch(model, on_strand(codes, is_minus))) for is_minus in strands]
            for number, *found in zip(numbers, *said, strict=True):
                for is_minus, own in zip(strands, found, strict=True):
                    yield _row(next(record), slide.place(number, is_minus=is_minus), own, windows, names)


def _row(record: int, place: Place, found: Prediction, windows: WindowDataset, names: Names) -> dict[str, Any]:
    assert found.classes is not None
    row: dict[str, Any] = {"record": record, "chrom": place.chrom, "start": place.start, "end": place.end}
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


def _genes(found: Iterator[gene_calls.Called], out: Path | None, sequences: Sequences) -> Rows:
    if out is not None:
        return (write_features if out.suffix in FEATURES else write_genes)(out, found, sequences)
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
