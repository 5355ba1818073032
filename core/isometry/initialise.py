"""Initial weights under which the signal survives forward and the gradient backward, layer type by layer type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from isometry.activations import ACTIVATIONS, LEAKY_SLOPE, Critical, Function, activation_named, critical, gain, growth
from isometry.lsuv import Measured, lsuv

__all__ = [
    "ACTIVATIONS",
    "Critical",
    "Initialised",
    "Measured",
    "Projection",
    "activation_named",
    "critical",
    "fan_in",
    "gain",
    "growth",
    "initialise",
    "lsuv",
    "orthogonal_",
]

Method = Literal["normal", "uniform", "orthogonal", "truncated", "critical"]
METHODS = ("normal", "uniform", "orthogonal", "truncated", "critical")

# The standard deviation of a unit normal cut off at ±2; weights drawn from it are divided by this.
_CUT_OFF_STD = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))


class Projection(nn.Linear):
    """A linear layer whose input has passed no activation, whatever the net's is: `initialise` gives it 1 / fan-in."""


class Initialised(NamedTuple):
    """One line of the report: a parameter's qualified name, what was done, and the spread meant (NaN: untouched)."""

    name: str
    what: str
    std: float


def initialise(
    module: nn.Module,
    activation: str | Function = "relu",
    *,
    keep: float = 1.0,
    method: Method = "normal",
    slope: float = LEAKY_SLOPE,
    is_inverted: bool = True,
    first: str | None = None,
    bias_variance: float | None = None,
    forget: float = 1.0,
    t_max: int | None = None,
    generator: Generator | None = None,
) -> list[Initialised]:
    """Fills every layer of `module` so that it hands on the second moment it receives; says what it did, line by line.

    Linear, convolution, transposed convolution and recurrent input weights get variance g² / fan-in, attention's and
    those of a `Projection` 1 / fan-in; recurrent weights are orthogonal per gate, embeddings are unit normal, norms are
    1 and 0, biases 0. Modules it does not know, parametrised weights and second uses of a tied weight stay as they are,
    and the report says so.

    Args:
        activation: what the inputs of the layers have passed through; "linear" for none. Its matched gain g is used.
        keep: 1 - dropout probability between that activation and the layers (see `gain`).
        method: the distribution; "orthogonal" keeps gradients of every direction ("dynamical isometry"). "critical":
            normal weights and biases at the edge of chaos, for deep nets without norms or skips: a matched gain is not
            critical, and GELU, SiLU and Mish have no stable scale under it.
        slope: leaky ReLU's.
        is_inverted: how dropout scales (see `gain`).
        first: the activation before the first weight layer found, when it differs: "linear" if standardised data enter.
        bias_variance: for "critical" (see `critical`).
        forget: bias of the gates that keep the state (LSTM's forget, GRU's update gate).
        t_max: instead of `forget`, spread those biases so that memories span 1 … t_max steps ("chrono"). A layer that
            has a `t_max` of its own, as those of `Recurrent`, keeps it where none is given.
        generator: source of the random numbers; default the global one.
    Raises:
        ValueError: unknown activation or method, keep outside (0, 1], lazy layers that have no shape yet.
    Source: He et al. 2015, arXiv:1502.01852; Saxe et al. 2014, arXiv:1312.6120; chrono: Tallec & Ollivier 2018,
        arXiv:1804.11188, eq. 16.
    """
    if method not in METHODS:
        raise ValueError(f"no initialisation is called {method!r}; expected one of {', '.join(METHODS)}")
    plan = _plan(activation, keep, method, slope, is_inverted, bias_variance, forget, t_max, generator)
    entry = plan if first is None else plan.entered_by(first)
    done: set[int] = set()
    report: list[Initialised] = []
    with torch.no_grad():
        for name, layer in module.named_modules():
            own = dict(layer.named_parameters(recurse=False))
            if not own:
                continue
            lines = _fill(layer, own, entry, done)
            report += [Initialised(f"{name}.{line.name}" if name else line.name, *line[1:]) for line in lines]
            if isinstance(layer, _WEIGHT_LAYERS):
                entry = plan
    return report


def fan_in(layer: nn.Module) -> float:
    """How many terms add up in one output number: channels × kernel size / groups.

    In a transposed convolution a stride s spreads the kernel over s outputs, so that each sums kernel / s terms on
    average. A signal sampled k times faster needs a k times longer kernel, and then k times smaller variance.
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features
    assert isinstance(layer, nn.modules.conv._ConvNd)
    n_terms = layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    return n_terms / math.prod(layer.stride) if layer.transposed else n_terms


def orthogonal_(weight: Tensor, factor: float = 1.0, n_blocks: int = 1, generator: Generator | None = None) -> Tensor:
    """Fills a weight in place with orthogonal matrices, Haar distributed, times `factor`.

    Wide blocks have orthonormal rows. Tall ones have orthonormal columns times √(rows / columns), so that either way
    an input's mean square is handed on times factor², and the entries have variance factor² / fan-in.

    Args:
        weight: [n_blocks · n_out, fan-in, …]; later dimensions count as fan-in.
        n_blocks: equal parts of the rows, orthogonal each (the gates of a recurrent net).
    Source: Saxe et al. 2014, arXiv:1312.6120; unbiased by the signs of R: Mezzadri 2007, arXiv:math-ph/0609050.
    """
    with torch.no_grad():
        for block in weight.chunk(n_blocks):
            rows, columns = len(block), block[0].numel()
            shape = (max(rows, columns), min(rows, columns))
            noise = torch.randn(shape, generator=generator, dtype=torch.float64, device=weight.device)
            q, r = torch.linalg.qr(noise)
            q = q * r.diagonal().sign()
            q = q if rows >= columns else q.T
            block.copy_((q * factor * max(1.0, math.sqrt(rows / columns))).reshape(block.shape))
    return weight


@dataclass(frozen=True)
class _Plan:
    """What the layers share: the variance a weight gets per fan-in, the biases, and where numbers come from."""

    weight_variance: float
    bias_variance: float
    target: float  # second moment that hidden layers hold: 1, or the critical one
    method: Method
    forget: float
    t_max: int | None
    generator: Generator | None
    gain_of: Callable[[str], float]

    def entered_by(self, first: str) -> _Plan:
        """The plan of the layer whose inputs are `first` of a unit signal and that must give the target."""
        variance = (self.target - self.bias_variance) * self.gain_of(first) ** 2
        return replace(self, weight_variance=variance)

    def with_variance(self, variance: float) -> _Plan:
        return replace(self, weight_variance=variance)

    def draw(self, weight: Tensor, n_terms: float, n_blocks: int = 1) -> float:
        """Fills `weight` with variance weight_variance / n_terms and gives back the standard deviation."""
        std = math.sqrt(self.weight_variance / n_terms)
        if self.method == "orthogonal":
            # orthogonal_ counts the tensor's own columns as fan-in, which a transposed kernel or a stride is not.
            orthogonal_(weight, std * math.sqrt(weight[0].numel()), n_blocks, self.generator)
        elif self.method == "uniform":
            weight.uniform_(-math.sqrt(3) * std, math.sqrt(3) * std, generator=self.generator)
        elif self.method == "truncated":
            std_before = std / _CUT_OFF_STD
            nn.init.trunc_normal_(weight, 0.0, std_before, -2 * std_before, 2 * std_before, self.generator)
        else:
            weight.normal_(0.0, std, generator=self.generator)
        return std


def _plan(
    activation: str | Function,
    keep: float,
    method: Method,
    slope: float,
    is_inverted: bool,
    bias_variance: float | None,
    forget: float,
    t_max: int | None,
    generator: Generator | None,
) -> _Plan:
    if t_max is not None and t_max < 3:
        raise ValueError(f"t_max is {t_max}; expected the longest memory in steps, at least 3")
    weights, biases, target = gain(activation, keep, slope=slope, is_inverted=is_inverted) ** 2, 0.0, 1.0
    if method == "critical":
        weights, biases, target = critical(activation, bias_variance, slope=slope)
        weights, target = weights * (keep if is_inverted else 1 / keep), target or 1.0
    return _Plan(weights, biases, target, method, forget, t_max, generator, lambda name: gain(name, slope=slope))


_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_WEIGHT_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention, *_RECURRENT)
_N_GATES = {nn.GRU: 3, nn.GRUCell: 3, nn.LSTM: 4, nn.LSTMCell: 4}


def _fill(layer: nn.Module, own: dict[str, nn.Parameter], plan: _Plan, done: set[int]) -> Iterator[Initialised]:
    """Fills one layer's own parameters; one line each."""
    for name, parameter in own.items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"a {type(layer).__name__} is still lazy: run the model on one batch before initialise()")
        if id(parameter) in done:
            yield Initialised(name, "tied, filled before", math.nan)
            continue
        what, std = _fill_parameter(layer, name, parameter, plan)
        if std is not None:
            done.add(id(parameter))
        yield Initialised(name, what, math.nan if std is None else std)


def _fill_parameter(layer: nn.Module, name: str, weight: Tensor, plan: _Plan) -> tuple[str, float | None]:
    if isinstance(layer, _RECURRENT):
        return _fill_recurrent(layer, name, weight, plan)
    if isinstance(layer, nn.MultiheadAttention):
        return _fill_attention(name, weight, plan)
    # torch's attention marks its output projection by this type.
    if isinstance(layer, Projection | nn.modules.linear.NonDynamicallyQuantizableLinear):
        return _fill_kernel(layer, name, weight, plan.with_variance(1.0))
    if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
        return _fill_kernel(layer, name, weight, plan)
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return _fill_embedding(layer, weight, plan)
    if type(layer).__name__.endswith("Norm") or isinstance(layer, nn.modules.batchnorm._NormBase):
        value = 0.0 if "bias" in name else 1.0
        weight.fill_(value)
        return f"norm, {value:g}", 0.0
    return f"{type(layer).__name__}, left as it is", None


def _fill_kernel(layer: Any, name: str, weight: Tensor, plan: _Plan) -> tuple[str, float | None]:
    if name == "bias":
        std = math.sqrt(plan.bias_variance)
        weight.normal_(0.0, std, generator=plan.generator) if std else weight.zero_()
        return "bias", std
    if name != "weight":
        return f"{type(layer).__name__}, left as it is", None
    n_terms = fan_in(layer)
    groups = getattr(layer, "groups", 1)
    if getattr(layer, "transposed", False) and groups == 1:
        weight = weight.transpose(0, 1)  # rows are outputs
    return f"{plan.method}, fan-in {n_terms:g}", plan.draw(weight, n_terms, groups)


def _fill_embedding(layer: Any, weight: Tensor, plan: _Plan) -> tuple[str, float | None]:
    weight.normal_(0.0, 1.0, generator=plan.generator)
    if layer.padding_idx is not None:
        weight[layer.padding_idx] = 0
    return "embedding, unit normal", 1.0


def _fill_attention(name: str, weight: Tensor, plan: _Plan) -> tuple[str, float | None]:
    if "weight" in name:
        n_terms = weight.shape[1]
        plan = plan.with_variance(1.0)
        stds = [plan.draw(part, n_terms) for part in weight.chunk(3 if name == "in_proj_weight" else 1)]
        return f"attention projection, {plan.method}, fan-in {n_terms}", stds[0]
    if name == "in_proj_bias":
        weight.zero_()
        return "bias", 0.0
    return "MultiheadAttention, left as it is", None


def _fill_recurrent(layer: Any, name: str, weight: Tensor, plan: _Plan) -> tuple[str, float | None]:
    n_gates = next((n for kind, n in _N_GATES.items() if isinstance(layer, kind)), 1)
    if name.startswith("weight_hh"):
        orthogonal_(weight, n_blocks=n_gates, generator=plan.generator)
        return f"orthogonal, {n_gates} gates", 1 / math.sqrt(weight.shape[1])
    if name.startswith("weight_hr"):
        orthogonal_(weight, generator=plan.generator)
        return "orthogonal projection", 1 / math.sqrt(weight.shape[1])
    if name.startswith("weight_ih"):
        return _fill_recurrent_input(layer, name, weight, n_gates, plan)
    weight.zero_()
    if n_gates == 1:
        return "bias", 0.0
    if plan.t_max is None:  # a net may bring its own
        plan = replace(plan, t_max=getattr(layer, "t_max", None))
    return _fill_gate_bias(name, weight, n_gates, plan)


def _fill_recurrent_input(layer: Any, name: str, weight: Tensor, n_gates: int, plan: _Plan) -> tuple[str, float]:
    """Layers above the first receive states, not activations, and the dropout between them."""
    is_first = "_l" not in name or "_l0" in name
    variance = plan.weight_variance if is_first else 1.0 - layer.dropout
    n_terms = weight.shape[1]
    stds = [plan.with_variance(variance).draw(gate, n_terms) for gate in weight.chunk(n_gates)]
    return f"{plan.method}, fan-in {n_terms}", stds[0]


def _fill_gate_bias(name: str, bias: Tensor, n_gates: int, plan: _Plan) -> tuple[str, float]:
    """The gate that keeps the state starts open: LSTM's second (i, f, g, o), GRU's second (r, z, n; z keeps)."""
    if not name.startswith("bias_ih"):  # torch adds two biases: one of them carries the value
        return "bias", 0.0
    gates = bias.chunk(n_gates)
    if plan.t_max is None:
        gates[1].fill_(plan.forget)
        return f"bias, forget {plan.forget:g}", 0.0
    gates[1].uniform_(1, plan.t_max - 1, generator=plan.generator).log_()
    if n_gates == 4:
        gates[0].copy_(-gates[1])
    return f"bias, chrono 1 … {plan.t_max} steps", 0.0
