"""Holding a network still: whatever an examination does to it, afterwards it is bit for bit what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from isometry.randomness import preserved_randomness

_HOOKS = tuple(name for name in vars(nn.Module()) if "hooks" in name and isinstance(vars(nn.Module())[name], dict))


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """Weights, buffers, gradients, modes, frozen parameters, hooks and random state are afterwards as they were.

    So are number formats and devices; buffers registered inside are gone. Inside, no activation works in place: what a
    layer hands on stays as the layer made it.
    """
    tensors = [
        _Held(tensor, tensor.data, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())
    ]
    python = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    # compiled ones cannot be replaced
    buffers = [(module, dict(module._buffers), set(module._non_persistent_buffers_set)) for module in python]
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    hooks = [(module, name, dict(getattr(module, name))) for module in python for name in _HOOKS]
    in_place = [module for module in model.modules() if getattr(module, "inplace", False) is True]
    for parameter in model.parameters():
        parameter.grad = None
    for module in in_place:
        module.inplace = False  # type: ignore[assignment]
    with preserved_randomness():
        try:
            yield
        finally:
            for module, own, not_saved in buffers:
                _restore(module._buffers, own)
                module._non_persistent_buffers_set = not_saved
            _put_back(tensors)
            for parameter, gradient, requires_grad in gradients:
                parameter.requires_grad_(requires_grad)
                parameter.grad = gradient
            for module, mode in modes:
                module.training = mode
            for module in in_place:
                module.inplace = True  # type: ignore[assignment]
            for module, name, own in hooks:
                _restore(getattr(module, name), own)


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Operations whose fast kernels have no forward-mode derivative take their plain form: `nn.LSTM`, attention."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    mkldnn, *_ = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)  # pyright: ignore
    with ExitStack() as stack:
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            torch.backends.mkldnn.set_flags(_enabled=mkldnn, _fp32_precision=None)  # pyright: ignore


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers below the smallest normal one count as 0: on a CPU a collapsed network is else some 40 times slower."""
    was_on = _flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


def norms_follow_the_batch(model: nn.Module) -> None:
    """Running statistics become those of the next batch alone, so that evaluation mode acts as training mode does."""
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            module.reset_running_stats()
            module.momentum = None  # a cumulative mean; of one batch: that batch


def norm_momenta(model: nn.Module) -> list[tuple[_NormBase, float | None]]:
    return [(module, module.momentum) for module in model.modules() if isinstance(module, _NormBase)]


class _Held(NamedTuple):
    tensor: Tensor
    memory: Tensor
    """Where its numbers lie; `module.to` lays them elsewhere."""
    before: Tensor


def _put_back(tensors: list[_Held]) -> None:
    with torch.no_grad():
        for tensor, memory, before in tensors:
            if tensor.dtype != memory.dtype or tensor.device != memory.device:
                tensor.data = memory
            if not torch.equal(tensor, before):
                tensor.copy_(before)


def _restore(present: Any, before: dict[Any, Any]) -> None:
    """Compared by identity: `==` of tensors goes number by number."""
    if [(key, id(value)) for key, value in present.items()] != [(key, id(value)) for key, value in before.items()]:
        present.clear()
        present.update(before)


def _flushes_denormals() -> bool:
    """torch tells nobody: half of the smallest normal number says it."""
    return bool(torch.tensor(1.2e-38) * torch.tensor(0.5) == 0)
