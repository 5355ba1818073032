"""Settings, presets, the record."""

from __future__ import annotations

from pathlib import Path

from isometry.app import App, Data
from isometry.cli import script
from isometry.fit import FitSettings
from isometry.optim import OptimSettings
from isometry.run_settings import RunSettings
from isometry.settings import Settings

from isometry_wave.dataset import Points, collate, poisoned, read_points, simulated
from isometry_wave.model import WaveModel, WaveModelSettings
from isometry_wave.objective import objective
from isometry_wave.predict import predict


class WaveDataSettings(Settings):
    n: int = 200
    noise: float = 0.1
    files: tuple[Path, ...] = ()
    poison: tuple[int, ...] = ()
    """Training records whose label is made infinite."""


class WaveSettings(RunSettings):
    data: WaveDataSettings = WaveDataSettings()
    model: WaveModelSettings = WaveModelSettings()
    optim: OptimSettings = OptimSettings(rate=1e-2)
    fit: FitSettings = FitSettings(epochs=8, batch_size=16, average=0.9)


def data(settings: WaveSettings) -> Data:
    of = settings.data
    train = read_points(of.files) if of.files else simulated(of.n, 1, of.noise)
    train = poisoned(train, of.poison)
    return Data(train, simulated(50, 2, of.noise), simulated(50, 3, of.noise), checksums={"seed": "1"})


def learn(settings: WaveSettings, data: Data) -> WaveSettings:
    assert isinstance(data.train, Points)
    y = data.train.y
    return settings.changed(model={"offset": float(y[~y.isinf()].nanmean())})


APP = App(
    name="wave",
    settings=WaveSettings,
    presets={"tiny": WaveSettings()},
    data=data,
    learn=learn,
    collate=collate,
    model=lambda settings: WaveModel(settings.model),
    objective=objective,
    read=lambda settings, files: read_points(files),
    predict=predict,
)

if __name__ == "__main__":
    script("wave")
