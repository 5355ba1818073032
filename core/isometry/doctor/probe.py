"""A probe: what one layer's outputs show while it is watched. It reads, and leaves nothing behind in the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from isometry.doctor.leaves import first_float

_CHANNELS_SECOND = (_ConvNd, nn.modules.batchnorm._BatchNorm, _InstanceNorm, nn.GroupNorm)

NETWORK = "network"  # the name of the whole, where it holds weights of its own


class Probe:
    """Of one layer, over all its calls."""

    def __init__(self) -> None:
        self.n_numbers = 0
        self.norm = torch.zeros(())
        """Of the finite ones."""
        self.n_not_finite = torch.zeros((), dtype=torch.int64)
        self.n_values = 0
        """Of each unit."""
        self.silenced: Tensor | None = None
        """[n_units] whether the layer let none of the unit's non-zero inputs through; None for layers with weights."""

    def take(self, output: Tensor, unit: int) -> None:
        is_finite = output.isfinite()
        norm = norm_of(output.where(is_finite, 0))
        n_not_finite = output.numel() - is_finite.sum()
        self.norm = torch.hypot(self.norm.to(norm), norm)
        self.n_not_finite = self.n_not_finite.to(n_not_finite.device) + n_not_finite
        self.n_numbers += output.numel()
        self.n_values += output.numel() // max(output.shape[unit] if output.ndim else 1, 1)

    def compare(self, entered: Tensor, output: Tensor, unit: int) -> None:
        """`entered`: [n_units] whether the unit was given a number other than 0."""
        silenced = entered & ~is_alive(output, unit)
        if self.silenced is None or self.silenced.shape == silenced.shape:
            self.silenced = silenced if self.silenced is None else self.silenced & silenced


class Probes:
    """The probes of a network, by layer in the order of execution; its hooks live as long as `watching()`."""

    def __init__(self, model: nn.Module, *, may_hook: bool = True) -> None:
        self.of: dict[str, Probe] = {}
        self._unit = -1  # the axis of the units: 1 behind convolutions and their norms, the last one elsewhere
        self._entered: dict[str, Tensor] = {}
        self._handles = list(self._hooks(model)) if may_hook else []

    def remove(self) -> None:
        """Take every hook out of the network."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._entered.clear()

    def _hooks(self, model: nn.Module) -> Iterator[RemovableHandle]:
        for name, module in model.named_modules():
            has_own = any(True for _ in module.parameters(recurse=False))
            if isinstance(module, torch.jit.ScriptModule) or not (has_own or _is_alone(module)):
                continue
            name = name or NETWORK
            if not has_own:
                yield module.register_forward_pre_hook(self._before(name), with_kwargs=True)
            yield module.register_forward_hook(self._after(name, has_own))

    def _before(self, name: str) -> Any:
        def note(_module: nn.Module, args: Any, kwargs: Any) -> None:
            with _reading() as may_read:
                value = first_float((args, kwargs)) if may_read else None
                if value is not None and _is_readable(value):
                    self._entered[name] = is_alive(value, self._unit)  # now: the layer may work in place

        return note

    def _after(self, name: str, has_own: bool) -> Any:
        def note(module: nn.Module, _args: Any, output: Any) -> None:
            with _reading() as may_read:
                value = first_float(output) if may_read else None
                if value is None or not _is_readable(value):
                    return
                if has_own:
                    self._unit = 1 if isinstance(module, _CHANNELS_SECOND) else -1
                unit = self._unit if value.ndim > 1 else -1
                entered = self._entered.pop(name, None)
                if not has_own and (entered is None or entered.shape != _n_units(value, unit)):
                    return
                probe = self.of.setdefault(name, Probe())
                probe.take(value.detach(), unit)
                if entered is not None:
                    probe.compare(entered, value.detach(), unit)

        return note


def norm_of(tensor: Tensor) -> Tensor:
    """The 2-norm, in fp32 or better; neither tiny nor huge numbers are lost by squaring them."""
    size = tensor.abs() if tensor.is_complex() else tensor
    size = size.to(torch.promote_types(size.dtype, torch.float32))
    peak = size.abs().amax() if size.numel() else size.new_zeros(())
    return peak * torch.linalg.vector_norm(size / peak.where(peak > 0, 1))


def is_alive(tensor: Tensor, unit: int) -> Tensor:
    """[n_units] whether any number of the unit is not 0."""
    if tensor.ndim < 2:
        return tensor != 0
    axis = unit % tensor.ndim
    return (tensor != 0).transpose(0, axis).flatten(1).any(1)


def is_compiled(model: nn.Module) -> bool:
    """A hook that comes and goes would have a compiled network compiled again."""
    return any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules())


@contextmanager
def _reading() -> Iterator[bool]:
    """Whether a pass may be read: a training pass, not traced by a compiler or taken apart for a checkpoint."""
    may_read = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    with torch.no_grad():
        yield may_read


def _is_readable(value: Tensor) -> bool:
    """Not of a function transform (its tensors end with it), not in shards, not empty."""
    is_lent = is_functorch_wrapped_tensor(value)
    return not is_lent and value.numel() > 0 and not hasattr(value, "full_tensor")


def _n_units(value: Tensor, unit: int) -> torch.Size:
    return torch.Size([value.shape[unit]]) if value.ndim else torch.Size([])


def _is_alone(module: nn.Module) -> bool:
    return not any(True for _ in module.children())
