"""The training loop: epochs of steps, an evaluation after each, and a checkpoint from which it goes on bit for bit.

    fit = Fit(task)
    fit.resume()
    fit.run()

Everything that decides the next step is either a pure function of settings and position (order of the records, learning
rate) or part of `state()`. A run killed anywhere and started again is therefore the run that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from signal import SIGTERM
from typing import Any

import numpy as np
import torch

from isometry.average import Average
from isometry.checkpoint import Checkpoint
from isometry.curriculum import Curriculum, at_level
from isometry.doctor.health import Health
from isometry.evaluate import evaluate
from isometry.fleet import sharded_like, whole
from isometry.guard import Guard
from isometry.heap import Heap
from isometry.interrupt import Interrupt, Interrupted
from isometry.narrator import Narrator
from isometry.objective import Loss
from isometry.optim import build_optimizers, set_rate
from isometry.order import Loader, Order, Records, share, to_device
from isometry.precision import Precision
from isometry.randomness import random_state, seed_everything, set_random_state
from isometry.schedule import Patience, Plateau, rate_at
from isometry.start import choose_scale
from isometry.step import MicroBatch, Outcome, Stepper
from isometry.task import FitSettings, Position, Task

__all__ = ["Fit", "FitSettings", "Loss", "Position", "Task"]


class Fit:
    """One training run."""

    def __init__(self, task: Task) -> None:
        self.task, self.fleet = task, task.fleet
        seed_everything(task.seed + task.fleet.rank)
        torch.use_deterministic_algorithms(task.fit.deterministic)
        self.precision = Precision(task.precision, task.fleet.device)
        if self.precision.has_scale and task.fleet.world > 1 and task.fleet.shard == "fsdp2":
            raise ValueError("precision fp16 with shard fsdp2 is not offered; use bf16 or shard ddp")
        self.model = task.model.to(device=task.fleet.device, dtype=self.precision.parameter_dtype)
        wrapped = task.fleet.wrap(self.model)
        self.optimizers = build_optimizers(self.model, task.optim)
        decay = task.fit.average
        self.average = Average(self.model, decay) if decay is not None else None
        self.guard = Guard(task.guard)
        self.order = Order.of(task.train, task.fit.batch_size, task.fit.tokens, task.seed)
        self.curriculum = Curriculum(task.fit.curriculum, task.fit.epochs)
        self.curriculum.check(task.train, self.model)
        options = {"n_workers": task.fit.workers, "pin": task.fleet.device.type == "cuda"}
        self.loader = Loader(task.train, task.collate, seed=task.seed, curriculum=self.curriculum, **options)
        self.valid_loader = (
            Loader(task.valid, task.collate, is_drawn=False, **options) if task.valid is not None else None
        )
        self.stepper = Stepper(
            wrapped,
            self.model,
            task.objective.loss,
            self.optimizers,
            self.precision,
            self.guard,
            self.average,
            task.optim.clip,
            task.fleet,
        )
        is_watched = task.fleet.is_lead and (task.fleet.world == 1 or task.fleet.shard == "ddp")
        self.heap = Heap()
        self.health = Health(self.model, task.health_every if is_watched else 0)
        self.plateau = Plateau(task.optim.schedule, task.objective.better)
        self.patience = Patience(task.fit.patience or 0, task.objective.better)
        self.position = Position()
        self.narrator = Narrator(task)
        self.interrupt = Interrupt()
        self._saved_at = time.monotonic()

    # The story

    def run(self) -> str:
        """Train to the end; returns why it ended ("finished" or "early stop").

        Raises:
            Interrupted: after a SIGINT or SIGTERM, with the state saved.
            FloatingPointError: when losses or gradients stay non-finite whatever the guard tries, or no validation
                score was a number.
        """
        with self.interrupt:
            if self.position == Position():
                choose_scale(self)
                self.save(None, {})  # the state the guard can always go back to
            while self.position.epoch < self.task.fit.epochs and not self.position.is_exhausted:
                self._train_epoch()
                self._close_epoch()
        if self.task.valid is not None and self.position.best is None:
            raise FloatingPointError(
                f"the validation score '{self.task.objective.decides}' was never a number; check the labels of the "
                "validation set, and those the model's settings are learnt from"
            )
        return "early stop" if self.position.is_exhausted else "finished"

    def _train_epoch(self) -> None:
        with at_level(self.model, self.curriculum.level(self.position.epoch), afterwards=1.0):
            self._take_steps()

    def _take_steps(self) -> None:
        while self.position.batch < self.order.n_batches:
            batches = self.order.batches(self.position.epoch)[self.position.batch :]
            for n_global, batch in self._fetch(batches):
                set_rate(self.optimizers, self._rate_factor())
                with self.health.look(self._tick + 1) as look:
                    outcome = self.stepper(batch, n_global, look)
                self.position.batch += 1
                self.narrator.meter.count(n_global)
                if outcome.verdict == "step":
                    self._count(outcome)
                else:
                    self._handle_fault(outcome)
                if look is not None:
                    self.narrator.health(self.position, outcome, look)
                self._stop_or_save()
                self.heap.clear()

    def _close_epoch(self) -> None:
        """Evaluate, remember the best, save; an interrupted evaluation is repeated on resuming."""
        scores: dict[str, float] = {}
        epoch = self.position.epoch + 1
        is_last = epoch == self.task.fit.epochs
        if self.task.valid is not None and (is_last or epoch % self.task.fit.evaluate_every == 0):
            try:
                scores = self.evaluate(self.task.valid, self.valid_loader)
            except (_EvaluationInterrupted, RuntimeError):
                self._stop_if_told()
                raise
        score = scores.get(self.task.objective.decides)
        is_best = score is not None and self._take_score(score)
        self.narrator.epoch(self.position, scores, is_best)
        self.position.epoch, self.position.batch = epoch, 0
        self.position.n_norms, self.position.squared_norms, self.position.losses = 0, 0.0, 0.0
        is_due = self.fleet.broadcast(self._is_save_due())  # clocks differ, and all processes must save together
        if is_best or is_last or self.position.is_exhausted or is_due:
            self.save(score, scores)

    def _take_score(self, score: float) -> bool:
        """Let a validation score work on the rate, the patience and the memory of the best; True if it is the best."""
        self.plateau.update(score)
        is_exhausted = self.patience.update(score)
        self.position.is_exhausted = is_exhausted and self.task.fit.patience is not None
        if self.patience.has_improved:
            self.position.best, self.position.best_step = score, self.position.step
        return self.patience.has_improved

    def evaluate(self, records: Records, loader: Loader | None = None) -> dict[str, float]:
        """Scores with the averaged weights (the raw ones where there is no average)."""
        with self.averaged():
            scores, _ = evaluate(
                self.model,
                self.task.objective,
                records,
                self.task.collate,
                batch_size=self.task.fit.batch_size,
                tokens=self.task.fit.tokens,
                precision=self.precision,
                fleet=self.fleet,
                loader=loader,
                keep_going=self._between_evaluated,
            )
        return scores

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which the model carries its averaged weights, and the lead's running statistics everywhere."""
        if self.average is None:
            self.fleet.share_buffers(self.model)
            yield
        else:
            with self.average.swapped(self.model):
                self.fleet.share_buffers(self.model)
                yield

    # Saving and going on

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, whole (no shards)."""
        state = {
            "position": asdict(self.position),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": None if self.average is None else self.average.state_dict(),
            "precision": self.precision.state_dict(),
            "guard": self.guard.state_dict(),
            "plateau": self.plateau.state_dict(),
            "patience": self.patience.state_dict(),
            "health": self.health.state_dict(),
            "random": self.fleet.gather(random_state()),
        }
        return whole(state)

    def restore(self, state: dict[str, Any], *, keep_position: bool = False) -> None:
        """Put a saved state back. `keep_position` returns to its weights but not to its place among the records."""
        own = self.model.state_dict()
        self.model.load_state_dict(_cut_like(own, state["model"]))
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            _load_optimizer(optimizer, saved)
        if self.average is not None:
            self.average.load_state_dict(_cut_like(own, state["average"]))
        self.precision.load_state_dict(state["precision"])
        self.plateau.load_state_dict(state["plateau"])
        self.patience.load_state_dict(state["patience"])
        if keep_position:
            self.position.step = state["position"]["step"]
            return
        self.guard.load_state_dict(state["guard"])
        self.health.load_state_dict(state.get("health"))
        self.position = Position(**state["position"])
        if len(state["random"]) == self.fleet.world:
            set_random_state(state["random"][self.fleet.rank])

    def resume(self) -> dict[str, Any] | None:
        """Go on from the newest checkpoint that verifies; returns its state, or None where there is none."""
        checkpoint = self.task.vault.newest()
        if checkpoint is None:
            return None
        state = checkpoint.state()
        self.restore(state)
        return state

    def save(self, score: float | None, scores: dict[str, float]) -> None:
        """A checkpoint of this moment; the lead process writes it."""
        with self.averaged():
            # Copies: outside this context the same tensors hold the raw weights.
            weights = {name: tensor.clone() for name, tensor in whole(dict(self.model.state_dict())).items()}
        state = self.state()
        if self.fleet.is_lead:
            started = time.monotonic()
            state["log_size"] = self.task.bookmark()
            path = self.task.vault.save(
                step=self._tick, weights=weights, state=state, score=score, scores=scores, **self.task.manifest
            )
            self.narrator.tell("save", self.position, path=str(path), seconds=time.monotonic() - started)
        self.fleet.barrier()
        self._saved_at = time.monotonic()

    # One step's surroundings

    @property
    def _tick(self) -> int:
        """Batches seen since the start, skipped ones too: what names checkpoints and drives the schedule."""
        return self.position.epoch * self.order.n_batches + self.position.batch

    def _rate_factor(self) -> float:
        n_ticks = self.task.fit.epochs * self.order.n_batches
        return rate_at(self._tick, n_ticks, self.task.optim.schedule) * self.plateau.factor

    def _fetch(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[int, list[MicroBatch]]]:
        """Per global batch: its size and this process's micro-batches, on the device."""
        plan = [(len(batch), self._micro_batches(batch)) for batch in batches]
        items = self.loader.fetch([part for _, parts in plan for part, _ in parts], self.position.epoch)
        for n_global, parts in plan:
            try:
                batch = [MicroBatch(self._placed(next(items)), part, weight) for part, weight in parts]
            except RuntimeError:
                self._stop_if_told()
                raise
            yield n_global, batch

    def _micro_batches(self, batch: np.ndarray) -> list[tuple[np.ndarray, float]]:
        """This process's records by micro-batch; a stand-in of weight 0 where it has none but others do."""
        parts = share(batch, self.fleet.rank, self.fleet.world, self.task.fit.accumulate)
        return [(part, 1.0) if len(part) else (batch[:1], 0.0) for part in parts]

    def _placed(self, data: Any) -> Any:
        return to_device(data, self.fleet.device, self.precision.parameter_dtype)

    def _count(self, outcome: Outcome) -> None:
        self.position.step += 1
        self.position.n_norms += 1
        self.position.squared_norms += outcome.gradient_norm**2
        self.position.losses += outcome.loss
        if self._tick % self.task.log_every == 0:
            self.narrator.step(self.position, outcome, self.optimizers[0].param_groups[0]["lr"])
        if self.guard.growth.has_begun(outcome.loss):
            self.narrator.divergence(self.position, self.guard.growth.lowest, self.guard.growth.last)

    def _handle_fault(self, outcome: Outcome) -> None:
        """Report a step that was not taken; after several, go back to the last good state and past these records."""
        self.narrator.fault(self.position, outcome)
        if outcome.verdict == "stop":
            names = ", ".join(self.narrator.record_names(outcome.records)[:5])
            raise FloatingPointError(
                f"loss or gradient stayed non-finite after {self.task.guard.rollbacks} returns to the last good state "
                f"(step {self.position.step}, records {names}); check these records' labels, lower --optim.rate, or "
                "set --optim.clip"
            )
        if outcome.verdict == "rollback":
            checkpoint = self._haven() if self.fleet.is_lead else None
            self.restore(self.fleet.broadcast(checkpoint and checkpoint.state()), keep_position=True)
            message = f"went back to step {self.position.step}"
            self.narrator.tell("fault", self.position, kind="rollback", records=[], scale=None, message=message)

    def _haven(self) -> Checkpoint | None:
        """Without validation no score says how good a state is, and the newest is the best guess."""
        return self.task.vault.haven() if self.task.valid is not None else self.task.vault.newest()

    def _stop_or_save(self) -> None:
        """Between two steps: act on a signal, or save when it is time; all processes decide alike."""
        signal, is_due = self.interrupt.signal or 0, self._is_save_due()
        if self.fleet.world > 1:
            wishes = torch.tensor([signal, int(is_due and self.fleet.is_lead)], device=self.fleet.device)
            signal, is_due = (int(wish) for wish in self.fleet.sum(wishes).tolist())
            signal = self.interrupt.signal or (signal and SIGTERM)
        if signal or is_due:
            self.save(None, {})
        if signal:
            raise Interrupted(signal)

    def _stop_if_told(self) -> None:
        """A signal that reached a loading process may have ended it: then the signal is the reason, not the loss."""
        if self.interrupt.signal and self.fleet.world == 1:
            self._stop_or_save()

    def _between_evaluated(self) -> None:
        """Between two batches of an evaluation: freed memory goes back; one process may stop at once, several wait."""
        self.heap.clear()
        if self.interrupt.signal and self.fleet.world == 1:
            raise _EvaluationInterrupted

    def _is_save_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.task.fit.save_every


class _EvaluationInterrupted(Exception):
    """Leaves an evaluation that a signal interrupted."""


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {index: _cut_all_like(parameters[index], values) for index, values in saved["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def _cut_all_like(parameter: torch.Tensor, values: dict[str, Any]) -> dict[str, Any]:
    return {k: sharded_like(v, parameter) if isinstance(v, torch.Tensor) else v for k, v in values.items()}


def _cut_like(own: dict[str, torch.Tensor], saved: dict[str, Any]) -> dict[str, Any]:
    return {
        name: sharded_like(value, own[name]) if isinstance(value, torch.Tensor) and name in own else value
        for name, value in saved.items()
    }
