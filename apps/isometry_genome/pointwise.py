"""Linear maps of many positions as convolutions that see one position: the same numbers, up to rounding, sooner.

torch multiplies matrices with MKL, which is slow on AMD's processors, and convolves with oneDNN, which is not. What
that makes of a training step: `benchmarks/genome_cost.py`.
"""

from __future__ import annotations

import torch
from isometry.initialise import Projection
from torch import Tensor, nn
from torch.nn import functional

_IMAGES = 16  # from so many on torch leaves a convolution of one position to oneDNN, even on one thread
_FEWEST = 512  # positions; below, what is prepared for each new shape costs more than is won


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As torch's: [..., n_in] to [..., n_out] by [n_out, n_in] weights."""
    if not is_quick(x, weight):
        return functional.linear(x, weight, bias)
    out = functional.conv2d(_images(x), weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def is_quick(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution will do it."""
    n_positions = x.numel() // max(x.shape[-1], 1)
    is_many = n_positions >= _FEWEST and n_positions % _IMAGES == 0 and min(weight.shape) >= _IMAGES
    return is_many and x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _images(x: Tensor) -> Tensor:
    """[..., channels] as images of height 1 whose channels lie innermost: nothing is copied."""
    return x.reshape(_IMAGES, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


class Pointwise(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class PointwiseProjection(Pointwise, Projection):
    """A `Projection`, as initialisation knows it."""


def quicken(module: nn.Module) -> None:
    """Replaces every plain linear layer below `module` by one that computes as above, with the very same weights."""
    for name, child in list(module.named_children()):
        kind = {nn.Linear: Pointwise, Projection: PointwiseProjection}.get(type(child))
        if kind is None:
            quicken(child)
            continue
        assert isinstance(child, nn.Linear)
        twin = kind(child.in_features, child.out_features, child.bias is not None, device="meta")
        twin.weight, twin.bias = child.weight, child.bias
        setattr(module, name, twin)
