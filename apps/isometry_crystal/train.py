"""The crystal app as the engine sees it: settings, presets, and how data, model and objective come together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase.data import chemical_symbols
from isometry.app import App, Data
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry.schedule import ScheduleSettings
from isometry_data.crystals import LABELS, read_crystals
from pydantic import PositiveInt

from isometry_crystal.dataset import CrystalDataset, Split, collate, elements_of, statistics
from isometry_crystal.findings import findings
from isometry_crystal.model import CrystalModel, ModelSettings
from isometry_crystal.objective import LossSettings, objective_of
from isometry_crystal.predict import predict
from isometry_crystal.sources import SourceSettings, notes, structures
from isometry_crystal.symmetries import symmetries


class CrystalSettings(RunSettings):
    """A run of the crystal app."""

    threads: PositiveInt | None = 1
    """Threads of one process on a CPU; the matrices of small cells are too small to share. None: torch's choice."""
    data: SourceSettings = SourceSettings()
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()


def data(settings: CrystalSettings) -> Data:
    split, checksums = structures(settings.data, settings.seed)
    crystals = (CrystalDataset(records, settings.model.cutoff) for records in split)
    train, valid, test = (each if len(each) else None for each in crystals)
    if train is None:
        raise ValueError("no training structure is left; check data.train and data.valid_fraction")
    _check_labels(split, settings.loss)
    _check_elements(split)
    return Data(train, valid, test, checksums, notes(split))


def _check_labels(split: Split, loss: LossSettings) -> None:
    """Training on nothing would end with a loss of zero and an untrained model."""
    weighted = [name for name in LABELS if getattr(loss, name) > 0]
    if not any(getattr(record, name) is not None for record in split.train for name in weighted):
        raise ValueError(
            f"{split.train[0].source}: no training structure has any of {', '.join(weighted)}; expected them "
            "under these names, or as REF_energy, REF_forces, REF_stress, in the file"
        )


def _check_elements(split: Split) -> None:
    """An element that training never shows would end the run only when it is evaluated."""
    known = set(elements_of(split.train))
    for record in (*split.valid, *split.test):
        if unknown := set(record.numbers.tolist()) - known:
            raise ValueError(
                f"{record.label}: holds atomic numbers {sorted(unknown)}, which no training structure holds"
            )


def learn(settings: CrystalSettings, data: Data) -> CrystalSettings:
    """Energy offsets, energy scale and neighbour counts come from the training set and stay with the checkpoint."""
    assert isinstance(data.train, CrystalDataset)
    return settings.changed(model=statistics(data.train))


def read(settings: CrystalSettings, files: Sequence[Path]) -> CrystalDataset:
    records = [record for file in files for record in read_crystals(file)]
    for record in records:
        if unknown := set(record.numbers.tolist()) - set(settings.model.elements):
            known = ", ".join(chemical_symbols[z] for z in settings.model.elements)
            found = ", ".join(chemical_symbols[z] for z in sorted(unknown))
            raise ValueError(f"{record.label}: holds {found}; this model knows {known}")
    return CrystalDataset(records, settings.model.cutoff)


# Adam with a fast second moment follows the wide range of force errors; huber losses keep liquids from ruling them.
OPTIM = OptimSettings(name="adam", rate=5e-3, betas=(0.9, 0.99), schedule=ScheduleSettings(floor=0.001))

SMALL = ModelSettings(cutoff=4.5, channels=16, message_channels=8, readout=16)

PRESETS = {
    "tiny": CrystalSettings(
        model=SMALL,
        loss=LossSettings(stress=1.0),
        optim=OPTIM,
        fit=FitSettings(epochs=30, batch_size=8, average=0.99, evaluate_every=3),
    ),
    "silicon": CrystalSettings(
        loss=LossSettings(stress=1.0),
        optim=OPTIM,
        fit=FitSettings(epochs=400, batch_size=8, average=0.999, evaluate_every=5),
    ),
    "mlearn": CrystalSettings(
        data=SourceSettings(source="mlearn"),
        optim=OPTIM,
        fit=FitSettings(epochs=250, batch_size=4, average=0.999, evaluate_every=5),
    ),
}

APP = App(
    name="crystal",
    settings=CrystalSettings,
    presets=PRESETS,
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: CrystalModel(settings.model),
    objective=lambda settings: objective_of(settings.loss),
    read=read,
    predict=predict,
    own_formats=(".xyz", ".extxyz"),
    report=findings,
    symmetries=symmetries,
)

if __name__ == "__main__":
    script("crystal")
