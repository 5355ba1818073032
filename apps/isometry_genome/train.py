"""The genome app as the engine sees it: settings, presets, and how data, model and objective come together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from isometry.app import App, Data
from isometry.cli import script
from isometry.curriculum import CurriculumSettings
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry.schedule import ScheduleSettings
from pydantic import PositiveInt

from isometry_genome.asked import SourceSettings, Wanted
from isometry_genome.dataset import NO_LABEL, GrammarDataset, Strands, WindowDataset, collate
from isometry_genome.files import read as read_files
from isometry_genome.findings import findings
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.objective import LossSettings, objective_of
from isometry_genome.predict import OWN_FORMATS, predict
from isometry_genome.sources import windows
from isometry_genome.symmetries import symmetries

_log = logging.getLogger(__name__)
LEAST_MEAN = 1e-3
"""Of counts, where training has none."""
N_LOOKED_AT = 64
"""Training windows, evenly spaced, from which the mean, scale and frequency of labels are learnt."""


class GenomeSettings(RunSettings):
    """A run of the genome app."""

    threads: PositiveInt | None = 1
    """Threads of one process on a CPU. None: torch's choice."""
    data: SourceSettings = SourceSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()


def wanted(model: ModelSettings) -> Wanted:
    strands = Strands(model.swap_classes, model.swap_tracks, model.swap_segments)
    return Wanted(model.heads, model.resolution, model.is_causal, strands)


def data(settings: GenomeSettings) -> Data:
    found, checksums = windows(settings.data, wanted(settings.model), settings.seed)
    train, valid, test = found.split
    _check_heads(settings, train)
    return Data(train, valid, test, checksums, found.notes)


def _check_heads(settings: GenomeSettings, train: WindowDataset | GrammarDataset) -> None:
    """A head without any label would end with a loss of zero and untrained weights."""
    names = train.facts._asdict() | {"profile": train.facts.tracks}
    for head in settings.model.heads:
        if head != "language" and not names[head]:
            raise ValueError(f"windows of the source {settings.data.source} have no labels for the head {head}")


def learn(settings: GenomeSettings, data: Data) -> GenomeSettings:
    """Names and numbers of classes and tracks, what the other strand makes of them, their scales and weights."""
    train = data.train
    assert isinstance(train, WindowDataset | GrammarDataset)
    facts, heads = train.facts, settings.model.heads
    looked_at = [train[i * len(train) // N_LOOKED_AT] for i in range(N_LOOKED_AT)]
    model: dict[str, Any] = {
        "n_classes": len(facts.classes),
        "n_tracks": len(facts.tracks),
        "n_segments": len(facts.segments),
        "n_shares": facts.n_shares,
        "swap_classes": facts.strands.classes,
        "swap_tracks": facts.strands.tracks,
        "swap_segments": facts.strands.segments,
    }
    if settings.model.pool == "positions":
        model["length"] = train.length(0)
    loss: dict[str, Any] = {"n_targets": facts.n_targets}
    if "profile" in heads:
        means, scales = _scales(np.concatenate([window.profile.numpy() for window in looked_at]))
        if (
            settings.model.profile_loss != "gaussian"
        ):  # the unit of counts: of sparse ones that of a peak, not of all bins
            means = tuple(max(*pair, LEAST_MEAN) for pair in zip(means, scales, strict=True))
        model |= {"track_means": means, "track_scales": scales}
    if "classes" in heads:
        counts = _counts(_labels(train), facts.classes)
        loss["class_weights"] = _weights(counts, facts.classes, settings.loss.class_balance)
    if "segments" in heads:
        counts = _counts(np.concatenate([window.segments.numpy() for window in looked_at]), facts.segments)
        if not counts.all() and isinstance(train, WindowDataset):  # rare ones are sought in all windows
            counts = train.segment_counts()
        loss["segment_weights"] = _weights(counts, facts.segments, settings.loss.segment_balance)
    names: dict[str, Any] = {"class_names": facts.classes, "track_names": facts.tracks, "segment_names": facts.segments}
    if isinstance(train, WindowDataset):
        names["length"] = train.reading.length
    return settings.changed(model=model, loss=loss, data=names)


def _labels(train: WindowDataset | GrammarDataset) -> np.ndarray:
    """Of all training windows; simulated ones are balanced."""
    return np.array([place.label for place in train.places] if isinstance(train, WindowDataset) else [0, 1])


def _scales(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each track; 1 for a track that is nowhere known, or constant."""
    n_known = (~np.isnan(values)).sum(0)
    sums = np.where(np.isnan(values), 0, values).sum(0, dtype=np.float64)
    means = np.where(n_known > 0, sums / np.maximum(n_known, 1), 1.0)
    squares = np.where(np.isnan(values), 0, (values - means) ** 2).sum(0)
    scales = np.sqrt(squares / np.maximum(n_known, 1))
    return tuple(means.tolist()), tuple(np.where(scales > 0, scales, 1.0).tolist())


def _counts(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.bincount(labels[labels != NO_LABEL], minlength=len(names))


def _weights(counts: np.ndarray, names: Sequence[str], balance: float) -> tuple[float, ...]:
    """Of each class, so that their mean over the labels is 1: its frequency to the power of -balance."""
    counts = counts.astype(float)
    if not counts.any():
        return ()
    if absent := [name for name, count in zip(names, counts, strict=True) if not count]:
        _log.warning("nothing that is trained on is of class %s; it cannot be learnt", ", ".join(absent))
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -balance, 0.0)
    return tuple((weights * counts.sum() / (weights @ counts)).tolist())


def read(settings: GenomeSettings, files: Sequence[Path]) -> WindowDataset:
    return read_files(settings.data, wanted(settings.model), files)


OPTIM = OptimSettings(rate=2e-3, clip=1.0)
QUICK = OptimSettings(name="muon", rate=4e-3, clip=1.0, schedule=ScheduleSettings(name="wsd", decay=0.3))

NEARER_FIRST = CurriculumSettings(levels=(0.0128, 0.064, 0.26, 1.0), begins=(0.0, 18 / 27, 22 / 27, 25 / 27))
"""At 50 kb: the first three at 0.64, 3.2 and 13 kb, whose windows cost a 64th, a 16th and a quarter of the last."""

SMALL = ModelSettings(
    heads=("classes", "profile"),
    width=64,
    stem=32,
    n_layers=2,
    n_heads=4,
    expansion=2,
    attention="cosine",
    is_gated=False,
    dropout=0.0,
    pool="centre",
)

REAL = SMALL.changed(width=128, stem=32, n_layers=4, dropout=0.1)

PRESETS = {
    "tiny": GenomeSettings(
        data=SourceSettings(distance=500),
        model=SMALL,
        loss=LossSettings(profile=8.0),
        optim=QUICK,
        fit=FitSettings(epochs=15, batch_size=16, average=0.95, evaluate_every=3),
    ),
    "longrange": GenomeSettings(
        data=SourceSettings(distance=50_000, n_train=240, spread=1.0),
        model=SMALL.changed(is_sharpened=True, is_stretched=True),
        loss=LossSettings(profile=8.0),
        optim=QUICK.changed(schedule={"decay": 0.07}),
        fit=FitSettings(epochs=27, batch_size=8, average=0.95, evaluate_every=27, curriculum=NEARER_FIRST),
    ),
    "replichore": GenomeSettings(
        data=SourceSettings(source="strand", length=100_000, n_train=480),
        model=SMALL.changed(heads=("classes",), width=32, stem=8, pool="mean", strands="equivariant"),
        optim=OPTIM.changed(rate=3e-3),
        fit=FitSettings(epochs=1, batch_size=8, average=0.9),
    ),
    "timing": GenomeSettings(
        data=SourceSettings(source="timing"),
        model=SMALL.changed(
            heads=("profile",),
            entrance="sites",
            reads="elements",
            bin=1024,
            resolution=128,
            width=32,
            stem=32,
            trunk="none",
            profile_loss="gaussian",
            strands="equivariant",
        ),
        optim=QUICK.changed(decay=0.1, schedule={"decay": 0.5}),
        fit=FitSettings(epochs=24, batch_size=1, average=0.98),
    ),
    "genes": GenomeSettings(
        data=SourceSettings(source="genes"),
        model=SMALL.changed(heads=("segments",), bin=48, width=128, strands="equivariant"),
        optim=QUICK,
        fit=FitSettings(epochs=5, batch_size=8, average=0.98),
    ),
    "promoters": GenomeSettings(
        data=SourceSettings(source="promoters", shift=2),
        model=ModelSettings(heads=("classes",), trunk="none", bin=1, width=64, pool="positions", dropout=0.6),
        loss=LossSettings(class_balance=0.0),
        optim=OPTIM.changed(decay=0.1),
        fit=FitSettings(epochs=16, batch_size=64, average=0.99, evaluate_every=16),
    ),
    "language": GenomeSettings(
        data=SourceSettings(source="timing", length=8_192, with_annotation=False),
        model=REAL.changed(heads=("language",), bin=32, strands="equivariant"),
        optim=OPTIM.changed(rate=1e-3),
        fit=FitSettings(epochs=10, batch_size=8, average=0.99),
    ),
}
"""tiny and longrange: simulated, an enhancer at 0.5 and at 50 kb; replichore: leading or lagging strand of E. coli;
timing: replication of yeast; genes: of E. coli; promoters: five folds; language: hidden bases of yeast, and then what a
run of another preset with the same bins and strands begins with (--start)."""

APP = App(
    name="genome",
    settings=GenomeSettings,
    presets=PRESETS,
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: GenomeModel(settings.model),
    objective=lambda settings: objective_of(settings.loss, settings.model),
    read=read,
    predict=predict,
    own_formats=OWN_FORMATS,
    report=findings,
    strided=lambda settings, n: settings.changed(data={"stride": n}),
    symmetries=symmetries,
)

if __name__ == "__main__":
    script("genome")
