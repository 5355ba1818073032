"""One optimizer step with every safety on: scaled, accumulated, checked, clipped, and taken only if it is finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from isometry.average import Average
from isometry.doctor.health import Look
from isometry.fleet import Fleet, whole
from isometry.guard import Guard, Verdict
from isometry.objective import Loss
from isometry.precision import Precision


class MicroBatch(NamedTuple):
    """A part of a global batch on this process."""

    data: Any
    records: Sequence[int] | np.ndarray
    weight: float = 1.0
    """0 for a stand-in that keeps the processes in step when a batch has fewer records than there are processes."""


class Outcome(NamedTuple):
    """What a step did. `loss` and `parts` are means over the global batch."""

    verdict: Verdict
    loss: float
    parts: dict[str, float]
    gradient_norm: float
    scale: float | None
    records: list[int]
    """The records whose own loss was not finite; all of the batch when only the gradient was not."""

    @property
    def fault(self) -> str | None:
        """What was not finite: "loss", "gradient", or "overflow" for a gradient that fp16 could not hold."""
        if self.verdict in ("step", "overflow"):
            return "overflow" if self.verdict == "overflow" else None
        return "gradient" if math.isfinite(self.loss) else "loss"


class Stepper:
    """Takes optimizer steps. Holds no state of its own beyond the objects it is given."""

    def __init__(
        self,
        model: nn.Module,
        bare: nn.Module,
        loss: Callable[[nn.Module, Any], Loss],
        optimizers: list[torch.optim.Optimizer],
        precision: Precision,
        guard: Guard,
        average: Average | None,
        clip: float | None,
        fleet: Fleet,
    ) -> None:
        self.model, self.bare, self.loss = model, bare, loss
        self.optimizers, self.precision = optimizers, precision
        self.guard, self.average, self.clip, self.fleet = guard, average, clip, fleet
        self._running = [b for m in model.modules() if isinstance(m, _NormBase) for b in m.buffers()]
        self._parameters = [p for o in optimizers for group in o.param_groups for p in group["params"]]

    def __call__(self, batch: Sequence[MicroBatch], n_global: int, look: Look | None = None) -> Outcome:
        """Forward, backward and, if everything is finite, the step.

        Args:
            batch: this process's micro-batches.
            n_global: records of the batch over all processes, by which the summed losses are divided.
            look: at the network's health, on the steps that are looked at.
        """
        before = [buffer.clone() for buffer in self._running]
        scale = self.precision.scale
        losses = [self._backward(micro, n_global, is_last=i == len(batch) - 1) for i, micro in enumerate(batch)]
        self.precision.unscale(self.optimizers)
        if look is not None:
            look.gradients()
        norm = self._gradient_norm()
        loss, parts, gradient_norm = self._read(losses, norm, n_global)
        loss_is_finite, gradient_is_finite = math.isfinite(loss), math.isfinite(gradient_norm)
        verdict = self.guard.judge(loss_is_finite=loss_is_finite, gradient_is_finite=gradient_is_finite, scale=scale)
        if verdict == "step":
            self._step(norm, gradient_norm, look)
        else:
            for buffer, old in zip(self._running, before, strict=True):
                buffer.copy_(old)
        self.precision.update(self.optimizers)
        for parameter in self._parameters:
            parameter.grad = None
        records = [] if verdict in ("step", "overflow") else self._suspects(batch, losses)
        return Outcome(verdict, loss, parts, gradient_norm, scale, records)

    def _backward(self, micro: MicroBatch, n_global: int, is_last: bool) -> _Told:
        with self.fleet.without_exchange(self.model, is_last):
            with self.precision.autocast():
                loss = self.loss(self.model, micro.data)
            total = _sum(loss.each)
            # Processes average their gradients, so each contributes `world` times its share of the mean.
            self.precision.backward(total * (micro.weight * self.fleet.world / n_global))
        sums = [total.detach(), *(_sum(part.detach()) for part in loss.parts.values())]
        if micro.weight != 1.0:
            sums = [value * micro.weight for value in sums]
        return _Told(loss.each.detach(), list(loss.parts), sums)

    def _gradient_norm(self) -> Tensor:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if not gradients:
            raise ValueError("no parameter received a gradient: the loss does not depend on any trainable parameter")
        return whole(torch.nn.utils.get_total_norm(gradients))

    def _read(self, losses: list[_Told], norm: Tensor, n_global: int) -> tuple[float, dict[str, float], float]:
        """One transfer from the device for everything that is looked at."""
        sums = torch.stack([value for told in losses for value in told.sums]).to(norm.device, torch.float64)
        totals = self.fleet.sum(sums.view(len(losses), -1).sum(0))
        *totals, gradient_norm = torch.cat([totals, norm.reshape(1)]).tolist()
        loss, *parts = (total / n_global for total in totals)
        return loss, dict(zip(losses[0].names, parts, strict=True)), gradient_norm

    def _step(self, norm: Tensor, gradient_norm: float, look: Look | None) -> None:
        if self.clip is not None and gradient_norm > self.clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.clip, norm)
        for optimizer in self.optimizers:
            optimizer.step()
        if look is not None:
            look.updates()
        if self.average is not None:
            self.average.update(self.bare)

    def _suspects(self, batch: Sequence[MicroBatch], losses: list[_Told]) -> list[int]:
        """Of all processes: each sees only its own records."""
        every = [int(record) for micro in batch for record in micro.records]
        gathered = self.fleet.gather((_not_finite(batch, losses), every))
        named = {record for own, _ in gathered for record in own}
        return sorted(named or {record for _, own in gathered for record in own})


class _Told(NamedTuple):
    """What a micro-batch's loss came to."""

    each: Tensor
    """[n_records]"""
    names: list[str]
    sums: list[Tensor]
    """Of the loss, then of each named part."""


def _sum(each: Tensor) -> Tensor:
    """In fp32 or better: the sum of half-precision losses may be no half-precision number."""
    return each.sum(dtype=torch.promote_types(each.dtype, torch.float32))


def _not_finite(batch: Sequence[MicroBatch], losses: list[_Told]) -> list[int]:
    return [
        int(record)
        for micro, loss in zip(batch, losses, strict=True)
        for record, value in zip(micro.records, loss.each.reshape(-1).tolist(), strict=False)
        if not math.isfinite(value)
    ]
