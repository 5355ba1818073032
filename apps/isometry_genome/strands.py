"""Layers whose weights are tied so that the other strand gives the same features, channels and positions in reverse.

Reverse complement turns [n, length, channels] round in length and in channels, of the bases themselves (A, C, G, T
reversed are T, G, C, A) and of every feature after them. A layer commutes with that if its weights are the same when
all their dimensions are reversed; here half of them are learnt and the other half is their mirror image.
Source: Shrikumar et al. 2017, bioRxiv 10.1101/103663; in channel reversal Schiff et al. 2024, arXiv:2403.03234.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from isometry.attention import Rotary
from isometry.blocks import residual_scale
from isometry.initialise import Projection
from isometry.recurrent import Recurrent
from isometry.window_attention import GlobalTokens, WindowAttention
from torch import Tensor, nn
from torch.nn import functional

from isometry_genome.convolution import Convolution
from isometry_genome.pointwise import linear


def turned(x: Tensor) -> Tensor:
    """[n, length, channels] as the other strand has it; of bases, their reverse complement."""
    return x.flip(1, 2)


def mirrored(half: Tensor) -> Tensor:
    """The half and its mirror image in all dimensions, one after the other."""
    return torch.cat([half, half.flip(*range(half.ndim))])


class TiedLinear(nn.Linear):
    """A linear map that commutes with the reversal of features."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True):
        super().__init__(n_in, n_out // 2, bias)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, mirrored(self.weight), None if self.bias is None else mirrored(self.bias))


class TiedProjection(TiedLinear, Projection):
    """A `Projection` that commutes with the reversal of features."""


class TiedConvolution(Convolution):
    """A convolution that commutes with the reversal of positions and channels together."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int = 1):
        super().__init__(n_in, n_out // 2, kernel, dilation)

    def weights(self) -> tuple[Tensor, Tensor]:
        assert self.bias is not None
        return mirrored(self.weight), mirrored(self.bias)


class TiedNorm(nn.LayerNorm):
    """A layer norm that commutes with the reversal of features."""

    def __init__(self, width: int):
        super().__init__(width // 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], mirrored(self.weight), mirrored(self.bias), self.eps)


class TiedTokens(GlobalTokens):
    """Global tokens that read the same from either strand."""

    def __init__(self, n_global: int, width: int):
        super().__init__(n_global, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.tokens, self.tokens.flip(1)], 1).to(x.dtype)
        return torch.cat([tokens.expand(len(x), -1, -1), x], 1)


class PairedRotary(nn.Module):
    """Rotary positions in opposite senses for the heads of a pair: h counts from the start, its twin from the end."""

    def __init__(self, width: int):
        super().__init__()
        self.rotary = Rotary(width)

    def forward(self, x: Tensor) -> Tensor:
        """[n, n_heads, length, width] to the same."""
        ahead, back = x.chunk(2, 1)
        return torch.cat([self.rotary(ahead), self.rotary(back.flip(2, 3)).flip(2, 3)], 1)


class PairedAttention(WindowAttention):
    """Attention whose head h sees one strand as its twin, n_heads - 1 - h, sees the other."""

    def __init__(self, width: int, n_heads: int, *args: Any, **options: Any):
        super().__init__(width, n_heads, *args, **options)
        if self.kind == "cosine":
            self.log_temperature = nn.Parameter(self.log_temperature.detach()[: n_heads // 2].clone())
        tie(self)

    def temperatures(self) -> Tensor:
        return mirrored(super().temperatures())


class PairedRecurrent(nn.Module):
    """A recurrent net in both directions, where the backward one is the forward one reading the other strand.

    Args:
        width: features of a position, half of them from each direction; others as `Recurrent` has them.
    """

    def __init__(self, width: int, n_layers: int, *, dropout: float, t_max: int | None, forget: float):
        super().__init__()
        options = {"dropout": dropout, "t_max": t_max, "forget": forget}
        self.norms = nn.ModuleList(TiedNorm(width) for _ in range(n_layers))
        self.nets = nn.ModuleList(Recurrent(width, width // 2, **options) for _ in range(n_layers))
        self.scale = residual_scale(n_layers)

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, width] to the same."""
        for norm, net in zip(self.norms, self.nets, strict=True):
            read = norm(x)
            x = x + self.scale * torch.cat([net(read), turned(net(turned(read)))], -1)
        return x


class TiedHead(Projection):
    """A projection whose outputs come in the order `swap` from the other strand.

    Weights and biases are averaged over both strands; the learnt ones have no constraint.
    """

    def __init__(self, n_in: int, n_out: int, swap: Sequence[int]):
        super().__init__(n_in, n_out)
        self.swap = list(swap)

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight + self.weight[self.swap].flip(1)) / 2**0.5
        return functional.linear(x, weight, (self.bias + self.bias[self.swap]) / 2)


_TIED = (TiedLinear, TiedConvolution, TiedNorm, TiedHead)


def tie(module: nn.Module) -> None:
    """Replaces every layer below `module` that has weights by its tied form, begun as it was."""
    for name, child in list(module.named_children()):
        twin = None if isinstance(child, _TIED) else _twin(child)
        if twin is None:
            tie(child)
            continue
        twin.to(next(child.parameters()))
        with torch.no_grad():
            for own, whole in zip(twin.parameters(), child.parameters(), strict=True):
                own.copy_(whole[: len(own)])
        setattr(module, name, twin)


def _twin(layer: nn.Module) -> nn.Module | None:
    if isinstance(layer, Convolution):
        return TiedConvolution(layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.dilation[0])
    if isinstance(layer, nn.Linear):
        kind = TiedProjection if isinstance(layer, Projection) else TiedLinear
        return kind(layer.in_features, layer.out_features, layer.bias is not None)
    if isinstance(layer, nn.LayerNorm):
        return TiedNorm(layer.normalized_shape[0])
    return None
