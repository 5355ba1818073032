"""The settings that every run has, whatever its app; an app's settings class adds sections of its own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from isometry.fit import FitSettings
from isometry.fleet import FleetSettings
from isometry.guard import GuardSettings
from isometry.optim import OptimSettings
from isometry.precision import PrecisionSettings
from isometry.settings import Settings

WITHOUT_EFFECT = ("device", "fleet", "log", "fit.workers", "fit.save_every")
"""Settings that may change when a run goes on. Another device or number of processes changes the last digits, and a
network that draws at random (dropout) then draws other numbers; the rest changes nothing."""


class LogSettings(Settings):
    every: PositiveInt = 10
    """Steps between two lines of the log."""
    health: NonNegativeInt = 100
    """Steps between two looks at the network's health (dead units, gradients, updates by layer); 0: never."""
    tensorboard: bool = False
    """Write TensorBoard event files beside the log."""


class RunSettings(Settings):
    seed: NonNegativeInt = 0
    """Of initialisation, order and every random draw."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:<n> or mps; auto takes a GPU where there is one."""
    threads: PositiveInt | None = None
    """Threads of one process on a CPU; small networks are fastest with 1. None: as many as torch takes."""
    initialise: Literal["own", "orthogonal", "critical", "lsuv", "doctor"] = "own"
    """How weights begin: as the app makes them, under a remedy, or under the one after which the doctor finds least."""
    start: str | None = None
    """A run or checkpoint whose weights to begin with where names and shapes agree (fine-tuning), in place of
    initialise. None: fresh weights."""
    optim: OptimSettings = OptimSettings()
    fit: FitSettings = FitSettings()
    precision: PrecisionSettings = PrecisionSettings()
    guard: GuardSettings = GuardSettings()
    fleet: FleetSettings = FleetSettings()
    log: LogSettings = LogSettings()


def that_matter(settings: RunSettings) -> dict[str, Any]:
    """The settings as plain data, without those that do not change what a run computes."""
    values = settings.model_dump(mode="json")
    for key in WITHOUT_EFFECT:
        *sections, last = key.split(".")
        below = values
        for section in sections:
            below = below[section]
        below.pop(last)
    return values
