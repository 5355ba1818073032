"""Precision: in which number format a run computes, and the loss scaling that fp16 needs.

Micikevicius et al. 2018, arXiv:1710.03740: gradients below 2^-24 flush to zero in fp16; multiplying the loss by a scale
lifts them, and the scale is taken out again before clipping and stepping.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from pydantic import PositiveFloat, PositiveInt

from isometry.settings import Settings

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
USUAL_SCALE = 2.0**16  # where nothing is known


class PrecisionSettings(Settings):
    dtype: Literal["fp32", "fp64", "bf16", "fp16"] = "fp32"
    """fp32 and fp64 compute throughout; bf16 and fp16 run matrix products in half precision (autocast)."""
    scale: PositiveFloat | Literal["auto"] = "auto"
    """First loss scale of fp16; it halves on an overflow and doubles after `growth_interval` good steps. auto: what the
    gradients of the first batch ask for."""
    growth_interval: PositiveInt = 2000
    """Good steps in a row before the loss scale doubles."""

    @property
    def parameter_dtype(self) -> torch.dtype:
        """Of weights and of the batches' real numbers."""
        return torch.float64 if self.dtype == "fp64" else torch.float32


class Precision:
    """Autocast and dynamic loss scaling behind one face; without fp16 the scaling does nothing."""

    def __init__(self, settings: PrecisionSettings, device: torch.device) -> None:
        self.name, self.device = settings.dtype, device
        self.parameter_dtype = settings.parameter_dtype
        self.scaler = torch.amp.GradScaler(  # pyright: ignore[reportPrivateImportUsage]
            device.type,
            init_scale=USUAL_SCALE if settings.scale == "auto" else settings.scale,
            growth_interval=settings.growth_interval,
            enabled=settings.dtype == "fp16",
        )

    @property
    def has_scale(self) -> bool:
        return self.scaler.is_enabled()

    @property
    def scale(self) -> float | None:
        """The loss scale of the next step; None without fp16."""
        return float(self.scaler.get_scale()) if self.has_scale else None

    def start_at(self, scale: float) -> None:
        """Take this loss scale for the next step; without fp16 it means nothing."""
        self.load_state_dict(self.state_dict() | {"scale": scale})

    def autocast(self) -> AbstractContextManager[Any]:
        half = HALF.get(self.name)
        return nullcontext() if half is None else torch.autocast(self.device.type, dtype=half)

    def backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()

    def unscale(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Take the scale out of the gradients; notes an overflow for `update`."""
        for optimizer in optimizers:
            if _has_gradient(optimizer):
                self.scaler.unscale_(optimizer)

    def update(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Halve the scale after an overflow, double it after enough good steps."""
        if self.has_scale and any(_has_gradient(optimizer) for optimizer in optimizers):
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.has_scale:
            self.scaler.load_state_dict(state)


def _has_gradient(optimizer: torch.optim.Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])
