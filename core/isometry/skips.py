"""Skips that end elsewhere: dense connections, where every layer sees all earlier ones, and the U-Net's.

With either, the way from the loss to the earliest layer is a few edges long, however deep the net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from isometry.activations import activation_named
from isometry.blocks import Residual, residual_scale
from isometry.initialise import initialise


class Dense(nn.Module):
    """Layer k reads the input and the outputs of all layers before it, side by side; so does what comes after.

    Args:
        layers: the k-th reads the sum of all widths before it; see `dense_mlp`.
        dim: the features' dimension.
    Source: Huang et al. 2017, arXiv:1608.06993, eq. 2.
    """

    def __init__(self, layers: Sequence[nn.Module], dim: int = -1):
        super().__init__()
        self.layers, self.dim = nn.ModuleList(layers), dim

    def forward(self, x: Tensor) -> Tensor:
        """The input and every layer's output, side by side."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], self.dim)
        return x


def dense_mlp(n_in: int, growth: int, n_layers: int, activation: str = "relu", *, dropout: float = 0.0) -> Dense:
    """Norm, activation and linear layer, densely connected: [..., n_in] to [..., n_in + n_layers · growth].

    Args:
        growth: features that each layer adds.
        dropout: before each linear layer, in [0, 1).
    """
    if min(n_in, growth, n_layers) < 1:
        raise ValueError(f"n_in {n_in}, growth {growth}, n_layers {n_layers}; expected positive numbers")
    widths = [n_in + k * growth for k in range(n_layers)]
    layers = [
        nn.Sequential(nn.LayerNorm(width), _function(activation), nn.Dropout(dropout), nn.Linear(width, growth))
        for width in widths
    ]
    net = Dense(layers)
    initialise(net, activation, keep=1 - dropout)
    return net


class UNet(nn.Module):
    """Encodes at ever coarser resolution, decodes back, and hands each level's encoding across to its decoder.

    Level i: `encode[i]`, then `down[i]` to the next level; at the bottom `middle`; on the way back `up[i]`, then
    `decode[i]` of what came up together with what `encode[i]` gave. Inputs whose length is no multiple of `multiple`
    are filled with zeros at the end, and the output is cut to the input's length.

    Args:
        encode, down, up, decode: one module per level, the finest first; see `unet_1d`.
        multiple: the product of the factors by which the levels coarsen.
        join: "concatenate" along dimension 1, where the decoder reads both, or "add", where they must have one shape.
    Source: Ronneberger et al. 2015, arXiv:1505.04597; there without padding, the encodings cut to fit.
    """

    def __init__(
        self,
        encode: Sequence[nn.Module],
        down: Sequence[nn.Module],
        middle: nn.Module,
        up: Sequence[nn.Module],
        decode: Sequence[nn.Module],
        *,
        multiple: int,
        join: Literal["concatenate", "add"] = "concatenate",
    ):
        super().__init__()
        if not len(encode) == len(down) == len(up) == len(decode) >= 1:
            raise ValueError(
                f"{len(encode)} encoders, {len(down)} ways down, {len(up)} ways up, {len(decode)} decoders; "
                "expected one of each for every level"
            )
        if join not in ("concatenate", "add"):
            raise ValueError(f"join is {join!r}; expected 'concatenate' or 'add'")
        if multiple < 1:
            raise ValueError(f"multiple is {multiple}; expected the product of the levels' factors")
        self.encode, self.down, self.middle = nn.ModuleList(encode), nn.ModuleList(down), middle
        self.up, self.decode = nn.ModuleList(up), nn.ModuleList(decode)
        self.multiple, self.join = multiple, join

    def forward(self, x: Tensor) -> Tensor:
        """[n, channels, length, …] to [n, other channels, length, …]: all dimensions from the third on are kept."""
        sizes = x.shape[2:]
        x = functional.pad(x, [n for size in reversed(sizes) for n in (0, -size % self.multiple)])
        encodings = []
        for encode, down in zip(self.encode, self.down, strict=True):
            encodings.append(encode(x))
            x = down(encodings[-1])
        x = self.middle(x)
        for i in reversed(range(len(self.up))):
            x = self.decode[i](self._joined(self.up[i](x), encodings[i], i))
        return x[(..., *(slice(size) for size in sizes))]

    def _joined(self, x: Tensor, encoding: Tensor, level: int) -> Tensor:
        has_to_fit = slice(2, None) if self.join == "concatenate" else slice(None)
        if x.shape[has_to_fit] != encoding.shape[has_to_fit]:
            raise ValueError(
                f"U-Net level {level}: the way up gives shape {tuple(x.shape)}, the encoder gave "
                f"{tuple(encoding.shape)}; up[{level}] must undo what down[{level}] does to the length"
            )
        return torch.cat([x, encoding], 1) if self.join == "concatenate" else (x + encoding) / math.sqrt(2)


def unet_1d(widths: Sequence[int], kernel: int = 5, activation: str = "gelu", *, n_blocks: int = 1) -> UNet:
    """A U-Net over sequences, [n, widths[0], length] to the same: each level halves the length.

    Args:
        widths: channels of each level, the finest first, at least two; the last is the bottom's.
        kernel: odd number of positions that a convolution sees.
        n_blocks: residual convolution blocks in each encoder, decoder and at the bottom.
    """
    if len(widths) < 2 or min(widths) < 1 or kernel < 1 or kernel % 2 == 0 or n_blocks < 1:
        raise ValueError(
            f"widths {list(widths)}, kernel {kernel}, n_blocks {n_blocks}; "
            "expected two or more widths, an odd kernel, at least one block"
        )

    scale = residual_scale(n_blocks * (2 * len(widths) - 1))  # blocks on the longest way through

    def blocks(width: int) -> list[nn.Module]:
        return [_conv_block(width, kernel, activation, scale) for _ in range(n_blocks)]

    def joining(width: int) -> nn.Module:
        return _begun(nn.Conv1d(2 * width, width, 1))

    fine, coarse = widths[:-1], widths[1:]
    return UNet(
        encode=[nn.Sequential(*blocks(width)) for width in fine],
        down=[_begun(nn.Conv1d(a, b, 2, stride=2)) for a, b in zip(fine, coarse, strict=True)],
        middle=nn.Sequential(*blocks(widths[-1])),
        up=[_begun(nn.ConvTranspose1d(b, a, 2, stride=2)) for a, b in zip(fine, coarse, strict=True)],
        decode=[nn.Sequential(joining(width), *blocks(width)) for width in fine],
        multiple=2 ** len(fine),
    )


def _conv_block(width: int, kernel: int, activation: str, scale: float) -> nn.Module:
    conv = _begun(nn.Conv1d(width, width, kernel, padding="same"), activation)
    return Residual(nn.Sequential(nn.GroupNorm(1, width), _function(activation), conv), scale)


def _begun(layer: nn.Module, activation: str = "linear") -> nn.Module:
    initialise(layer, activation)
    return layer


def _function(activation: str | Callable[[Tensor], Tensor]) -> nn.Module:
    function = activation_named(activation)
    assert isinstance(function, nn.Module)
    return function
