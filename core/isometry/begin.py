"""How a network's weights begin: as its app made them, or under a remedy that the doctor knows."""

from __future__ import annotations

from typing import Literal

from isometry.doctor.remedies import WHAT, Remedy, apply
from isometry.doctor.treatment import treat
from isometry.first import at_first_level, first_of, mean_loss
from isometry.task import Task


def begin(task: Task, how: Remedy | Literal["own", "doctor"]) -> str | None:
    """Change fresh weights as the setting `initialise` asks; returns what was done, in one line, or None for nothing.

    Raises:
        ValueError: the remedy does not exist for this network.
    """
    if how == "own":
        return None
    batch, loss = first_of(task).batch, mean_loss(task.objective)
    task.model.to(device=task.fleet.device, dtype=task.precision.parameter_dtype)
    with at_first_level(task):
        if how != "doctor":
            apply(how, task.model, batch, loss, task.seed)
            return f"the weights begin as {WHAT[how]}"
        remedies = treat(task.model, batch, loss, seed=task.seed).remedies
    return f"the doctor begins the weights anew: {'; '.join(remedies)}" if remedies else "the doctor changed no weight"
