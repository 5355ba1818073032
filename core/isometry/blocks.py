"""Blocks that give the gradient a direct path: residual, gated, stochastic depth; and a plain stack, well begun."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from isometry.initialise import Method, activation_named, critical, gain, initialise


class Residual(nn.Module):
    """x + s F(x): the derivative is 1 + s F', so the gradient has a path that no layer can block.

    With s = 1/√L over L blocks of unit gain the second moment grows at most (1 + 1/L)^L < e; with s = 1 it grows 2^L.

    Args:
        branch: F; hands back the shape it is given. Further arguments are passed on to it.
        scale: s; see `residual_scale`.
    Source: He et al. 2016, arXiv:1512.03385; the scale: Hayou et al. 2021, arXiv:2010.12859.
    """

    def __init__(self, branch: nn.Module, scale: float = 1.0):
        super().__init__()
        self.branch = branch
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(float(scale)))  # travels with the weights

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x + self.scale * _same_shape(self.branch(x, *args, **kwargs), x, self)


class GatedResidual(nn.Module):
    """x + g F(x) with one learnable number g: a net that starts as the identity and learns its own depth.

    At g = 0 the output is the input exactly, and the first gradient goes to g alone.

    Args:
        branch: F; hands back the shape it is given.
        start: initial g.
    Source: Bachlechner et al. 2021, "ReZero", arXiv:2003.04887; De & Smith 2020, arXiv:2002.10444.
    """

    def __init__(self, branch: nn.Module, start: float = 0.0):
        super().__init__()
        self.branch = branch
        self.gate = nn.Parameter(torch.tensor(float(start)))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x + self.gate * _same_shape(self.branch(x, *args, **kwargs), x, self)


class StochasticDepth(nn.Module):
    """F(x) or, with probability 1 - keep in training, nothing: sample by sample, along the first dimension.

    In a `Residual`, whole blocks are skipped, and the expected net is shallower than the one used for prediction.

    Args:
        branch: F.
        keep: probability that a sample's branch is kept, in (0, 1]; see `keep_at`.
        rescale: where keep is made up for: "training" divides by it there (as dropout does), "inference" multiplies by
            it there (as published).
    Source: Huang et al. 2016, arXiv:1603.09382, eqs. 2 and 5.
    """

    def __init__(self, branch: nn.Module, keep: float, rescale: Literal["training", "inference"] = "training"):
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep}; expected 0 < keep <= 1 (the probability that the branch is used)")
        if rescale not in ("training", "inference"):
            raise ValueError(f"rescale is {rescale!r}; expected 'training' or 'inference'")
        self.branch, self.keep, self.rescale = branch, keep, rescale

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = self.branch(x, *args, **kwargs)
        if not self.training:
            return out * self.keep if self.rescale == "inference" else out
        if self.keep == 1:
            return out
        is_kept = torch.rand(len(out), device=out.device) < self.keep
        factor = is_kept.to(out.dtype) / (self.keep if self.rescale == "training" else 1.0)
        return out * factor.reshape(-1, *[1] * (out.ndim - 1))


class PreNorm(nn.Module):
    """F(norm(x)): inside a `Residual` the direct path stays free of the norm.

    Source: Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, branch: nn.Module, norm: nn.Module):
        super().__init__()
        self.norm, self.branch = norm, branch

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.branch(self.norm(x), *args, **kwargs)


def residual_scale(n_blocks: int) -> float:
    """1/√L: the branches' variances add up to about one signal, whatever the depth."""
    if n_blocks < 1:
        raise ValueError(f"n_blocks is {n_blocks}; expected at least 1")
    return 1 / math.sqrt(n_blocks)


def keep_at(block: int, n_blocks: int, last: float = 0.8) -> float:
    """The linear decay rule: block 1 … n_blocks is kept with probability 1 - block / n_blocks · (1 - last).

    Source: Huang et al. 2016, arXiv:1603.09382, eq. 4.
    """
    if not 1 <= block <= n_blocks or not 0 < last <= 1:
        raise ValueError(f"block {block} of {n_blocks} with last {last}; blocks count from 1, last is in (0, 1]")
    return 1 - block / n_blocks * (1 - last)


class Depth(NamedTuple):
    """How deep a residual net acts: each block's share |branch| / (|x| + |branch|), and their sum."""

    total: float
    blocks: dict[str, float]


def effective_depth(model: nn.Module, batch: Any, forward: Callable[[nn.Module, Any], Any] | None = None) -> Depth:
    """The sum of the relative branch sizes of all residual blocks, measured on a batch in evaluation mode.

    A block whose branch adds nothing counts 0, one whose branch drowns the input counts 1, like a plain layer.

    Args:
        forward: how the batch goes through the model; default `model(batch)`.
    Raises:
        ValueError: the batch reaches no residual block.
    """
    shares: dict[str, float] = {}

    def record(name: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            x = args[0].detach().double()
            branch = (output.detach().double() - x).norm().item()
            size = x.norm().item() + branch
            shares[name] = branch / size if size > 0 else 0.0

        return hook

    blocks = {n: m for n, m in model.named_modules() if isinstance(m, Residual | GatedResidual)}
    handles = [block.register_forward_hook(record(name)) for name, block in blocks.items()]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            model(batch) if forward is None else forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    if not shares:
        raise ValueError("this batch reaches no Residual or GatedResidual block, so there is no depth to report")
    return Depth(sum(shares.values()), shares)


def mlp(
    widths: Sequence[int],
    activation: str = "silu",
    *,
    dropout: float = 0.0,
    method: Method = "normal",
    bias: bool = True,
) -> nn.Sequential:
    """Linear layers with activation and dropout between them, initialised so that the signal keeps its size.

    The first layer expects inputs of unit second moment; the output, which no activation follows, has the same. SELU
    gets alpha dropout, which keeps mean and variance by itself. For more than about ten layers of GELU, SiLU or Mish
    choose method "critical".

    Args:
        widths: numbers of features from input to output, at least two.
        dropout: probability, in [0, 1).
    Source: initialisation as `initialise`; alpha dropout: Klambauer et al. 2017, arXiv:1706.02515.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths are {list(widths)}; expected at least an input and an output width, all positive")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}; expected 0 <= dropout < 1")
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths[:-1]):
        layers += [nn.Linear(n_in, n_out, bias), *_activated(activation, dropout)]
    net = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias))
    keep = 1.0 if activation == "selu" else 1 - dropout
    initialise(net, activation, keep=keep, method=method, first="linear")
    if method == "critical" and len(widths) > 2:
        _normalise_output(net, activation, keep, widths[-2])
    return net


def _normalise_output(net: nn.Sequential, activation: str, keep: float, n_in: int) -> None:
    """The layers before hold the critical second moment; the output shall have 1."""
    edge = critical(activation)
    first, last = net[0], net[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    if first.bias is None and edge.bias_variance > 0:
        raise ValueError(f"{activation} is critical only with random biases; let the net have biases")
    nn.init.normal_(last.weight, 0.0, gain(activation, keep, second_moment=edge.second_moment or 1.0) / math.sqrt(n_in))
    if last.bias is not None:
        nn.init.zeros_(last.bias)


def _activated(activation: str, dropout: float) -> list[nn.Module]:
    function = activation_named(activation)
    assert isinstance(function, nn.Module)
    if dropout == 0:
        return [function]
    return [function, nn.AlphaDropout(dropout) if activation == "selu" else nn.Dropout(dropout)]


def _same_shape(out: Tensor, x: Tensor, block: nn.Module) -> Tensor:
    if out.shape != x.shape:
        raise ValueError(
            f"{type(block).__name__}: the branch turns shape {tuple(x.shape)} into {tuple(out.shape)}; "
            "a residual branch must keep the shape, so put a projection before the block"
        )
    return out
