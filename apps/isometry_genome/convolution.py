"""Convolutions over [n, length, channels], and the residual block of the stem and the decoder."""

from __future__ import annotations

import torch
from isometry.blocks import GatedResidual, PreNorm, StochasticDepth
from isometry.initialise import initialise
from torch import Tensor, nn
from torch.nn import functional


class Convolution(nn.Conv1d):
    """[n, length, n_in] to [n, length, n_out]: each position sees `kernel` positions around it, N beyond the ends.

    Args:
        kernel: odd.
    """

    is_causal = False
    """Position t sees none after it."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int = 1):
        super().__init__(n_in, n_out, kernel, dilation=dilation)

    def weights(self) -> tuple[Tensor, Tensor]:
        assert self.bias is not None
        return self.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weights()
        beyond = self.dilation[0] * (self.kernel_size[0] - 1)
        if self.is_causal:
            x = functional.pad(x, (0, 0, beyond, 0))
        # As an image of height 1 whose channels lie innermost, which spares a copy before and after.
        image = x.transpose(1, 2)[:, :, None]
        padding = (0, 0 if self.is_causal else beyond // 2)
        out = functional.conv2d(image, weight[:, :, None], bias, padding=padding, dilation=(1, self.dilation[0]))
        return out.squeeze(2).transpose(1, 2)


def block(width: int, kernel: int, dilation: int = 1, keep: float = 1.0, dropout: float = 0.0) -> nn.Module:
    """x + g F(x): norm, GELU, convolution; the gate g starts at 0."""
    convolution = Convolution(width, width, kernel, dilation)
    initialise(convolution, "gelu", keep=1 - dropout)
    dropped = [nn.Dropout(dropout)] if dropout else []
    branch: nn.Module = PreNorm(nn.Sequential(nn.GELU(), *dropped, convolution), nn.LayerNorm(width))
    return GatedResidual(branch if keep == 1 else StochasticDepth(branch, keep))


def merged(x: Tensor, factor: int) -> Tensor:
    """[n, length, width] to [n, length / factor, factor · width]: neighbours side by side."""
    return x.reshape(len(x), x.shape[1] // factor, factor * x.shape[2])


def spread(x: Tensor, factor: int) -> Tensor:
    """What `merged` did, undone."""
    return x.reshape(len(x), x.shape[1] * factor, x.shape[2] // factor)


def delayed(x: Tensor) -> Tensor:
    """What position t holds is moved to t + 1; zeros come first."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
