"""What is minimised, what is reported, and what better means: the form in which an app says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn


class Loss(NamedTuple):
    """A batch's losses, one number per record.

    The engine minimises their mean over the global batch (all processes, all micro-batches). Kept apart per record,
    they give the same run for any number of processes, and a non-finite one names its record.
    """

    each: Tensor
    """[n_records] what is minimised; a record without labels contributes 0."""
    parts: dict[str, Tensor] = {}  # noqa: RUF012 - a NamedTuple's default, never changed
    """[n_records] each: named contributions for the log, detached."""


class Labelled(NamedTuple):
    """What a classifying head says, and the truth."""

    logits: Tensor
    """[n, n_classes]"""
    labels: Tensor
    """[n] integers; -1 where the truth is not known."""


@dataclass(frozen=True)
class Objective:
    """An app's loss and scores, on batches of its own form."""

    loss: Callable[[nn.Module, Any], Loss]
    """`loss(model, batch)`; calls the model once."""
    measure: Callable[[nn.Module, Any], dict[str, Tensor]]
    """`measure(model, batch)` -> named rows, [n_records, ...] each; without gradients, unless it asks."""
    score: Callable[[dict[str, np.ndarray]], dict[str, float]]
    """All rows of a data set -> named scores."""
    decides: str
    """The score by which the best weights are chosen."""
    better: Literal["smaller", "larger"] = "smaller"
    classes: Callable[[nn.Module, Any], dict[str, Labelled]] | None = None
    """`classes(model, batch)`: logits and labels of each head that classifies, by the name of its `Temperature` module
    in the model; by these the head is calibrated once training has ended."""
