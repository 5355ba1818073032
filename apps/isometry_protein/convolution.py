"""Dilated convolutions in place of the recurrent net: the same features, layers and weights, but a bounded view."""

from __future__ import annotations

import torch
from isometry.blocks import residual_scale
from isometry.initialise import Projection, initialise
from torch import Tensor, nn
from torch.nn import functional

KERNEL = 3
PER_LAYER = (
    2  # convolutions: 2 · 3 · (2 w)² weights, as many as an LSTM layer of width w reading 2 w features both ways
)


class Dilated(nn.Module):
    """A stack of residual layers, each x + s F(x): norm, two convolutions with a GELU between, s = 1/√n_layers.

    From one convolution to the next the dilation doubles, so that a residue sees `reach` neighbours to either side, and
    none beyond.

    Args:
        n_in: features of a residue.
        width: half of the features handed on; with `is_causal` all of them.
        is_causal: a residue sees none after it.
        dropout: of every layer's input, one mask for all residues of a protein.
    Source: Yu & Koltun 2016, arXiv:1511.07122; residual and causal: van den Oord et al. 2016, arXiv:1609.03499.
    """

    def __init__(self, n_in: int, width: int, n_layers: int, *, is_causal: bool = False, dropout: float = 0.0):
        super().__init__()
        self.n_out = width if is_causal else 2 * width
        self.entry = Projection(n_in, self.n_out) if n_in != self.n_out else nn.Identity()
        scale = residual_scale(n_layers)
        dilations = [2 ** (PER_LAYER * i) for i in range(n_layers)]
        self.layers = nn.ModuleList(_Layer(self.n_out, d, scale, is_causal, dropout) for d in dilations)
        self.reach = (2 if is_causal else 1) * sum(d + 2 * d for d in dilations)
        initialise(self, "linear", keep=1 - dropout)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            initialise(layer.second, "gelu")

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[n, length, n_in] to [n, length, n_out]; zeros beyond a sequence's length, default all."""
        is_there = torch.ones_like(x[..., :1])
        if lengths is not None:
            is_there = (torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None])[..., None].to(x)
        x = self.entry(x)
        for layer in self.layers:
            x = layer(x, is_there)
        return x * is_there

    def read_in_chunks(self, x: Tensor, size: int) -> Tensor:
        """`forward` of unpadded sequences, `size` residues and what they see at a time: the same, in less memory."""
        outs = []
        for start in range(0, x.shape[1], size):
            first = max(start - self.reach, 0)
            out = self(x[:, first : start + size + self.reach])
            outs.append(out[:, start - first : start - first + size])
        return torch.cat(outs, 1)


class _Layer(nn.Module):
    def __init__(self, width: int, dilation: int, scale: float, is_causal: bool, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.second = nn.Conv1d(width, width, KERNEL, dilation=2 * dilation)
        self.scale, self.is_causal, self.dropout = scale, is_causal, dropout

    def forward(self, x: Tensor, is_there: Tensor) -> Tensor:
        read = self.norm(x)
        if self.dropout and self.training:
            read = read * functional.dropout(torch.ones_like(read[:, :1]), self.dropout)
        read = functional.gelu(self._seen(self.first, read * is_there))
        return x + self.scale * self._seen(self.second, read * is_there)

    def _seen(self, convolution: nn.Conv1d, x: Tensor) -> Tensor:
        """The convolution of [n, length, width], nothing beyond the ends."""
        beyond = convolution.dilation[0] * (KERNEL - 1)
        sides = (beyond, 0) if self.is_causal else (beyond // 2, beyond // 2)
        return convolution(functional.pad(x.transpose(1, 2), sides)).transpose(1, 2)
