"""The learning-rate range test: one short training run in which the rate rises from nothing to divergence.

    found = rate_range(task)
    found.suggestion

The app's own network, optimizer, clipping, order and batch size, one step per rate. Where the loss falls fastest the
steps are right, where it turns up they are too long. Source: Smith 2017, arXiv:1506.01186, section 3.3; the rise is
exponential. Unlike there, each batch's loss is compared with that of the untrained network on the same batch: batches
differ more from each other than one step changes them, and without the comparison their noise decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isometry.curriculum import has_levels
from isometry.doctor.curvature import measure_curvature
from isometry.doctor.still import held_still
from isometry.doctor.subject import Subject
from isometry.first import at_first_level, first_of, mean_loss
from isometry.fit import Fit
from isometry.fleet import on_threads
from isometry.optim import set_rate
from isometry.start import choose_scale
from isometry.step import MicroBatch
from isometry.story import prepare, trial_of
from isometry.task import Task

if TYPE_CHECKING:
    from isometry.app import App

LOWEST, HIGHEST, N_STEPS = 1e-6, 10.0, 100
SMOOTHING = 2.0  # steps: standard deviation of the weights with which neighbouring losses are averaged
MEMORY = 0.7  # of the running mean by which the end is noticed
DIVERGED = 4.0  # times the loss's own scale above its best
ROUNDING = 1e-6  # of the loss: what falls less does not fall
CAUTION = 0.5  # what serves a hundred steps is bold for a whole run


@dataclass(frozen=True)
class RateRange:
    optimizer: str
    rates: list[float]
    losses: list[float]
    """Mean over the batch, before the step with that rate; less what sets this batch apart from the others for the
    untrained network."""
    smooth: list[float]
    suggestion: float | None = None
    """Half the geometric mean of `steepest` and `diverged` (of `turn`, where nothing diverged): between the rate that
    learns fastest from the start and the one that is too much; None where the loss never fell."""
    steepest: float | None = None
    """Where the smoothed loss falls fastest per factor of the rate."""
    turn: float | None = None
    """Where the smoothed loss is lowest; beyond it, steps do harm. Up to 3 times the rate at which harm begins (for
    plain descent on a quadratic: 2 / λ_max), because it begins small."""
    diverged: float | None = None
    """Where the test ended because the loss had grown or was no number, up to 10 times the rate at which harm begins;
    None: it reached the highest rate."""
    stable: float | None = None
    """2 / λ_max of the loss on the first micro-batch: where plain gradient descent begins to diverge. A measure of the
    landscape; optimizers that rescale their gradients are not bound by it."""
    configured: dict[str, float] = field(default_factory=dict)
    """Rates of the settings and of the app's presets, by name."""


def rate_range(
    task: Task, *, lowest: float = LOWEST, highest: float = HIGHEST, n_steps: int = N_STEPS, curvature: bool = True
) -> RateRange:
    """Raise the rate from `lowest` to `highest`, a factor each step, until the loss grows beyond its scale.

    The network is afterwards what it was, and nothing is written. The guard is off: the first loss or gradient that is
    no number ends the test.
    """
    if not 0 < lowest < highest:
        raise ValueError(f"a range from {lowest:g} to {highest:g}; expected 0 < lowest < highest")
    rates = np.geomspace(lowest, highest, max(n_steps, 10)).tolist()
    with _borrowed(task) as fit:
        stable = _stable_rate(fit) if curvature else None
        losses, diverged = _losses(fit, rates)
    return _told(task.optim.name, rates, losses, diverged, stable)


def rate_range_of(app: App, settings: Any, **options: Any) -> RateRange:
    """The range test of an app's fresh network, with the rates of its presets beside it."""
    with on_threads(settings.threads):
        found = rate_range(trial_of(app, prepare(app, settings)), **options)
    presets = {f"preset {name}": preset.optim.rate for name, preset in app.presets.items()}
    return replace(found, configured={"these settings": settings.optim.rate} | presets)


@contextmanager
def _borrowed(task: Task) -> Iterator[Fit]:
    """A fit of the task whose network is given back as it was."""
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    with held_still(task.model), at_first_level(task):
        try:
            fit = Fit(replace(task, valid=None, fit=task.fit.changed(average=None)))
            fit.model.train()
            yield fit
        finally:
            torch.use_deterministic_algorithms(was_deterministic)


def _losses(fit: Fit, rates: list[float]) -> tuple[list[float], float | None]:
    """The losses before each step, and the rate at which they diverged."""
    choose_scale(fit)
    apart = _apart(fit, len(rates))
    base, losses, end = fit.task.optim.rate, [], _End()
    for rate, offset, (n_global, batch) in zip(rates, apart, _batches(fit), strict=False):
        set_rate(fit.optimizers, rate / base)
        outcome = fit.stepper(batch, n_global)
        if outcome.verdict not in ("step", "overflow"):
            return losses, rate
        losses.append(outcome.loss - offset)
        if end.is_reached(losses[-1]):
            return losses, rate
    return losses, None


def _apart(fit: Fit, n_batches: int) -> list[float]:
    """By batch: the untrained network's loss, less its mean over the batches."""
    found = []
    for n_global, batch in islice(_batches(fit), n_batches):
        with fit.precision.autocast():
            losses = [fit.task.objective.loss(fit.model, micro.data).each.detach() for micro in batch]
        found.append(sum(float(loss.double().sum()) for loss in losses) / n_global)
    mean = float(np.mean(found))
    return [loss - mean if math.isfinite(loss - mean) else 0.0 for loss in found]


def _batches(fit: Fit) -> Iterator[tuple[int, list[MicroBatch]]]:
    """The run's own batches, epoch after epoch, with the model at the epoch's level."""
    for epoch in count():
        fit.position.epoch = epoch
        if has_levels(fit.model):
            fit.model.set_level(fit.curriculum.level(epoch))  # type: ignore[operator]
        yield from fit._fetch(fit.order.batches(epoch))


class _End:
    """Notices divergence: a running mean far above its best, by the scale of the loss (its first fall or its size)."""

    def __init__(self) -> None:
        self.mean = self.weight = 0.0
        self.best = self.first = math.nan

    def is_reached(self, loss: float) -> bool:
        self.mean = MEMORY * self.mean + (1 - MEMORY) * loss
        self.weight = MEMORY * self.weight + (1 - MEMORY)
        smooth = self.mean / self.weight
        if math.isnan(self.first):
            self.first = self.best = smooth
        self.best = min(self.best, smooth)
        return smooth - self.best > DIVERGED * max(abs(self.best), self.first - self.best, 1e-12)


def _stable_rate(fit: Fit) -> float | None:
    batch, loss = first_of(fit.task).batch, mean_loss(fit.task.objective)
    try:
        with at_first_level(fit.task), Subject.of(fit.model, batch, loss, seed=fit.task.seed) as subject:
            return measure_curvature(subject).stable_rate
    except ValueError:
        return None


def _told(
    optimizer: str, rates: list[float], losses: list[float], diverged: float | None, stable: float | None
) -> RateRange:
    rates = rates[: len(losses)]
    smooth = smoothed(losses)
    found = RateRange(optimizer, rates, losses, smooth, diverged=diverged, stable=stable)
    if len(losses) < 3:
        return found
    lowest = int(np.argmin(smooth))
    if smooth[0] - smooth[lowest] <= ROUNDING * abs(smooth[0]):
        return found
    steepest = int(np.argmin(np.diff(smooth[: lowest + 1])))
    turn, steep = rates[lowest], math.sqrt(rates[steepest] * rates[steepest + 1])
    return replace(found, suggestion=CAUTION * math.sqrt(steep * (diverged or turn)), steepest=steep, turn=turn)


def smoothed(losses: list[float]) -> list[float]:
    """Averages over neighbouring steps, weighted by a bell; at the ends over those that there are."""
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / SMOOTHING) ** 2)
    return (weights @ np.asarray(losses) / weights.sum(1)).tolist() if losses else []
