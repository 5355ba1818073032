"""A visit to an app: its network as training begins with it, its first training batch, its loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from isometry.app import App
from isometry.curriculum import CurriculumSettings
from isometry.doctor.examination import Examination, examine
from isometry.doctor.subject import ScalarLoss
from isometry.doctor.treatment import Treatment, treat
from isometry.first import at_first_level, first_of, mean_loss
from isometry.fleet import on_threads
from isometry.story import load, prepare, trial_of
from isometry.task import Task


class Patient(NamedTuple):
    model: nn.Module
    batch: Any
    loss: ScalarLoss
    settings: Any


def examine_app(app: App, settings: Any, checkpoint: str | None = None) -> Examination:
    """Examine an app's network on the first batch of its training.

    Args:
        checkpoint: a run or checkpoint whose weights to examine, as `isometry predict` takes it; its own settings then
            count, and not `settings`. None: fresh weights.
    """
    with visited(app, settings, checkpoint) as patient:
        return examine(
            patient.model,
            patient.batch,
            patient.loss,
            symmetries=app.symmetries(patient.settings),
            optim=patient.settings.optim,
            seed=patient.settings.seed,
        )


def treat_app(app: App, settings: Any) -> Treatment:
    """Try the safe remedies on an app's fresh network."""
    with visited(app, settings) as patient:
        symmetries = app.symmetries(patient.settings)
        return treat(patient.model, patient.batch, patient.loss, symmetries=symmetries, seed=patient.settings.seed)


@contextmanager
def visited(app: App, settings: Any, checkpoint: str | None = None) -> Iterator[Patient]:
    """Fresh weights at the level and on the micro-batch with which training begins, trained ones on the whole task.

    The threads that the settings ask for hold for the visit alone.
    """
    with on_threads(settings.threads):
        settings, task = _case(app, settings, checkpoint)
        model = task.model.to(device=task.fleet.device, dtype=task.precision.parameter_dtype)
        with at_first_level(task):
            yield Patient(model, first_of(task).batch, mean_loss(task.objective), settings)


def _case(app: App, settings: Any, checkpoint: str | None) -> tuple[Any, Task]:
    if checkpoint is None:
        prepared = prepare(app, settings)
        return prepared.settings, trial_of(app, prepared)
    loaded = load(app, checkpoint, device=settings.device)
    whole = loaded.settings.changed(device=settings.device, fit={"curriculum": CurriculumSettings()})
    prepared = prepare(app, whole)._replace(model=loaded.model)
    return loaded.settings, trial_of(app, prepared)
