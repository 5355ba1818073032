"""Curricula: an easier task first, the whole task in the end, in stages on length, noise or latent size.

A run has one number, its *level* in (0, 1], which is a pure function of how far it has come. What a level means is said
by the app: its training set draws easier records (`draw(index, rng, level)`), its model uses less of itself
(`set_level(level)`), or both. Whatever is evaluated or predicted is at level 1.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import model_validator

from isometry.settings import Settings


class CurriculumSettings(Settings):
    """The stages of a run; without any the whole task is trained from the start."""

    levels: tuple[float, ...] = ()
    """Level of each stage, rising to 1, the whole task: 0.25 0.5 1. None: no curriculum."""
    begins: tuple[float, ...] = ()
    """Share of the training at which each stage begins: 0 0.3 0.6. None: stages of equal length."""
    growth: Literal["steps", "linear"] = "steps"
    """steps: a stage keeps its level; linear: it grows evenly towards the next stage's. Either way once an epoch."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels, begins = self.levels, self.begins
        if begins and len(begins) != len(levels):
            raise ValueError(f"{len(levels)} levels and {len(begins)} begins; expected one begin for each level")
        if levels and (levels[0] <= 0 or levels[-1] != 1 or any(b < a for a, b in pairwise(levels))):
            raise ValueError(f"levels are {levels}; expected rising numbers above 0 whose last is 1, the whole task")
        if begins and (begins[0] != 0 or begins[-1] >= 1 or any(b <= a for a, b in pairwise(begins))):
            raise ValueError(f"begins are {begins}; expected rising numbers from 0, below 1 (shares of the training)")
        return self


def level_at(progress: float, settings: CurriculumSettings) -> float:
    """The level in (0, 1] once `progress` in [0, 1] of the training lies behind; 1 without stages."""
    if not settings.levels:
        return 1.0
    n = len(settings.levels)
    begins = settings.begins or [i / n for i in range(n)]
    if settings.growth == "linear":
        return float(np.interp(progress, begins, settings.levels))
    return settings.levels[max(i for i in range(n) if i == 0 or progress >= begins[i])]


class Curriculum(NamedTuple):
    """A run's curriculum: the level of each of its epochs. Plain data, so that worker processes have it too."""

    settings: CurriculumSettings
    n_epochs: int

    def level(self, epoch: int) -> float:
        """Of epoch 0 … n_epochs - 1."""
        return level_at(epoch / self.n_epochs, self.settings)

    def check(self, records: Any, model: Any) -> None:
        """Raises ValueError if there are stages but neither training set nor model knows levels."""
        if self.settings.levels and not draws_by_level(records) and not has_levels(model):
            raise ValueError(
                "fit.curriculum is set, but this app has no levels: neither its training set offers "
                "draw(index, rng, level) nor its model set_level(level); leave fit.curriculum.levels empty"
            )


def draws_by_level(records: Any) -> bool:
    """Whether a data set's `draw` takes a level as its third argument."""
    draw = getattr(records, "draw", None)
    if draw is None:
        return False
    try:
        inspect.signature(draw).bind(0, None, 1.0)
    except TypeError:
        return False
    return True


def has_levels(model: Any) -> bool:
    """Whether a model can be told the level. A fresh model is at level 1; the level is no part of its weights."""
    return callable(getattr(model, "set_level", None))


@contextmanager
def at_level(model: Any, level: float, afterwards: float) -> Iterator[None]:
    """A context in which the model is at `level`; then it is at `afterwards`. Nothing happens to other models."""
    if not has_levels(model):
        yield
        return
    model.set_level(level)
    try:
        yield
    finally:
        model.set_level(afterwards)


def length_at(level: float, shortest: int, longest: int, multiple: int = 1) -> int:
    """The length, or number of latent dimensions, at a level: its share of `longest`, at least `shortest`.

    Args:
        multiple: lengths below `longest` are rounded down to a multiple of this (windows, pooled blocks).
    Raises:
        ValueError: not 0 < shortest <= longest.
    """
    if not 0 < shortest <= longest or multiple < 1:
        raise ValueError(
            f"lengths from {shortest} to {longest} by {multiple}; expected 0 < shortest <= longest, by >= 1"
        )
    # The small number: 0.3 of 10 is 3, whatever the rounding of binary fractions.
    whole = math.floor(level * longest + 1e-9) // multiple * multiple
    return longest if level >= 1 else max(shortest, whole)
