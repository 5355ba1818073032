"""Half precision computed in single: autocast decides what is fp16, and the products are made by fp32 kernels.

On a CPU the fp16 kernels are some ten times slower than those of fp32, and for some layers there are none (`nn.LSTM`).
A product of fp16 numbers, summed in fp32 and rounded to fp16 once, is what a GPU's matrix units give, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_PRODUCTS = {
    *(_ATEN.mm.default, _ATEN.addmm.default, _ATEN.bmm.default, _ATEN.baddbmm.default, _ATEN.mv.default),
    *(_ATEN.addmv.default, _ATEN.dot.default, _ATEN.convolution.default, _ATEN.convolution_backward.default),
}
_MISSING = "not implemented for 'Half'"


class SingleForHalf(TorchDispatchMode):
    """Within it, products of fp16 tensors are made in fp32 and rounded; so is whatever has no fp16 kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.rounded: set[int] = set()
        """Addresses of the storages that were rounded to fp16 on their way into an operation."""
        self._sizes: list[Tensor] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would guard every call against its compiler, at the price of a small operation; nothing is compiled."""
        return False

    @contextmanager
    def watching_sizes(self) -> Iterator[list[Tensor]]:
        """Notes the largest entry of every fp16 tensor that is made meanwhile, those inside a layer, too."""
        self._sizes = []
        try:
            yield self._sizes
        finally:
            self._sizes = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self._computed(func, args, kwargs or {})
        if self._sizes is not None and not func.is_view:
            for made in result if isinstance(result, tuple) else (result,):
                if isinstance(made, Tensor) and made.dtype is torch.float16 and made.numel():
                    self._sizes.append(torch.linalg.vector_norm(made, torch.inf))
        return result

    def _computed(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in _PRODUCTS and args[0].dtype is torch.float16:
            return _in_single(func, args, kwargs)
        if func is _ATEN._to_copy.default and kwargs.get("dtype") is torch.float16:
            self.rounded.add(args[0].untyped_storage().data_ptr())
        try:
            return func(*args, **kwargs)
        except RuntimeError as error:
            if _MISSING not in str(error):
                raise
            return _in_single(func, args, kwargs)


@contextmanager
def half_in_single(model: nn.Module, mode: SingleForHalf) -> Iterator[None]:
    """Within it, `half(model)` passes run in fp32 arithmetic, forward and backward; attention takes its plain form."""
    is_recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with (
        _without_mkldnn(is_recurrent),
        sdpa_kernel(SDPBackend.MATH),
        mode,
    ):
        yield


def half(model: nn.Module) -> torch.autocast:
    """Autocast to fp16 as the model's device has it; for the way forward alone, as in training."""
    return torch.autocast(next(model.parameters()).device.type, dtype=torch.float16)


@contextmanager
def _without_mkldnn(is_wanted: bool) -> Iterator[None]:
    """Its recurrent layers know no fp16; without it they are made of products and sigmoids."""
    if not is_wanted:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about TF32 on a GPU that is not there
        flags = torch.backends.mkldnn.flags(enabled=False)
        flags.__enter__()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags.__exit__(None, None, None)


def _in_single(func: Any, args: Any, kwargs: Any) -> Any:
    result = func(*(_single(value) for value in args), **{name: _single(value) for name, value in kwargs.items()})
    return _half(result)


def _single(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.dtype is torch.float16 else value
    return [_single(part) for part in value] if isinstance(value, list | tuple) else value


def _half(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.half() if value.dtype is torch.float32 else value
    return type(value)(_half(part) for part in value) if isinstance(value, list | tuple) else value
