"""Backward: does the gradient survive? Its size layer by layer and weight by weight, and the most it may grow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from isometry.doctor.bound import gain_bound
from isometry.doctor.flow import flow_of
from isometry.doctor.records import length
from isometry.doctor.subject import Layer, Seen, Subject


@dataclass(frozen=True)
class BackwardRow:
    """The gradient of the loss with respect to the output of one call of one layer, as in training."""

    name: str
    kind: str
    has_weight: bool
    rms: float | None
    norm: float | None
    """Over the whole batch; None: no gradient comes back to this layer."""
    zero_share: float | None
    """Of entries that are exactly 0: cut off by the network itself, not flushed by a number format."""
    non_finite: float | None
    gain: float | None
    """Of weight layers: ln of this norm over that of the weight layer executed next."""


@dataclass(frozen=True)
class WeightRow:
    """The gradient of the loss with respect to one parameter; None: the loss does not depend on it."""

    name: str
    n_weights: int
    rms: float | None
    norm: float | None
    zero_share: float | None
    non_finite: float | None


@dataclass(frozen=True)
class Backward:
    rows: list[BackwardRow]
    """In the order of execution."""
    weights: list[WeightRow]
    log_gain: float | None
    """ln of the gradient's norm where the first weight layer ends over its norm where the last one begins: a product
    of Jacobians along the hidden layers, entry and read-out left out. In a chain with L layers of weights it has L - 2
    matrices and L - 1 activations and is free of the layers' widths. -inf: nothing arrives at the first layer."""
    n_between: int
    """Weight layers executed between those two."""
    bound: float | None
    """ln of the most that `log_gain` could be for any loss: Π ‖W‖ · sup|f'|, paths added up."""
    reason: str | None
    """Why there is no `log_gain`."""
    bound_reason: str | None
    """Why there is no `bound`."""


def measure_backward(subject: Subject) -> Backward:
    """One forward and one backward pass as in training."""
    subject.live()
    seen = subject.run()
    layers = [layer for layer in subject.layers if layer.name in seen.outputs]
    trunk = [layer for layer in layers if layer.has_weight]
    ends = [seen.inputs[trunk[-1].name]] if trunk and trunk[-1].name in seen.inputs else []
    gradients = _gradients(seen.loss, [*seen.outputs.values(), *ends, *(p for _, p in subject.parameters())])
    rows = _rows(layers, seen, gradients)
    weights = [WeightRow(name, p.numel(), *_size(gradients.get(id(p)))) for name, p in subject.parameters()]
    log_gain, reason = _log_gain(trunk, rows, _size(gradients.get(id(ends[0])) if ends else None)[1])
    bound, bound_reason = _bound(trunk, layers, seen, subject)
    return Backward(rows, weights, log_gain, max(0, len(trunk) - 2), bound, reason, bound_reason)


def _gradients(loss: Tensor, tensors: list[Tensor]) -> dict[int, Tensor]:
    """By the tensor's id; without those that do not act on the loss."""
    wanted = {id(tensor): tensor for tensor in tensors if tensor.requires_grad}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {key: gradient.detach() for key, gradient in zip(wanted, found, strict=True) if gradient is not None}


def _rows(layers: list[Layer], seen: Seen, gradients: dict[int, Tensor]) -> list[BackwardRow]:
    rows: list[BackwardRow] = []
    after: float | None = None
    for layer in reversed(layers):
        size = _size(gradients.get(id(seen.outputs[layer.name])))
        norm = size[1]
        gain, has_weight = None, layer.has_weight
        if has_weight and norm is not None:
            gain, after = None if after is None else _log_ratio(norm, after), norm
        rows.append(BackwardRow(layer.name, layer.kind, has_weight, *size, gain))
    return rows[::-1]


def _size(gradient: Tensor | None) -> tuple[float | None, float | None, float | None, float | None]:
    """RMS, norm, shares of exact zeros and of entries that are not finite."""
    if gradient is None or not gradient.numel():
        return None, None, None, None
    gradient = gradient.to_dense() if gradient.layout != torch.strided else gradient
    n, norm = gradient.numel(), length(gradient)
    non_finite = 0.0 if math.isfinite(norm) else 1 - float(gradient.isfinite().double().mean())
    return norm / math.sqrt(n), norm, 1 - int(gradient.count_nonzero()) / n, non_finite


def _log_gain(trunk: list[Layer], rows: list[BackwardRow], last: float | None) -> tuple[float | None, str | None]:
    if len(trunk) < 2:
        return None, f"{len(trunk)} weight layers; there is nothing between the first and the last"
    norms = {row.name: row.norm for row in rows}
    first = norms[trunk[0].name]
    if first is None or last is None:
        return None, f"no gradient comes back to {trunk[0].name if first is None else 'the input of ' + trunk[-1].name}"
    if last == 0:
        return None, f"the gradient that enters at {trunk[-1].name} is exactly 0"
    gain = _log_ratio(first, last)
    return (None, "the gradient is not finite") if math.isnan(gain) else (gain, None)


def _bound(trunk: list[Layer], layers: list[Layer], seen: Seen, subject: Subject) -> tuple[float | None, str | None]:
    if len(trunk) < 2:
        return None, f"{len(trunk)} weight layers; there is nothing between the first and the last"
    flow = flow_of(layers, seen, subject.batch)
    end = flow.inputs.get(trunk[-1].name)
    if end is None:
        return None, f"nothing real-valued enters {trunk[-1].name}"
    bound, reason = gain_bound(flow, flow.outputs[trunk[0].name], end)
    return (None, "a weight is not finite") if bound is not None and math.isnan(bound) else (bound, reason)


def _log_ratio(norm: float, after: float) -> float:
    """-inf where nothing arrives; NaN where nothing set out or something is not finite."""
    if not (0 < after < math.inf and 0 <= norm < math.inf):
        return math.nan
    return math.log(norm / after) if norm > 0 else -math.inf
