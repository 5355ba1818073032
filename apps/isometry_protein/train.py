"""The protein app as the engine sees it: settings, presets, and how data, model and objective come together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from isometry.app import App, Data
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry_data.checksums import sha256_of
from isometry_data.protein_records import UNKNOWN_STATE, ProteinRecord
from pydantic import PositiveInt

from isometry_protein.dataset import ProteinDataset, collate
from isometry_protein.findings import findings
from isometry_protein.model import OF_THE_WHOLE, ModelSettings, ProteinModel, names_of_values
from isometry_protein.objective import LossSettings, objective_of
from isometry_protein.predict import OWN_FORMATS, predict
from isometry_protein.sources import SourceSettings, proteins
from isometry_protein.sources import read as read_files
from isometry_protein.sources import tested as read_tested
from isometry_protein.symmetries import symmetries
from isometry_protein.together import ProteinEnsemble
from isometry_protein.whole import WholeLabels, is_table, known_to, read_whole

_log = logging.getLogger(__name__)

HIDDEN = 0.15  # share of residues that the language head guesses


class ProteinSettings(RunSettings):
    """A run of the protein app."""

    threads: PositiveInt | None = 1
    """Threads of one process on a CPU. None: torch's choice."""
    data: SourceSettings = SourceSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()


def data(settings: ProteinSettings) -> Data:
    found = proteins(settings.data, settings.model.mapping, settings.seed)
    whole = read_whole(settings.data.labels)
    train, valid, test = (_dataset(settings, records, whole) if records else None for records in found.split)
    assert train is not None
    _check_labels(train, valid, settings)
    notes = (*found.notes, *_labelled(settings.data.labels, train, valid, test))
    return Data(train, valid, test, found.checksums | _sum_of(settings.data.labels), notes)


def _sum_of(labels: Path | None) -> dict[str, str]:
    """The checksum of a file of labels, which are data as the sequences are."""
    return {} if labels is None else {"data.labels": sha256_of(labels)}


def _labelled(file: Path | None, *parts: ProteinDataset | None) -> list[str]:
    """A line with the number of proteins that a file of labels knows."""
    if file is None:
        return []
    counts = [
        f"{sum(r.name in part.values or r.name in part.kinds for r in part.records):,} of {len(part):,} {name}"
        for name, part in zip(("training", "validation", "test"), parts, strict=True)
        if part is not None
    ]
    return [f"{file}: labels of {', '.join(counts)} proteins"]


def _dataset(settings: ProteinSettings, records: list, whole: WholeLabels | None = None) -> ProteinDataset:
    is_masked = "language" in settings.model.heads and settings.model.is_bidirectional
    whole = whole or WholeLabels({}, {})
    return ProteinDataset(
        records,
        settings.model.mapping,
        HIDDEN if is_masked else 0.0,
        whole.values,
        whole.kinds,
        whole.columns,
        whole.classes,
    )


LABELS = {"ss": ("ss3", "ss8"), "rsa": ("accessibility",), "disorder": ("disorder",), "contacts": ("positions",)}
"""Of residues, by the head that learns from them."""


def _check_labels(train: ProteinDataset, valid: ProteinDataset | None, settings: ProteinSettings) -> None:
    """A head without any label would end with a loss of zero and untrained weights; the first one chooses the best."""
    heads = settings.model.heads
    for head in heads:
        if head in OF_THE_WHOLE:
            _check_whole(train, "training", head, settings.data.labels)
        _check_residues(train, "training", head)
    if valid is not None and heads[0] in OF_THE_WHOLE:
        _check_whole(valid, "validation", heads[0], settings.data.labels)
    elif valid is not None:
        _check_residues(valid, "validation", heads[0])


def _check_residues(proteins: ProteinDataset, part: str, head: str) -> None:
    wanted = LABELS.get(head, ())
    if not wanted or any(_counts(record, name) for record in proteins.records for name in wanted):
        return
    names, purpose = " or ".join(wanted), "learns from" if part == "training" else "is judged by"
    labelled = next((r for r in proteins.records if any(getattr(r, name) is not None for name in wanted)), None)
    if labelled is not None:
        raise ValueError(
            f"{labelled.label}: its mask lets none of its labels count, as in every {part} protein, so that there is "
            f"no {names}, which the head {head} {purpose}; write 1 in the mask where the labels count"
        )
    raise ValueError(
        f"{proteins.records[0].source}: no {part} protein has {names}, which the head {head} {purpose}; leave the head "
        "out, or name files that have it (structures have all)"
    )


def _counts(record: ProteinRecord, name: str) -> bool:
    """Whether a label of this name is known and counts; the mask is one of states and accessibility."""
    values = getattr(record, name)
    if values is None or name in ("disorder", "positions"):
        return values is not None
    is_known = np.array([state != UNKNOWN_STATE for state in values]) if isinstance(values, str) else ~np.isnan(values)
    return bool(is_known.any() if record.mask is None else (is_known & record.mask).any())


def _check_whole(proteins: ProteinDataset, part: str, head: str, file: Path | None) -> None:
    if file is None:
        raise ValueError(f"the head {head} needs labels of whole proteins; give --data.labels FILE, with a column name")
    kinds, values = proteins.kinds, proteins.values
    names = set(kinds) if head == "classes" else {name for name, own in values.items() if not np.isnan(own).all()}
    if not any(record.name in names for record in proteins.records):
        raise ValueError(
            f"{file}: labels of no {part} protein for the head {head}; expected names as in {proteins.records[0].label}"
        )


def tested(settings: ProteinSettings) -> tuple[ProteinDataset | None, dict[str, str]]:
    records, sums = read_tested(settings.data, settings.model.mapping, settings.seed)
    whole = known_to(settings.model, read_whole(settings.data.labels), settings.data.labels)
    return _dataset(settings, records, whole) if records else None, sums | _sum_of(settings.data.labels)


def learn(settings: ProteinSettings, data: Data) -> ProteinSettings:
    """Whether eight states are known, which numbers and classes a protein has, the numbers' means and scales."""
    train = data.train
    assert isinstance(train, ProteinDataset)
    values = np.array([train.values[r.name] for r in train.records if r.name in train.values])
    has_eight = any(record.ss8 is not None for record in train.records)
    changes: dict[str, Any] = {
        "has_eight": has_eight,
        "n_classes": len(train.class_names),
        "class_names": train.class_names,
        "n_values": 0,
    }
    if values.size:
        means, scales = np.nanmean(values, 0), np.nanstd(values, 0)
        changes |= {"n_values": values.shape[1], "value_names": train.value_names}
        changes["value_means"] = tuple(means.tolist())
        changes["value_scales"] = tuple(np.where(scales > 0, scales, 1.0).tolist())
    return settings.changed(model=changes)


@cache
def _tell(note: str) -> None:
    """Once: each member of an ensemble reads the files."""
    _log.warning(note)


def read(settings: ProteinSettings, files: Sequence[Path]) -> ProteinDataset:
    """Proteins, and of a table among the files (.csv, as `data.labels`) the labels of whole ones."""
    tables = [file for file in files if is_table(file)]
    records = _records([file for file in files if file not in tables], settings)
    return _dataset(settings, records, _labels_beside(settings.model, records, tables))


def to_predict(settings: ProteinSettings, files: Sequence[Path]) -> ProteinDataset:
    """As `read`, without labels."""
    return _dataset(settings, _records(files, settings, with_labels=False))


def _records(files: Sequence[Path], settings: ProteinSettings, *, with_labels: bool = True) -> list[ProteinRecord]:
    records, notes = read_files(files, settings.model.mapping, with_labels=with_labels)
    for note in notes:
        _tell(note)
    return records


def _labels_beside(model: ModelSettings, records: list[ProteinRecord], tables: list[Path]) -> WholeLabels:
    if not tables:
        return WholeLabels({}, {}, names_of_values(model))
    first, others = tables[0], tables[1:]
    if others:
        raise ValueError(f"{others[0]}: a second table of labels, beside {first}; write them into one")
    if not records:
        raise ValueError(f"{first}: labels without sequences; name the FASTA or structure files of its proteins, too")
    whole = known_to(model, read_whole(first), first)
    if not any(record.name in whole.values or record.name in whole.kinds for record in records):
        raise ValueError(f"{first}: labels of none of the proteins; expected names as in {records[0].label}")
    return whole


OPTIM = OptimSettings(rate=2e-3, clip=1.0)

SERIOUS = ProteinSettings(
    data=SourceSettings(source="netsurfp2", with_valid_like_test=False),
    model=ModelSettings(heads=("ss", "disorder"), width=256, n_layers=2, stem=128, dropout=0.3),
    optim=OPTIM,
    fit=FitSettings(epochs=6, tokens=8192, average=0.995),
)

PRESETS = {
    "tiny": ProteinSettings(
        model=ModelSettings(width=48, n_layers=1, embedding=24, dropout=0.0, t_max=50),
        optim=OPTIM.changed(rate=1e-2),
        fit=FitSettings(epochs=3, tokens=3000, average=0.99),
    ),
    "netsurfp2": SERIOUS,
    "language": SERIOUS.changed(model={"heads": ("language",), "dropout": 0.1}),
}
"""tiny: simulated chains; netsurfp2: secondary structure and disorder; language: the same network guesses hidden
residues, and is then what a run of the other begins with (--start)."""

APP = App(
    name="protein",
    settings=ProteinSettings,
    presets=PRESETS,
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: ProteinModel(settings.model),
    objective=lambda settings: objective_of(settings.loss, settings.model),
    read=read,
    to_predict=to_predict,
    predict=predict,
    own_formats=OWN_FORMATS,
    report=findings,
    together=ProteinEnsemble,
    tested=tested,
    symmetries=symmetries,
)

if __name__ == "__main__":
    script("protein")
