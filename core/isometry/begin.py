"""How a network's weights begin: as its app made them, or under a remedy that the doctor knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isometry.app import App
from isometry.doctor.remedies import WHAT, apply
from isometry.doctor.subject import ScalarLoss
from isometry.doctor.treatment import treat
from isometry.objective import Objective
from isometry.order import Loader, Order, Records, to_device


def begin(app: App, settings: Any, records: Records, model: nn.Module, device: torch.device) -> str | None:
    """Change fresh weights as `settings.initialise` asks; returns what was done, in one line, or None for nothing.

    Raises:
        ValueError: the remedy does not exist for this network.
    """
    how = settings.initialise
    if how == "own":
        return None
    batch = first_batch(app, settings, records, device)
    loss = mean_loss(app.objective(settings))
    model.to(device=device, dtype=settings.precision.parameter_dtype)
    if how != "doctor":
        apply(how, model, batch, loss, settings.seed)
        return f"the weights begin as {WHAT[how]}"
    remedies = treat(model, batch, loss, seed=settings.seed).remedies
    return f"the doctor begins the weights anew: {'; '.join(remedies)}" if remedies else "the doctor changed no weight"


def first_batch(app: App, settings: Any, records: Records, device: torch.device) -> Any:
    """The batch with which training begins."""
    indices = Order.of(records, settings.fit.batch_size, settings.fit.tokens, settings.seed).batches(0)[0]
    batch = next(iter(Loader(records, app.collate, seed=settings.seed).fetch([indices])))
    return to_device(batch, device, settings.precision.parameter_dtype)


def mean_loss(objective: Objective) -> ScalarLoss:
    """What the engine minimises, as one number."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        each = objective.loss(model, batch).each
        return each.mean(dtype=torch.promote_types(each.dtype, torch.float32))

    return loss
