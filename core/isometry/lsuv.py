"""Layer-sequential unit variance: scale each layer by what it really does to a batch of data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_SCALABLE = (nn.Linear, nn.modules.conv._ConvNd)


class Measured(NamedTuple):
    """One layer of the report: its qualified name, the output's standard deviation before and after, and a remark."""

    name: str
    before: float
    after: float
    note: str


def lsuv(
    model: nn.Module,
    batch: Any,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    *,
    target: float = 1.0,
    tolerance: float = 0.02,
    max_tries: int = 10,
    skip: Sequence[str] = (),
) -> list[Measured]:
    """Divides the weights of every linear and convolution layer by the spread of its output on `batch`, in the order
    in which the signal reaches them; one forward pass does all, for each layer hands on its corrected output.

    Start from orthogonal weights. The model runs in the mode it is in (dropout counts in training mode); the random
    state and the buffers (running statistics) are afterwards what they were. Layers that the batch does not reach,
    frozen, parametrised and constant ones (a head of zeros) stay as they are, and the report says so.

    Args:
        forward: how the batch goes through the model; default `model(batch)`.
        target: standard deviation of each layer's output over the whole batch.
        tolerance: relative deviation from it that is good enough.
        max_tries: rescalings per layer (a bias that dominates can keep the target out of reach).
        skip: patterns of qualified names of layers to leave alone.
    Source: Mishkin & Matas 2016, arXiv:1511.06422, algorithm 1.
    """
    if target <= 0 or tolerance <= 0 or max_tries < 1:
        raise ValueError(f"target {target}, tolerance {tolerance} and max_tries {max_tries} must be positive")
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, _SCALABLE)}
    report: dict[str, Measured] = {}

    def scaled(name: str) -> Callable[..., Tensor | None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if name in report:
                return None
            note = _untouchable(layer) or ("left out" if any(fnmatch(name, pattern) for pattern in skip) else "")
            if note:
                report[name] = Measured(name, _spread(output), _spread(output), note)
                return None
            output, report[name] = _fit_scale(name, layer, args, kwargs, output, target, tolerance, max_tries)
            return output

        return hook

    handles = [layer.register_forward_hook(scaled(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with _nothing_remembered(model):
            model(batch) if forward is None else forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    missed = [Measured(name, math.nan, math.nan, "not reached by this batch") for name in layers if name not in report]
    return [*report.values(), *missed]


def _fit_scale(
    name: str,
    layer: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Tensor,
    target: float,
    tolerance: float,
    max_tries: int,
) -> tuple[Tensor, Measured]:
    before = spread = _spread(output)
    if not (math.isfinite(spread) and spread > 0):
        return output, Measured(name, before, before, "constant or not finite, left as it is")
    for _ in range(max_tries):
        if abs(spread / target - 1) <= tolerance:
            return output, Measured(name, before, spread, "")
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight.data.mul_(target / spread)
        output = layer.forward(*args, **kwargs)
        spread = _spread(output)
    within = abs(spread / target - 1) <= tolerance
    return output, Measured(name, before, spread, "" if within else f"target not met in {max_tries} tries")


def _untouchable(layer: nn.Module) -> str:
    if nn.utils.parametrize.is_parametrized(layer, "weight"):
        return "parametrised, left as it is"
    weight = layer.weight
    return "" if isinstance(weight, nn.Parameter) and weight.requires_grad else "frozen, left as it is"


def _spread(output: Tensor) -> float:
    return output.detach().double().std(correction=0).item()


@contextmanager
def _nothing_remembered(model: nn.Module) -> Iterator[None]:
    """Runs the model without gradients and leaves its buffers and the random state as they were."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(), torch.no_grad():
        try:
            yield
        finally:
            present = dict(model.named_buffers())
            for name, buffer in buffers.items():
                present[name].copy_(buffer)
