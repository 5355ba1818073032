"""The worst case of a gradient on its way back: Π ‖W_k‖ · sup|f'|, along every path, the paths added up."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from isometry.activations import ELEMENTWISE, steepest
from isometry.doctor.flow import Flow, Step

ROUNDING = 1 + 1e-5
SMALL = 128  # matrices whose norm is always worth its price


def gain_bound(flow: Flow, start: int, end: int) -> tuple[float | None, str | None]:
    """ln of the most that a gradient can grow (least: -inf) on its way from one tensor back to an earlier one.

    Along a chain the layers' largest singular values and the activations' largest slopes multiply; where paths join
    (x + s F(x)) their products add up. Norms count with the statistics of this batch. Everything must go from `start`
    to the loss through `end`; a loss that looks at a hidden layer by itself goes past it unnoticed.

    Returns:
        The bound in nats, or None and why there is none.
    Source: the chain rule; Szegedy et al. 2014, arXiv:1312.6199, section 4.3.
    """
    known: dict[int, float] = {start: 0.0}
    slopes: dict[str, float] = {}
    missing: dict[int, str] = {}
    for step in flow.steps:
        if step.made <= start:
            continue
        if step.made > end:
            break
        reason = next((missing[place] for place in step.of if place in missing), None)
        if not reason and step.kind == "unknown":
            reason = f"what enters {step.name} is neither another layer's output nor a known function of it"
        if not reason and any(place in known for place in step.of):
            gain, reason = _gain(step, flow, slopes)
            if gain is not None:
                known[step.made] = _joined(step, known, gain)
        if reason:
            missing[step.made] = reason
    if end in missing:
        return None, missing[end]
    used = {place for step in flow.steps if step.made <= end for place in step.of} | {end}
    loose = next((place for place in (*known, *missing) if place not in used), None)
    if loose is not None:
        return None, f"the gradient comes back another way as well, by {_named(flow, loose)}"
    return known.get(end, -math.inf), None


def _named(flow: Flow, place: int) -> str:
    return next(step.name for step in flow.steps if step.made == place)


def _joined(step: Step, known: dict[int, float], gain: float) -> float:
    if step.kind != "sum":
        return known[step.of[0]] + _log(gain)
    early, late = (known.get(place, -math.inf) for place in step.of)
    return _log_of_sum(early, late + _log(gain))


def _gain(step: Step, flow: Flow, slopes: dict[str, float]) -> tuple[float | None, str | None]:
    if step.kind == "sum":
        return abs(step.scale), None
    if step.module is None:
        return 1.0, None
    if isinstance(step.module, ELEMENTWISE):
        kind = repr(step.module)  # with its settings
        if kind not in slopes:
            slopes[kind] = steepest(step.module) * ROUNDING
        return slopes[kind], None
    gain = _layer_gain(step.module, flow.tensors[step.of[0]].detach(), flow.tensors[step.made])
    reason = f"no bound is known for {step.name}, a {type(step.module).__name__}"
    return (None, reason) if gain is None else (gain, None)


def _layer_gain(module: Any, entered: Tensor, left: Tensor) -> float | None:
    """Largest factor between norms; None for layers without a known one."""
    if isinstance(module, nn.Linear):
        return largest_singular_value(module.weight.detach(), left.numel() // max(1, left.shape[-1]))
    if isinstance(module, nn.modules.conv._ConvNd) and not module.transposed and module.padding_mode == "zeros":
        return _convolution_norm(module, left)
    if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm):
        return _norm_gain(module, entered)
    if isinstance(module, nn.modules.dropout._DropoutNd) and type(module) is not nn.AlphaDropout:
        return 1 / (1 - module.p) if module.training and module.p < 1 else 1.0
    if isinstance(module, nn.Flatten | nn.Unflatten | nn.Identity):
        return 1.0
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d | nn.MaxPool1d | nn.MaxPool2d):
        return _overlap(module, entered.ndim)
    return None


def largest_singular_value(weight: Tensor, n_rows: int) -> float:
    """An upper bound on it, within some per cent, tight for orthogonal and for random matrices; never below it.

    With G = W Wᵀ: ‖W‖² ≤ the largest absolute row sum of G, and ‖W‖^32 ≤ tr G^16. Power iteration would come from
    below, and a bound must not. Where G^16 costs more than the network itself, ‖W‖² ≤ ‖W‖₁ ‖W‖∞ has to do.

    Args:
        weight: [rows, columns].
        n_rows: how many vectors the network multiplies it with, which says what may be afforded.
    """
    weight = weight if weight.dtype == torch.float64 else weight.float()
    largest = float(weight.abs().max()) if weight.numel() else 0.0
    if not 0 < largest < math.inf:
        return largest
    unit = weight / largest
    if min(unit.shape) > max(SMALL, 2 * n_rows):
        size = unit.abs()
        return largest * ROUNDING * math.sqrt(float(size.sum(0).max()) * float(size.sum(1).max()))
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    row_sum, log_scale = float(gram.abs().sum(1).max()), 0.0
    power = gram
    for _ in range(3):  # G^2, G^4, G^8, each times e^-log_scale
        size = float(torch.linalg.vector_norm(power))
        power, log_scale = power / size, log_scale + math.log(size)
        power, log_scale = power @ power, 2 * log_scale
    trace = math.log(float(torch.linalg.vector_norm(power))) + log_scale  # ½ ln tr G^16
    return largest * ROUNDING * math.sqrt(min(row_sum, math.exp(trace / 8)))


def _convolution_norm(module: Any, left: Tensor) -> float:
    """Each input number appears in at most Π ⌈kernel / stride⌉ of the patches that the kernel matrix multiplies.

    Source: Tsuzuku et al. 2018, arXiv:1802.04034, section 3.
    """
    patches = math.prod(math.ceil(k / s) for k, s in zip(module.kernel_size, module.stride, strict=True))
    n_rows = left.numel() // max(1, module.out_channels)
    blocks = module.weight.detach().flatten(1).chunk(module.groups)
    return math.sqrt(patches) * max(largest_singular_value(block, n_rows) for block in blocks)


def _norm_gain(module: Any, entered: Tensor) -> float:
    """Centring and projection only shorten; what is left is γ / σ of this batch."""
    if isinstance(module, nn.LayerNorm):
        variance = entered.flatten(-len(module.normalized_shape)).var(-1, correction=0)
    elif module.training or module.running_var is None:
        variance = entered.var([0, *range(2, entered.ndim)], correction=0)
    else:
        variance = module.running_var
    gamma = 1.0 if module.weight is None else module.weight.detach().abs()
    gamma = gamma.max() if isinstance(module, nn.LayerNorm) and isinstance(gamma, Tensor) else gamma
    return float((gamma / (variance + module.eps).sqrt()).max()) * ROUNDING


def _overlap(module: Any, n_dimensions: int) -> float | None:
    if getattr(module, "ceil_mode", False) or getattr(module, "divisor_override", None):
        return None
    n = 1 if isinstance(module, nn.AvgPool1d | nn.MaxPool1d) else 2
    kernel, stride = (_tuple(value, n) for value in (module.kernel_size, module.stride))
    shares = math.prod(math.ceil(k / s) for k, s in zip(kernel, stride, strict=True))
    return math.sqrt(shares if isinstance(module, nn.MaxPool1d | nn.MaxPool2d) else shares / math.prod(kernel))


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)


def _log_of_sum(one: float, other: float) -> float:
    larger = max(one, other)
    return larger if not math.isfinite(larger) else larger + math.log(math.exp(one - larger) + math.exp(other - larger))
