"""The doctor in a plain PyTorch loop: one line before it, none inside.

watch = Watch(model, optimizer, every=100, tell=print)

The optimizer says when a step is taken; of the steps looked at, the forward and backward pass before it are watched,
with however many micro-batches they were made of. Give the *network* to `isometry.doctor.examine` before the first
step, and the *loop* to this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import nn

from isometry.adapters.telling import OnFatal, Tell, tell_all, to_stderr
from isometry.doctor.health import Health, HealthRecord, Look

NumbersListener = Callable[[dict[str, float]], None]


class Watch:
    """Looks at a network every so many steps of its optimizer, until `close` (or the end of a `with`).

    Gradients are read as the optimizer gets them: clipped, where the loop clips. With `torch.amp.GradScaler` they are
    read unscaled, and steps that the scaler skips do not count.

    Args:
        model: the network, also compiled (its activations are then not seen) or in DistributedDataParallel.
        optimizer: of this network; two networks with an optimizer each take a watch each.
        every: steps between two looks, the first at step 1; 0: none.
        tell: is handed each new finding as one line.
        log: is handed the numbers of each look, under flat names such as "gradient/encoder.0".
        scaler: of the loss, where there is one: its scale is told, and a finding once it lifts nothing any more.
        on_fatal: "raise" ends the run with a ValueError at a fatal finding (numbers that are not finite).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every: int = 100,
        tell: Tell = to_stderr,
        log: NumbersListener | None = None,
        scaler: torch.amp.GradScaler | None = None,
        on_fatal: OnFatal = "warn",
    ) -> None:
        if every < 0 or every != int(every):
            raise ValueError(f"every is {every}; expected a whole number of steps, or 0 for no look")
        self.health, self.tell, self.log = Health(model, int(every)), tell, log
        self.scaler = scaler
        self.on_fatal: OnFatal = on_fatal
        self.step = 0
        """Steps taken since the watch began; set it to go on counting where an earlier run ended."""
        self.last: HealthRecord | None = None
        """What the latest look showed."""
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]
        self._look: Look | None = None
        self._may_read = False  # whether the gradients were complete before the step: a closure makes them in it
        self._begin_if_due()

    def close(self) -> None:
        """Take every hook out of the network and the optimizer."""
        for handle in self._handles:
            handle.remove()
        if self._look is not None:
            self._look.close()
            self._look = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_if_due(self) -> None:
        if self.health.is_due(self.step + 1):
            self._look = self.health.begin()

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self._look is None:
            return
        self._may_read = kwargs.get("closure") is None and not any(callable(arg) for arg in args[1:])
        if self._may_read:
            self._look.gradients(_scale_within(optimizer), only=_parameters_of(optimizer))
        else:
            self._look.keep_weights(_parameters_of(optimizer))

    def _after_step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self.step += 1
        look, self._look = self._look, None
        if look is not None:
            if not self._may_read:
                look.gradients(only=_parameters_of(optimizer))
            look.updates()
            self.last = look.record(None if self.scaler is None else float(self.scaler.get_scale()))
            look.close()
            if self.log is not None:
                self.log(self.last.scalars())
            tell_all(self.last.findings, self.tell, self.on_fatal, f"step {self.step}")
        self._begin_if_due()


def _parameters_of(optimizer: torch.optim.Optimizer) -> set[Any]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def _scale_within(optimizer: torch.optim.Optimizer) -> Any:
    """Fused optimizers take the loss scale out of the gradients themselves: the scaler lends it to them."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else scale
