"""Settings, presets, the record."""

from __future__ import annotations

from pathlib import Path

from isometry.app import App, Data
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry.settings import Settings

from isometry_moons.dataset import collate, read_points, simulated
from isometry_moons.model import MoonsModel, MoonsModelSettings
from isometry_moons.objective import objective
from isometry_moons.predict import predict


class MoonsDataSettings(Settings):
    n: int = 100
    n_valid: int = 300
    """0: no validation set."""
    noise: float = 0.45
    unknown: float = 0.1
    """Share of points without a label, in every set."""
    files: tuple[Path, ...] = ()


class MoonsSettings(RunSettings):
    data: MoonsDataSettings = MoonsDataSettings()
    model: MoonsModelSettings = MoonsModelSettings()
    optim: OptimSettings = OptimSettings(rate=1e-2)
    fit: FitSettings = FitSettings(epochs=10, batch_size=25, average=None)


TINY = MoonsSettings()
MEMORISE = TINY.changed(
    data={"n": 60}, model={"width": 128}, fit={"epochs": 150, "batch_size": 60, "evaluate_every": 1000}
)
"""Far too many epochs on far too few points, and the last weights are kept: overconfident."""


def data(settings: MoonsSettings) -> Data:
    of = settings.data
    train = read_points(of.files) if of.files else simulated(of.n, 1, of.noise, of.unknown)
    valid = simulated(of.n_valid, 2, of.noise, of.unknown) if of.n_valid else None
    return Data(train, valid, simulated(1000, 3, of.noise, of.unknown), checksums={"seed": "1"})


APP = App(
    name="moons",
    settings=MoonsSettings,
    presets={"tiny": TINY, "memorise": MEMORISE},
    data=data,
    learn=lambda settings, data: settings,
    collate=collate,
    model=lambda settings: MoonsModel(settings.model),
    objective=objective,
    read=lambda settings, files: read_points(files),
    predict=predict,
)

if __name__ == "__main__":
    script("moons")
