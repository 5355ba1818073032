"""Treatment: every safe remedy is tried, the best is kept, and before and after stand side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from isometry.doctor.examination import SIGNAL, Examination, examine
from isometry.doctor.remedies import REMEDIES, WHAT, Remedy, apply, on_trial, own_state, put_back, scale_residuals
from isometry.doctor.subject import ScalarLoss
from isometry.doctor.verdict import log_gain
from isometry.symmetry import Symmetry

LARGEST_CHANGE = 1e6  # nats; beyond, and where nothing arrives, all are alike


@dataclass(frozen=True)
class Trial:
    """What one combination of remedies would make of the network."""

    remedies: tuple[str, ...]
    n_fatal: int
    n_warnings: int
    log_gain: float | None
    """Of the gradient through the hidden layers, in nats."""
    reason: str | None = None
    """Why the combination is not possible."""


@dataclass(frozen=True)
class Treatment:
    before: Examination
    after: Examination
    """The same as `before` where nothing helped or nothing was needed."""
    remedies: tuple[str, ...]
    """What was applied, in words; empty: the network is as it was."""
    trials: tuple[Trial, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: the examination after it, with what was done."""
        done = {"remedies": self.remedies, "trials": [asdict(trial) for trial in self.trials]}
        return {**self.after.as_dict(), **done, "before": self.before.as_dict()}


def treat(
    model: nn.Module, batch: Any, loss: ScalarLoss, *, symmetries: Sequence[Symmetry] = (), seed: int = 0
) -> Treatment:
    """Try the safe remedies on a network that has learnt nothing yet and keep the one after which least is found.

    Changes the weights and residual scales of `model`, but only if that leaves fewer fatal findings, or as many and
    fewer warnings, or as many of both and a gradient that changes by some nats less. Its arguments are those of
    `examine`.
    """
    before = examine(model, batch, loss, symmetries=symmetries, seed=seed)
    if not any(finding.fix for finding in before.findings):
        return Treatment(before, before, (), ())
    trials, best, best_state = [], before, None
    for remedies in _combinations(model):
        with on_trial(model):
            found, trial = _tried(remedies, model, batch, loss, seed)
            trials.append(trial)
            if found is not None and _strain(found) < _strain(best):
                best, best_state = found, {name: tensor.clone() for name, tensor in own_state(model).items()}
                kept = remedies
    if best_state is None:
        return Treatment(before, before, (), tuple(trials))
    put_back(model, best_state)
    after = examine(model, batch, loss, symmetries=symmetries, seed=seed)
    return Treatment(before, after, tuple(WHAT[remedy] for remedy in kept), tuple(trials))


def _combinations(model: nn.Module) -> Iterator[tuple[str, ...]]:
    """The mildest first: of equals, the first is kept."""
    with on_trial(model):
        has_residuals = scale_residuals(model) > 0
    if has_residuals:
        yield ("residual scale",)
        yield from (("residual scale", remedy) for remedy in REMEDIES)
    yield from ((remedy,) for remedy in REMEDIES)


def _tried(
    remedies: tuple[str, ...], model: nn.Module, batch: Any, loss: ScalarLoss, seed: int
) -> tuple[Examination | None, Trial]:
    try:
        for remedy in remedies:
            _apply(remedy, model, batch, loss, seed)
        found = examine(model, batch, loss, seed=seed, measures=SIGNAL)
    except (ValueError, RuntimeError) as error:
        return None, Trial(remedies, 0, 0, None, " ".join(str(error).split())[:200])
    n_fatal, n_warnings, _ = _strain(found)
    return found, Trial(remedies, n_fatal, n_warnings, log_gain(found))


def _apply(remedy: str, model: nn.Module, batch: Any, loss: ScalarLoss, seed: int) -> None:
    if remedy == "residual scale":
        scale_residuals(model)
    else:
        name: Remedy = next(known for known in REMEDIES if known == remedy)
        apply(name, model, batch, loss, seed)


def _strain(found: Examination) -> tuple[int, int, float]:
    """What is wrong that a remedy could mend: fatal findings, warnings, and how much the gradient changes."""
    mendable = [finding.severity for finding in found.findings if finding.fix]
    change = min(abs(log_gain(found) or 0.0), LARGEST_CHANGE)
    return mendable.count("fatal"), mendable.count("warning"), round(change / 2)
