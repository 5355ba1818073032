"""How the learning rate walks through a run, and when a run that no longer improves should stop.

`rate_at` is a pure function of the step, so a resumed run needs no schedule state. What depends on validation scores
(`Plateau`, `Patience`) is a small state machine whose whole state is a dict of plain numbers.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from isometry.settings import Settings

Better = Literal["smaller", "larger"]


class ScheduleSettings(Settings):
    """The factor in (0, 1] that multiplies the base learning rate, step by step."""

    name: Literal["constant", "cosine", "wsd", "plateau"] = "cosine"
    """constant; cosine (half a wave down to the floor); wsd (warm up, stay, decay: the run can be prolonged from any
    stable checkpoint); plateau (falls when the validation score stops improving)."""

    warmup: float = Field(default=0.02, ge=0, allow_inf_nan=False)
    """Linear warm-up: below 1 a fraction of all steps, from 1 a number of steps. Adam's first steps rest on few
    gradients, so a short warm-up is cheap insurance."""

    floor: float = Field(default=0.01, ge=0, le=1)
    """The lowest factor that cosine, wsd and plateau reach."""

    decay: float = Field(default=0.2, gt=0, le=1)
    """wsd: the last fraction of the steps, over which the rate falls to the floor."""

    factor: float = Field(default=0.5, gt=0, lt=1)
    """plateau: what the rate is multiplied by when the score has not improved."""

    patience: int = Field(default=10, ge=0)
    """plateau: how many evaluations without improvement are accepted before the rate falls."""


def rate_at(step: int, n_steps: int, settings: ScheduleSettings) -> float:
    """The factor of the learning rate for one optimizer step.

    Args:
        step: index of the step about to be taken, 0 … n_steps - 1; beyond the end the last value holds.
        n_steps: optimizer steps of the whole run, at least 1.
    Returns:
        a factor in (0, 1] (0 only when the floor is 0 and the run is over). Warm-up is (step + 1) / n_warmup, so the
        first step already moves. `plateau` has only the warm-up here; `Plateau` holds the rest.
    Source: cosine: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5 without restarts; wsd: Hu et al. 2024,
        arXiv:2404.06395, with the 1 - sqrt decay of Hägele et al. 2024, arXiv:2405.18392, eq. 1.
    """
    if n_steps < 1 or step < 0:
        raise ValueError(f"step {step} of {n_steps}: a run has at least one step and steps count from 0")
    n_warmup = warmup_steps(n_steps, settings)
    if step < n_warmup:
        return (step + 1) / n_warmup
    if settings.name == "cosine":
        progress = _share(step - n_warmup, n_steps - n_warmup)
        return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.name == "wsd":
        n_decay = min(math.ceil(settings.decay * n_steps), n_steps - n_warmup)
        progress = _share(step - (n_steps - n_decay), n_decay)
        return settings.floor + (1 - settings.floor) * (1 - math.sqrt(progress))
    return 1.0


def warmup_steps(n_steps: int, settings: ScheduleSettings) -> int:
    """How many steps the warm-up takes; never more than the run has."""
    n_warmup = settings.warmup * n_steps if settings.warmup < 1 else settings.warmup
    return min(math.ceil(n_warmup), n_steps)


def _share(part: int, whole: int) -> float:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else 1.0


class Patience:
    """Counts evaluations without improvement; `update` says when it is exhausted (early stopping).

    Args:
        patience: evaluations without improvement that are accepted; the next one exhausts it.
        better: which direction of the score is an improvement.
        margin: an improvement must exceed this much, in the score's unit.
    """

    def __init__(self, patience: int, better: Better = "smaller", margin: float = 0.0):
        if patience < 0 or margin < 0:
            raise ValueError(f"patience {patience} and margin {margin} must not be negative")
        if better not in ("smaller", "larger"):
            raise ValueError(f"better is {better!r}; expected 'smaller' or 'larger'")
        self.patience, self.better, self.margin = patience, better, margin
        self.best: float | None = None
        self.n_waited = 0

    @property
    def has_improved(self) -> bool:
        """Whether the last score was the best so far."""
        return self.best is not None and self.n_waited == 0

    def update(self, score: float) -> bool:
        """Takes the next score and says whether patience is exhausted. NaN is never an improvement."""
        if self._improves(score):
            self.best, self.n_waited = score, 0
        else:
            self.n_waited += 1
        return self.n_waited > self.patience

    def _improves(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self.best is None:
            return True
        gain = self.best - score if self.better == "smaller" else score - self.best
        return gain > self.margin

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "n_waited": self.n_waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.n_waited = state["best"], state["n_waited"]


class Plateau:
    """The factor of the `plateau` schedule: falls each time the validation score has stopped improving.

    `update` returns the factor that multiplies `rate_at`; it never goes below `settings.floor`.
    """

    def __init__(self, settings: ScheduleSettings, better: Better = "smaller"):
        self.settings = settings
        self.waiting = Patience(settings.patience, better)
        self.factor = 1.0

    def update(self, score: float) -> float:
        if self.waiting.update(score):
            self.factor = max(self.factor * self.settings.factor, self.settings.floor)
            self.waiting.n_waited = 0
        return self.factor

    def state_dict(self) -> dict[str, Any]:
        return {"factor": self.factor, **self.waiting.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor = state["factor"]
        self.waiting.load_state_dict(state)
