"""What reads the ligand: a linear map, a perceptron, or a net along the time course."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from isometry.attention import TransformerBlock, sinusoidal
from isometry.blocks import residual_scale
from isometry.initialise import Projection, initialise
from isometry.recurrent import Recurrent
from torch import Tensor, nn

Kind = Literal["linear", "mlp", "convolution", "recurrent", "attention"]
ALONG_TIME = ("convolution", "recurrent", "attention")


class Flat(nn.Module):
    """All moments and channels at once, through a perceptron; of no layers: as they are."""

    def __init__(self, n_in: int, width: int, n_layers: int):
        super().__init__()
        sizes = [n_in, *[width] * n_layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.n_out = sizes[-1]
        initialise(self, "silu", first="linear")

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, channels] -> [n, n_out]"""
        x = x.flatten(1)
        for layer in self.layers:
            x = nn.functional.silu(layer(x))
        return x


class Convolution(nn.Module):
    """Convolutions along time; what they find is averaged over early, middle and late moments."""

    def __init__(self, n_in: int, width: int, n_layers: int, kernel: int, n_parts: int = 4):
        super().__init__()
        sizes = [n_in, *[width] * n_layers]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in pairwise(sizes))
        self.n_parts, self.n_out = n_parts, width * n_parts
        initialise(self, "silu", first="linear")

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, channels] -> [n, n_out]"""
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = nn.functional.silu(layer(x))
        return torch.cat([_mean(part) for part in x.tensor_split(self.n_parts, dim=2)], 1)


class Reader(nn.Module):
    """A recurrent net; what it holds at the end."""

    def __init__(self, n_in: int, width: int, n_layers: int, length: int):
        super().__init__()
        options = {"is_normed": n_layers > 1, "is_residual": n_layers > 1}
        self.net = Recurrent(n_in, width, n_layers, "gru", t_max=max(3, 2 * length), **options)
        self.n_out = self.net.n_out

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, channels] -> [n, n_out]"""
        return self.net(x)[:, -1]


class Attentive(nn.Module):
    """Every moment reads every other; the mean over moments."""

    def __init__(self, n_in: int, width: int, n_layers: int, n_heads: int, length: int):
        super().__init__()
        self.entry = Projection(n_in, width)
        initialise(self, "linear")
        scale = residual_scale(2 * n_layers)
        blocks = (TransformerBlock(width, n_heads, expansion=2, scale=scale) for _ in range(n_layers))
        self.blocks = nn.ModuleList(blocks)
        self.places: Tensor
        self.register_buffer("places", sinusoidal(length, width, base=float(max(length, 2))), persistent=False)
        self.n_out = width

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, channels] -> [n, n_out]"""
        x = self.entry(x) + self.places
        for block in self.blocks:
            x = block(x)
        return x.mean(1)


def encoder(
    kind: Kind, *, length: int, n_channels: int, width: int, n_layers: int, kernel: int, n_heads: int
) -> Flat | Convolution | Reader | Attentive:
    """The net of this kind, for ligands [n, length, n_channels]."""
    if kind == "convolution":
        return Convolution(n_channels, width, n_layers, kernel, min(4, length))
    if kind == "recurrent":
        return Reader(n_channels, width, n_layers, length)
    if kind == "attention":
        return Attentive(n_channels, width, n_layers, n_heads, length)
    return Flat(length * n_channels, width, n_layers if kind == "mlp" else 0)


def _mean(x: Tensor) -> Tensor:
    return x.mean(2)
