"""What a training run is made of, how it is set, and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import nn

from isometry.checkpoint import Vault
from isometry.curriculum import CurriculumSettings
from isometry.events import Event
from isometry.fleet import Fleet
from isometry.guard import GuardSettings
from isometry.objective import Objective
from isometry.optim import OptimSettings
from isometry.order import Records
from isometry.precision import PrecisionSettings
from isometry.settings import Settings


class FitSettings(Settings):
    epochs: PositiveInt = 100
    """Passes over the training set."""
    batch_size: PositiveInt = 32
    """Records of one optimizer step, over all processes and micro-batches together."""
    tokens: PositiveInt | None = None
    """Padded positions of one optimizer step in place of batch_size, for apps whose records have lengths: batches of
    similar length, many short or few long ones. None: batch_size counts."""
    accumulate: PositiveInt = 1
    """Micro-batches a process makes of its share of a batch, to save memory; the step stays the same."""
    workers: NonNegativeInt = 0
    """Processes that load data; 0 loads in the training process. Never changes a result."""
    evaluate_every: PositiveInt = 1
    """Epochs between evaluations on the validation set."""
    save_every: NonNegativeFloat = 60.0
    """Seconds between checkpoints within and across epochs; a new best is always saved."""
    patience: PositiveInt | None = None
    """Evaluations without a better score after which training stops early; none: never."""
    average: float | None = 0.999
    """Decay of the moving average of the weights, which is what is evaluated and kept; none: the raw weights."""
    curriculum: CurriculumSettings = CurriculumSettings()
    """An easier task first, for apps whose training set or model knows levels."""
    deterministic: bool = False
    """Refuse operations that are not reproducible on a GPU (slower there)."""


@dataclass(frozen=True)
class Task:
    """All that a training run is made of."""

    model: nn.Module
    objective: Objective
    train: Records
    valid: Records | None
    collate: Callable[[list[Any]], Any]
    fit: FitSettings
    optim: OptimSettings
    precision: PrecisionSettings
    guard: GuardSettings
    seed: int
    fleet: Fleet
    vault: Vault
    emit: Callable[[Event], None]
    manifest: dict[str, Any] = field(default_factory=dict)
    """What each checkpoint says about itself: app, settings, data checksums."""
    log_every: int = 10
    health_every: int = 100
    """Steps between two looks at the network's health; 0: never."""
    bookmark: Callable[[], int] = lambda: 0
    """Size of the event log, stored with a checkpoint."""


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0
    batch: int = 0
    """Batches of this epoch already seen."""
    step: int = 0
    """Optimizer steps taken."""
    best: float | None = None
    best_step: int | None = None
    is_exhausted: bool = False
    """Whether training has stopped early."""
    n_norms: int = 0
    """Steps of this epoch that the two sums run over."""
    squared_norms: float = 0.0
    """Over this epoch, for the mean squared gradient norm: what tells a stationary point."""
    losses: float = 0.0
    """Over this epoch, for the mean training loss."""
