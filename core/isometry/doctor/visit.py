"""A visit to an app: its network as training begins with it, its first training batch, its loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from isometry.app import App
from isometry.begin import first_batch, mean_loss
from isometry.doctor.examination import Examination, examine
from isometry.doctor.subject import ScalarLoss
from isometry.doctor.treatment import Treatment, treat
from isometry.fleet import choose_device
from isometry.story import load, prepare


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
        optim = patient.settings.optim
        is_plain = optim.name == "sgd" and not getattr(optim, "momentum", 0.0)
        return examine(
            patient.model,
            patient.batch,
            patient.loss,
            symmetries=app.symmetries(patient.settings),
            rate=optim.rate if is_plain else None,
            seed=patient.settings.seed,
        )


def treat_app(app: App, settings: Any) -> Treatment:
    """Try the safe remedies on an app's fresh network."""
    with visited(app, settings) as patient:
        symmetries = app.symmetries(patient.settings)
        return treat(patient.model, patient.batch, patient.loss, symmetries=symmetries, seed=patient.settings.seed)


@contextmanager
def visited(app: App, settings: Any, checkpoint: str | None = None) -> Iterator[Patient]:
    """The threads that the settings ask for hold for the visit alone."""
    threads = torch.get_num_threads()
    try:
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        yield _patient(app, settings, checkpoint)
    finally:
        torch.set_num_threads(threads)


def _patient(app: App, settings: Any, checkpoint: str | None) -> Patient:
    device = choose_device(settings.device)
    if checkpoint is not None:
        loaded = load(app, checkpoint, device=settings.device)
        prepared = prepare(app, loaded.settings)._replace(model=loaded.model)
    else:
        prepared = prepare(app, settings)
    model = prepared.model.to(device=device, dtype=prepared.settings.precision.parameter_dtype)
    batch = first_batch(app, prepared.settings, prepared.data.train, device)
    return Patient(model, batch, mean_loss(prepared.objective), prepared.settings)
