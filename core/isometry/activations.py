"""Activations and what they do to a Gaussian signal: the gain that keeps its size, the variances at the edge of chaos.

Every expectation here is over z ~ N(0, 1), by quadrature in float64: exact to about 1e-12 for every activation offered.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]

LEAKY_SLOPE = 0.01

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}

ELEMENTWISE: tuple[type[nn.Module], ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink),
)
"""torch's activations that work number by number, without weights and without a jump."""


class Critical(NamedTuple):
    """The edge of chaos: fan-in times weight variance, bias variance, and the second moment that then stays put."""

    weight_variance: float
    bias_variance: float
    second_moment: float


def activation_named(activation: str | Function, slope: float = LEAKY_SLOPE) -> Function:
    """The activation as a fresh module; a function is handed back as it is.

    Args:
        slope: of leaky ReLU's negative side; the others ignore it.
    Raises:
        ValueError: no activation of this name.
    """
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation is called {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    return nn.LeakyReLU(slope) if activation == "leaky_relu" else ACTIVATIONS[activation]()


@cache
def gain(
    activation: str | Function,
    keep: float = 1.0,
    *,
    slope: float = LEAKY_SLOPE,
    is_inverted: bool = True,
    second_moment: float = 1.0,
) -> float:
    """The factor g for which weights of variance g² / fan-in give a unit second moment to the next layer.

    The signal between two layers is z -> f(z) -> dropout -> W·: its second moment E[f(z)²] is divided by `keep` by
    dropout with inverted scaling (torch's), multiplied by `keep` by dropout that only sets to zero. g undoes both.
    For sigmoid, tanh and SELU this scale is stable, for ReLU indifferent; for GELU, SiLU and Mish a deviation from it
    grows from layer to layer (`growth` > 1), so that deep nets without norms want `critical` instead.

    Args:
        keep: 1 - dropout probability between f and W, in (0, 1].
        is_inverted: dropout divides by `keep` in training, as torch's does.
        second_moment: of z; 1 where every layer is under the matched gain.
    Source: He et al. 2015, arXiv:1502.01852, eq. 10, for any activation; with dropout: Hendrycks & Gimpel 2016,
        arXiv:1607.02488, and Pretorius et al. 2018, arXiv:1811.00293.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}; expected 0 < keep <= 1 (keep = 1 - dropout probability)")
    dropout = 1 / keep if is_inverted else keep
    return 1 / math.sqrt(gaussian_moments(activation, second_moment, slope).square * dropout)


def growth(activation: str | Function, *, slope: float = LEAKY_SLOPE) -> float:
    """What a small relative deviation of the second moment is multiplied by per layer under the matched gain.

    Below 1 the scale heals itself; above 1 it runs away with depth (SiLU 1.17: 2,800-fold in 50 layers).
    """
    moments = gaussian_moments(activation, 1.0, slope)
    return moments.slope_along / moments.square


def steepest(activation: str | Function, *, slope: float = LEAKY_SLOPE) -> float:
    """sup |f'| over all inputs: sigmoid 0.25, tanh and ReLU 1, GELU 1.129, SiLU 1.0998, Mish 1.0885, SELU 1.758.

    Searched for on a grid that is fine around 0, then refined; infinite if the slope still rises where the grid ends.

    Args:
        activation: works number by number; a module's parameters are read as they are now.
    """
    function = _in_double(activation_named(activation, slope))
    far = np.geomspace(1e-9, 1e6, 1501)
    x = torch.from_numpy(np.unique(np.concatenate([-far, np.linspace(-12, 12, 24001), far])))
    slopes = _slopes(function, x)
    best = int(slopes.argmax())
    within = _slopes(function, x[x.abs() < 0.99e6]).max().item()
    if slopes[best].item() > within * (1 + 1e-6):
        return math.inf
    for _ in range(3):
        low, high = x[max(best - 1, 0)].item(), x[min(best + 1, len(x) - 1)].item()
        x = torch.linspace(low, high, 1001, dtype=torch.float64)
        best = int(_slopes(function, x).argmax())
    return max(within, _slopes(function, x).max().item())


@cache
def critical(activation: str | Function, bias_variance: float | None = None, *, slope: float = LEAKY_SLOPE) -> Critical:
    """Weight and bias variance at which two nearby signals neither merge nor part, and gradients keep their size.

    Solved for the second moment K: K = σ_w² E[f(√K z)²] + σ_b² and σ_w² E[f'(√K z)²] = 1. With no bias variance given
    a third condition fixes it: K itself must be marginal, E[f(√K z) f''(√K z)] = 0. ReLU and its kin are marginal at
    every K (reported as 1); for tanh and SELU only K -> 0 is, where the signal decays slowly, as 1 / depth.

    Raises:
        ValueError: no such point (sigmoid without a given bias variance).
    Source: Poole et al. 2016, arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Roberts, Yaida & Hanin 2022,
        "The Principles of Deep Learning Theory", arXiv:2106.10165, section 5.
    """
    if bias_variance is not None and bias_variance < 0:
        raise ValueError(f"bias_variance is {bias_variance}; expected 0 or more")
    if bias_variance is None:
        second_moment = _marginal_second_moment(activation, slope)
    else:
        second_moment = _second_moment_with_bias(activation, bias_variance, slope)
    at_zero = second_moment == 0
    moments = gaussian_moments(activation, 1e-14 if at_zero else second_moment, slope)
    weight_variance = 1 / moments.slope
    implied = 0.0 if at_zero else second_moment - weight_variance * moments.square
    return Critical(weight_variance, implied if bias_variance is None else bias_variance, second_moment)


def _in_double(function: Function) -> Function:
    return copy.deepcopy(function).double() if isinstance(function, nn.Module) else function


def _slopes(function: Function, x: Tensor) -> Tensor:
    """|f'| at every x."""
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(x).sum(), x)[0].abs()


class Moments(NamedTuple):
    """Of an activation f under Gaussian input √K z."""

    square: float  # E[f(√K z)²]
    slope: float  # E[f'(√K z)²]
    slope_along: float  # dE[f(√K z)²] / dK = E[f f' z] / √K


_SMALLEST, _LARGEST = 1e-6, 1e4  # second moments between which a critical one is looked for


def gaussian_moments(activation: str | Function, second_moment: float, slope: float = LEAKY_SLOPE) -> Moments:
    """What an activation makes of a signal of second moment K, and of a gradient that comes back."""
    nodes, weights = _gaussian_quadrature()
    x = (math.sqrt(second_moment) * nodes).requires_grad_()
    with torch.enable_grad():
        y = activation_named(activation, slope)(x)
        dy = torch.autograd.grad(y.sum(), x)[0]
    y, x = y.detach(), x.detach()
    mean = torch.stack([y * y, dy * dy, y * dy * x / second_moment]) @ weights
    return Moments(*mean.tolist())


@cache
def _gaussian_quadrature() -> tuple[Tensor, Tensor]:
    """Nodes and weights of E over N(0, 1): Gauss–Legendre on panels that halve towards 0, where activations bend.

    Gauss–Hermite, the usual choice, converges slowly across a kink; split at 0, ReLU and SELU are exact.
    """
    edges = np.concatenate([[0.0], 2.0 ** np.arange(-9, 3), [6.0, 9.0, 13.0]])
    edges = np.unique(edges)
    t, w = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[:, None] / 2
    z = (edges[:-1, None] + half * (1 + t)).ravel()
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (half * w).ravel()
    nodes, weights = np.concatenate([-z[::-1], z]), np.concatenate([density[::-1], density])
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def _marginal_second_moment(activation: str | Function, slope: float) -> float:
    def imbalance(k: float) -> float:
        moments = gaussian_moments(activation, k, slope)
        return moments.slope_along / moments.slope - 1

    grid = np.geomspace(_SMALLEST, _LARGEST, 60).tolist()
    values = [imbalance(k) for k in grid]
    if max(abs(v) for v in values) < 1e-9:
        return 1.0
    for low, high, below, above in zip(grid, grid[1:], values, values[1:], strict=False):
        if below > 0 >= above or below < 0 <= above:
            return _bisect(imbalance, low, high)
    rest = activation_named(activation, slope)(torch.zeros((), dtype=torch.float64)).item()
    if values[0] < 0 and abs(rest) < 1e-12:
        return 0.0
    raise ValueError(f"{activation} has no scale that is critical along the signal, too; give a bias_variance")


def _second_moment_with_bias(activation: str | Function, bias_variance: float, slope: float) -> float:
    def surplus(k: float) -> float:
        moments = gaussian_moments(activation, k, slope)
        return k - moments.square / moments.slope - bias_variance

    grid = np.geomspace(_SMALLEST, _LARGEST, 60).tolist()
    values = [surplus(k) for k in grid]
    if bias_variance == 0 and abs(values[0]) < 1e-9:
        return 0.0 if max(abs(v) for v in values) > 1e-9 else 1.0
    for low, high, below, above in zip(grid, grid[1:], values, values[1:], strict=False):
        if below < 0 <= above:
            return _bisect(surplus, low, high)
    raise ValueError(f"{activation} has no critical point at bias_variance {bias_variance}")


def _bisect(function: Callable[[float], float], low: float, high: float) -> float:
    sign = math.copysign(1.0, function(low))
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sign * function(middle) > 0 else (low, middle)
    return (low + high) / 2
