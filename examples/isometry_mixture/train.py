"""The mixture app as the engine sees it: settings, presets, and how data, model and objective come together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isometry.app import App, Data, Findings
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry.schedule import ScheduleSettings
from pydantic import Field, PositiveInt

from isometry_mixture.dataset import NoiseSettings, Pairs, TrainingPairs, collate, read_seeds
from isometry_mixture.model import MixtureModel, MixtureModelSettings
from isometry_mixture.objective import objective_of
from isometry_mixture.predict import predict
from isometry_mixture.ring import RingSettings

FIRST_OF_SPLIT = {"train": 0, "valid": 1 << 30, "test": 1 << 31}  # seeds: no number is in two sets


class MixtureSettings(RunSettings):
    """A run of the mixture app."""

    threads: PositiveInt | None = 1
    """Threads of one process on a CPU; the matrices are too small to share. None: torch's choice."""
    ring: RingSettings = RingSettings()
    noise: NoiseSettings = NoiseSettings()
    model: MixtureModelSettings = MixtureModelSettings()
    n_train: PositiveInt = 2048
    """Real points of an epoch."""
    n_score: int = Field(default=2500, ge=4)
    """Samples that are made for validation, and again for the test."""


def data(settings: MixtureSettings) -> Data:
    def pairs(kind: type[Pairs], split: str, n: int) -> Pairs:
        first = FIRST_OF_SPLIT[split]
        return kind(settings.ring, settings.noise, range(first, first + n))

    sets = [pairs(TrainingPairs, "train", settings.n_train)]
    sets += [pairs(Pairs, split, settings.n_score) for split in ("valid", "test")]
    return Data(*sets, checksums={"density": settings.ring.model_dump_json()})


def learn(settings: MixtureSettings, data: Data) -> MixtureSettings:
    assert isinstance(data.train, Pairs)
    return settings.changed(model={"latent": settings.noise.size, "scale": float((data.train.points**2).mean() ** 0.5)})


def read(settings: MixtureSettings, files: Sequence[Path]) -> Pairs:
    return Pairs(settings.ring, settings.noise, read_seeds(files))


def report(model: Any, settings: MixtureSettings, data: Data) -> Findings:
    from isometry_mixture.findings import findings

    assert isinstance(data.test, Pairs)
    return findings(model, settings, data.test)


# The rate is high on purpose: at half of it the plain players touch every mode, though with few good samples.
OPTIM = OptimSettings(name="adam", rate=2e-3, betas=(0.5, 0.9), schedule=ScheduleSettings(name="constant"))
FIT = FitSettings(epochs=125, batch_size=128, average=0.99, evaluate_every=25)

PLAIN = MixtureSettings(model=MixtureModelSettings(activation="relu"), optim=OPTIM, fit=FIT)
STEADIED = MixtureSettings(
    model=MixtureModelSettings(activation="leaky_relu", bound=20.0),
    noise=NoiseSettings(smallest=2),
    optim=OPTIM,
    fit=FIT.changed(curriculum={"levels": (0.125, 0.5, 1.0), "begins": (0.0, 0.25, 0.5)}),
)
FADING = {"levels": (0.05, 1.0), "begins": (0.0, 0.75), "growth": "linear"}

PRESETS = {
    "tiny": STEADIED.changed(fit={"epochs": 60}),
    "plain": PLAIN,
    "staged": PLAIN.changed(noise={"blur": 2.0}, fit={"curriculum": FADING}),
    "steadied": STEADIED,
}

APP = App(
    name="mixture",
    settings=MixtureSettings,
    presets=PRESETS,
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: MixtureModel(settings.model),
    objective=lambda settings: objective_of(settings.ring),
    read=read,
    predict=predict,
    report=report,
)

if __name__ == "__main__":
    script("mixture")
