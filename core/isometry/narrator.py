"""Narrator: what a run tells its listeners about each step, fault and epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from isometry.curriculum import level_at
from isometry.doctor.health import Look
from isometry.events import event
from isometry.step import Outcome
from isometry.task import Position, Task


class Narrator:
    """Turns what happens in a run into events; on all processes but the lead it is silent."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.meter = _Meter()

    def tell(self, name: str, where: Position, **fields: Any) -> None:
        """One event, stamped with the place in the run."""
        if self.task.fleet.is_lead:
            self.task.emit(event(name, step=where.step, epoch=where.epoch + 1, **fields))

    def step(self, where: Position, outcome: Outcome, rate: float) -> None:
        """A step that was taken, on the steps that are logged."""
        self.tell(
            "step",
            where,
            loss=outcome.loss,
            parts=outcome.parts,
            rate=rate,
            gradient_norm=outcome.gradient_norm,
            scale=outcome.scale,
            samples_per_s=self.meter.rate,
        )

    def fault(self, where: Position, outcome: Outcome) -> None:
        """A step that was not taken, and by which records; an overflow of fp16 is nobody's fault."""
        names = self.record_names(outcome.records) if outcome.verdict != "overflow" else []
        what = (
            f"{outcome.fault} not finite in {_first(names)}" if names else f"overflow at loss scale {outcome.scale:g}"
        )
        message = f"{what}; step skipped"
        self.tell("fault", where, kind=outcome.fault, records=names, scale=outcome.scale, message=message)

    def health(self, where: Position, outcome: Outcome, look: Look) -> None:
        """A look at the network; an overflow of fp16 shows the loss scale and not the network."""
        if outcome.verdict != "overflow":
            self.tell("health", where, **look.record(outcome.scale).fields())

    def divergence(self, where: Position, lowest: float, now: float) -> None:
        """A training loss that grows without bound although every step is finite, and the cure."""
        rate = self.task.optim.rate
        message = (
            f"the training loss diverges, {now:.3g} after {lowest:.3g} at its lowest: the steps are too large; start "
            f"again with a smaller --optim.rate ({rate / 3:.1g}, say, instead of {rate:.3g}), or set --optim.clip"
        )
        self.tell("fault", where, kind="divergence", records=[], scale=None, message=message)

    def epoch(self, where: Position, scores: dict[str, float], is_best: bool) -> None:
        """The end of an epoch: the validation scores, or the mean training loss where there was no evaluation."""
        n = max(where.n_norms, 1)
        facts: dict[str, Any] = {"split": "valid"} if scores else {"split": "train", "loss": where.losses / n}
        if (curriculum := self.task.fit.curriculum).levels:
            facts["level"] = level_at(where.epoch / self.task.fit.epochs, curriculum)
        self.tell("eval", where, scores=scores, is_best=is_best, mean_square_gradient=where.squared_norms / n, **facts)

    def record_names(self, records: Sequence[int]) -> list[str]:
        """As the data set calls them (`name(index)`), or by number."""
        name = getattr(self.task.train, "name", lambda index: f"record {index}")
        return [str(name(index)) for index in records]


def _first(names: list[str], n_shown: int = 5) -> str:
    more = len(names) - n_shown
    return ", ".join(names[:n_shown]) + (f" and {more} more" if more > 0 else "")


class _Meter:
    """Records per second since the last reading window."""

    def __init__(self) -> None:
        self.n_records, self.since, self.rate = 0, time.monotonic(), 0.0

    def count(self, n_records: int) -> float:
        self.n_records += n_records
        seconds = time.monotonic() - self.since
        if seconds > 1.0 or self.rate == 0.0:
            self.rate = self.n_records / max(seconds, 1e-9)
        if seconds > 1.0:
            self.n_records, self.since = 0, time.monotonic()
        return self.rate
