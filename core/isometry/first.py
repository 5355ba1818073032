"""What a run begins with: its first micro-batch, drawn and understood at the first level of its curriculum.

Whoever looks at a network before its first step looks at this: the doctor, remedies, the loss scale, the range test.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from isometry.curriculum import Curriculum, at_level
from isometry.objective import Objective
from isometry.order import Loader, Order, share, to_device

if TYPE_CHECKING:
    from isometry.task import Task


class First(NamedTuple):
    """A micro-batch, on the device."""

    batch: Any
    weight: float
    """Of its mean loss in a step: its records, times the processes, over those of the global batch."""


def first_of(task: Task, world: int = 1) -> First:
    """The first micro-batch of the lead among `world` processes; with 1 it is the same however many there will be."""
    of = task.fit
    indices = Order.of(task.train, of.batch_size, of.tokens, task.seed).batches(0)[0]
    part = share(indices, 0, world, of.accumulate)[0]
    loader = Loader(task.train, task.collate, seed=task.seed, curriculum=Curriculum(of.curriculum, of.epochs))
    batch = to_device(next(iter(loader.fetch([part]))), task.fleet.device, task.precision.parameter_dtype)
    return First(batch, len(part) * world / len(indices))


def at_first_level(task: Task) -> AbstractContextManager[None]:
    """A context in which the task's model is at the level of the first epoch."""
    return at_level(task.model, Curriculum(task.fit.curriculum, task.fit.epochs).level(0), afterwards=1.0)


def mean_loss(objective: Objective) -> Callable[[nn.Module, Any], Tensor]:
    """What the engine minimises, as one number."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        each = objective.loss(model, batch).each
        return each.mean(dtype=torch.promote_types(each.dtype, torch.float32))

    return loss
