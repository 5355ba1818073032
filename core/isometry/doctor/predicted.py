"""What mean-field theory says that signal and gradient do in this network, from nothing but the spread of its weights.

In a wide network with random weights every layer's numbers are Gaussian, and few numbers tell all: the second moment K,
the correlation c of two inputs, and χ, by which a layer multiplies a gradient's squared norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isometry.activations import Function, activation_named, gaussian_moments
from isometry.doctor.bound import ELEMENTWISE
from isometry.doctor.flow import Flow, Step, flow_of
from isometry.doctor.forward import second_moment
from isometry.doctor.records import by_record, count_records, spread
from isometry.doctor.subject import Layer, Subject
from isometry.initialise import fan_in

N_HERMITE = 64  # nodes per dimension for the correlation of two signals; good to 5e-3 across a kink
DEEP = 200  # layers after which a scale counts as the one the network tends to
STILL = 1e-9  # relative change of a scale per layer below which it stays


@dataclass(frozen=True)
class PredictedRow:
    """One weight layer."""

    name: str
    weight_variance: float
    """σ_w²: mean square of the weights times fan-in (at padded borders: times the part that meets numbers)."""
    bias_variance: float
    """σ_b²: mean square of the biases."""
    moment: float | None
    """E[x²] of the output, by the recursion K' = σ_w² E[f(√K z)²] + σ_b² from the batch on; after something unknown
    it starts anew from what was measured there."""
    moment_measured: float
    correlation: float | None
    """Of two records, likewise."""
    correlation_measured: float | None
    chi: float | None
    """σ_w² E[f'(√K z)²], with f and K of what enters: what the layer and its activation multiply the squared norm of
    a gradient with; None where nothing predicted enters."""
    gain: float | None
    """ln of the gradient's norm at this output over that at the next weight layer's, as `BackwardRow.gain`."""


@dataclass(frozen=True)
class Edge:
    """Where layers of one kind stand against the edge of chaos."""

    second_moment: float
    """K*, to which the signal's scale tends (where it is at the given depth, if still on its way)."""
    chi: float
    """χ₁ = σ_w² E[f'(√K* z)²]: below 1 ordered (inputs merge, gradients vanish), above 1 chaotic (they part and
    explode), 1 critical."""
    correlation: float
    """c*, to which the correlation of two different inputs tends: 1 in the ordered phase."""


@dataclass(frozen=True)
class Predicted:
    rows: list[PredictedRow]
    log_gain: float | None
    """As `Backward.log_gain`."""
    lyapunov: float | None
    """Mean of ½ ln χ over the weight layers between the first and the last, in nats per layer: below 0 ordered, above
    chaotic. Of plain chains only: with norms or residual branches χ is not all that happens."""
    edge: Edge | None
    """Of plain chains: of the layer in the middle, as if all were like it, at this network's depth."""
    reason: str | None
    """Why there is no `log_gain`."""


def edge(
    activation: str | Function,
    weight_variance: float,
    bias_variance: float,
    second_moment: float = 1.0,
    depth: int = DEEP,
) -> Edge:
    """Follows K and c through layers of one kind until they stay.

    Args:
        second_moment: K of the first layer; it matters where every scale is kept (ReLU).
        depth: most layers that K is followed through; near criticality it goes on drifting for long.
    Source: Poole et al. 2016, arXiv:1606.05340, eqs. 3, 5 and 8; Schoenholz et al. 2017, arXiv:1611.01232, section 3.
    """
    k, c = second_moment, 0.5
    for _ in range(depth):
        before, k = k, weight_variance * gaussian_moments(activation, k).square + bias_variance
        if not 1e-12 < k < 1e12 or abs(k / before - 1) < STILL:
            break
    k = min(max(k, 1e-12), 1e12)
    for _ in range(DEEP):
        before, c = c, correlation_after(activation, k, c, weight_variance, bias_variance)
        if abs(c - before) < STILL:
            break
    return Edge(k, weight_variance * gaussian_moments(activation, k).slope, c)


def correlation_after(
    activation: str | Function, second_moment: float, correlation: float, weight_variance: float, bias_variance: float
) -> float:
    """c' of two signals of correlation c and one second moment, after the activation and a layer of weights."""
    nodes, weights = _hermite()
    function = activation_named(activation)
    c = min(1.0, max(-1.0, correlation))
    first = nodes[:, None] * math.sqrt(second_moment)
    second = c * first + math.sqrt((1 - c * c) * second_moment) * nodes[None]
    with torch.no_grad():
        one, other = function(first), function(second)
    together = float(weights @ (one * other) @ weights)
    alone = float(weights @ one.square().flatten())
    scale = weight_variance * alone + bias_variance
    return min(1.0, (weight_variance * together + bias_variance) / scale) if scale > 0 else math.nan


def predict(subject: Subject) -> Predicted:
    """One forward pass, for the structure and the first moment; the rest is quadrature.

    Knows linear layers, convolutions, activations (also functions between layers), dropout, norms (which set K to γ²),
    flattening, and sums x + s F(x) of what it takes for independent.
    """
    subject.live()
    seen = subject.run()
    layers = [layer for layer in subject.layers if layer.name in seen.outputs]
    flow = flow_of(layers, seen, subject.batch)
    with torch.no_grad():
        signal = _Signal(flow, count_records(subject.batch))
    trunk = [layer.name for layer in layers if layer.has_weight]
    norms, reason = _gradient(signal, trunk)
    rows = _rows(signal, [layer for layer in layers if layer.name in signal.weights], norms)
    log_gain = None if reason else norms[flow.outputs[trunk[0]]]
    hidden = [math.log(row.chi) / 2 for row in rows if row.name in trunk[1:-1] and row.chi and row.chi > 0]
    is_plain = all(step.kind != "sum" and not isinstance(step.module, _NORMS) for step in flow.steps)
    lyapunov = sum(hidden) / len(hidden) if is_plain and hidden and len(hidden) == len(trunk[1:-1]) else None
    return Predicted(rows, log_gain, lyapunov, _middle(signal, trunk) if is_plain else None, reason)


_NORMS = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class _Weights:
    """What theory wants to know of a weight layer."""

    weight_variance: float
    bias_variance: float


@dataclass(frozen=True)
class _State:
    """Of one tensor: second moment and correlation of two records; and the activation it has just passed, if any."""

    k: float
    c: float | None
    k_before: float = math.nan
    """Second moment before that activation."""
    function: nn.Module | None = None
    slope: float = math.nan
    """E[f'²] of that activation."""
    growth: float = 1.0
    """By which what came after that activation (dropout) multiplied the second moment."""


class _Signal:
    """Second moments and correlations of all tensors of the flow, in the order of execution."""

    def __init__(self, flow: Flow, n_records: int | None) -> None:
        self.flow, self.n_records = flow, n_records
        self.states: dict[int, _State] = {}
        self.weights: dict[str, _Weights] = {}
        self.factors: dict[int, float] = {}
        """By step: what it multiplies a gradient's squared norm with."""
        for step in flow.steps:
            self.states[step.made] = self._after(step) or self._as_measured(step)

    def _as_measured(self, step: Step) -> _State:
        x = self.flow.tensors[step.made]
        k, c = second_moment(x), spread(by_record(x, self.n_records)).correlation
        return _State(k, c)

    def _after(self, step: Step) -> _State | None:
        """None: not foretold."""
        if step.kind in ("unknown", "data") or not step.of:
            return None
        before = self.states[step.of[0]]
        if step.kind == "view":
            self.factors[step.made] = 1.0
            return before
        if step.kind == "sum":
            return self._sum(step, before)
        module: Any = step.module
        if isinstance(module, ELEMENTWISE):
            return self._activated(step, module, before)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.modules.conv._ConvNd) and not module.transposed):
            return self._weighted(step, module, before)
        return self._rescaled(step, module, before)

    def _sum(self, step: Step, early: _State) -> _State:
        late, s2 = self.states[step.of[1]], step.scale**2
        self.factors[step.made] = 1.0
        k = early.k + s2 * late.k
        c = None if early.c is None or late.c is None or not k else (early.c * early.k + s2 * late.c * late.k) / k
        return _State(k, c)

    def _activated(self, step: Step, module: nn.Module, before: _State) -> _State | None:
        if not 0 < before.k < math.inf:
            return None
        expected = gaussian_moments(module, before.k)
        self.factors[step.made] = expected.slope
        c = None if before.c is None else correlation_after(module, before.k, before.c, 1.0, 0.0)
        return _State(expected.square, c, before.k, module, expected.slope)

    def _weighted(self, step: Step, module: Any, before: _State) -> _State:
        bias = 0.0 if module.bias is None else second_moment(module.bias)
        here = _Weights(_terms(module, self.flow.tensors[step.of[0]]) * second_moment(module.weight), bias)
        self.weights[step.name] = here
        self.factors[step.made] = here.weight_variance
        k = here.weight_variance * before.k + bias
        c = None if before.c is None or not k else (here.weight_variance * before.k * before.c + bias) / k
        return _State(k, c)

    def _rescaled(self, step: Step, module: Any, before: _State) -> _State | None:
        factor = 1.0
        if isinstance(module, nn.modules.dropout._DropoutNd) and type(module) is not nn.AlphaDropout:
            if module.training:
                factor = math.inf if module.p == 1 else 1 / (1 - module.p)
        elif isinstance(module, _NORMS):
            gamma = 1.0 if module.weight is None else second_moment(module.weight)
            beta = 0.0 if module.bias is None else second_moment(module.bias)
            self.factors[step.made] = gamma / before.k if before.k > 0 else math.nan
            k = gamma + beta
            return _State(k, before.c if isinstance(module, nn.LayerNorm) else None)
        elif not isinstance(module, nn.Flatten | nn.Unflatten | nn.Identity):
            return None
        self.factors[step.made] = factor
        c = None if before.c is None else before.c / factor  # each record has its own mask
        return replace(before, k=before.k * factor, c=c, growth=before.growth * factor)


def _terms(module: Any, entered: Tensor) -> float:
    """Fan-in; at borders padded with zeros, the mean number of terms that are none."""
    if isinstance(module, nn.Linear) or module.padding_mode != "zeros" or isinstance(module.padding, str):
        return fan_in(module)
    sizes = entered.shape[-len(module.kernel_size) :]
    shares = [
        _share_inside(*numbers)
        for numbers in zip(sizes, module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
    ]
    return fan_in(module) * math.prod(shares)


def _share_inside(size: int, kernel: int, stride: int, padding: int, dilation: int) -> float:
    starts = torch.arange(-padding, size + padding - dilation * (kernel - 1), stride)
    taps = starts[:, None] + dilation * torch.arange(kernel)
    return float(((taps >= 0) & (taps < size)).double().mean())


def _gradient(signal: _Signal, trunk: Sequence[str]) -> tuple[dict[int, float], str | None]:
    """ln of the gradient's norm at every tensor over that where the last weight layer begins, as far as is known."""
    if len(trunk) < 2 or trunk[-1] not in signal.flow.inputs:
        return {}, "fewer than two weight layers with a real-valued input"
    end, start = signal.flow.inputs[trunk[-1]], signal.flow.outputs[trunk[0]]
    logs: dict[int, float] = {end: 0.0}
    for step in reversed(signal.flow.steps):
        if step.made > end or step.made not in logs or step.made <= start:
            continue
        factor = signal.factors.get(step.made)
        if factor is None or not 0 < factor < math.inf:
            return {}, f"theory knows nothing of what enters or leaves {step.name}"
        for place, part in zip(step.of, (1.0, step.scale**2), strict=False):
            back = logs[step.made] + math.log(factor * part) / 2 if part else -math.inf
            logs[place] = float(np.logaddexp(2 * logs.get(place, -math.inf), 2 * back)) / 2
    return (logs, None) if start in logs else ({}, f"no known way leads from {trunk[0]} to {trunk[-1]}")


def _rows(signal: _Signal, layers: list[Layer], norms: dict[int, float]) -> list[PredictedRow]:
    rows = []
    after: float | None = None
    for layer in reversed(layers):
        made, entered = signal.flow.outputs[layer.name], signal.flow.inputs[layer.name]
        here, x, norm = signal.weights[layer.name], signal.flow.tensors[made], norms.get(made)
        gain = None if norm is None or after is None else norm - after
        state = signal.states[made]
        measured = spread(by_record(x.detach(), signal.n_records)).correlation
        chi = _chi(here, signal.states[entered])
        moments = state.k, second_moment(x.detach())
        variances = here.weight_variance, here.bias_variance
        rows.append(PredictedRow(layer.name, *variances, *moments, state.c, measured, chi, gain))
        after = norm
    return rows[::-1]


def _chi(here: _Weights, entered: _State) -> float | None:
    return None if entered.function is None else here.weight_variance * entered.slope * entered.growth


def _middle(signal: _Signal, trunk: Sequence[str]) -> Edge | None:
    name = trunk[len(trunk) // 2] if trunk else ""
    if name not in signal.weights:
        return None
    here, entered = signal.weights[name], signal.states[signal.flow.inputs[name]]
    if entered.function is None:
        return None
    return edge(
        entered.function, here.weight_variance * entered.growth, here.bias_variance, entered.k_before, len(trunk)
    )


@cache
def _hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights of E over N(0, 1)."""
    x, w = np.polynomial.hermite_e.hermegauss(N_HERMITE)
    return torch.from_numpy(x), torch.from_numpy(w / math.sqrt(2 * math.pi))
