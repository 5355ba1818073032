"""From bases to bins by strided convolutions, and from bins back to bases: the two arms of a U-Net around the trunk."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from isometry.initialise import Projection, initialise
from torch import Tensor, nn
from torch.nn import functional

from isometry_genome.convolution import Convolution, block, delayed, merged, spread
from isometry_genome.levels import Level

Run = Callable[..., Tensor]
"""`run(module, *inputs)`: plainly, or forgetting what is inside until the gradient asks for it."""

BASE_KERNEL = 15  # bases that the first convolution sees: a motif's length


class Entrance(nn.Module):
    """Windows of bases, each `stride` after the one before it and four times as long, through one linear map."""

    is_causal = False

    def __init__(self, stride: int, width: int):
        super().__init__()
        self.stride, self.kernel = stride, 4 * stride
        self.linear = _begun(Projection(4 * self.kernel, width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, 4] to [n, length / stride, width]."""
        beyond = self.kernel - self.stride
        x = functional.pad(x, (0, 0, beyond, 0) if self.is_causal else (0, 0, beyond // 2, beyond // 2))
        return self.linear(x.unfold(1, self.kernel, self.stride).transpose(2, 3).flatten(2))


class Stem(nn.Module):
    """Encodes bases at every level: a linear map from cell to coarser cell, then a residual convolution.

    Args:
        n_found: features of the first cells, where these are given in place of bases.
    """

    def __init__(self, levels: list[Level], kernel: int, n_found: int | None = None):
        super().__init__()
        first = levels[0]
        entrance = Convolution(4, first.width, BASE_KERNEL) if first.resolution == 1 else None
        if n_found is not None:
            entrance = Projection(n_found, first.width)
        self.entrance = Entrance(*first) if entrance is None else _begun(entrance)
        self.factors = [b.resolution // a.resolution for a, b in pairwise(levels)]
        self.down = nn.ModuleList(
            _begun(Projection(factor * a.width, b.width))
            for factor, (a, b) in zip(self.factors, pairwise(levels), strict=True)
        )
        self.blocks = nn.ModuleList(block(level.width, kernel) for level in levels)

    def forward(self, x: Tensor, run: Run) -> list[Tensor]:
        """[n, length, 4] of unit size, N as zeros, to [n, length / resolution, width] of each level, finest first.

        Where the first cells are given, [n, cells, n_found] of these.
        """
        encodings = [run(self.blocks[0], self.entrance(x))]
        for factor, down, convolved in zip(self.factors, self.down, self.blocks[1:], strict=True):
            encodings.append(run(convolved, down(merged(encodings[-1], factor))))
        return encodings


class Decoder(nn.Module):
    """Brings bins back to finer cells, and joins at each level what the stem saw there.

    Args:
        levels: those of the stem.
        finest: where to stop.
        is_causal: what comes from a coarser cell is one cell late, since the cell's own bases may lie ahead.
    """

    def __init__(self, levels: list[Level], finest: int, kernel: int, is_causal: bool):
        super().__init__()
        self.levels, self.is_causal = levels, is_causal
        self.steps = [i for i in range(len(levels) - 1) if levels[i].resolution >= finest][::-1]
        fine_and_coarse = [(levels[i], levels[i + 1]) for i in self.steps]
        self.up = nn.ModuleList(
            _begun(Projection(coarse.width, fine.width * (coarse.resolution // fine.resolution)))
            for fine, coarse in fine_and_coarse
        )
        self.across = nn.ModuleList(_begun(Projection(fine.width, fine.width)) for fine, _ in fine_and_coarse)
        self.blocks = nn.ModuleList(block(fine.width, kernel) for fine, _ in fine_and_coarse)

    def forward(self, bins: Tensor, encodings: list[Tensor], run: Run) -> dict[int, Tensor]:
        """Bins and what the stem saw to [n, length / resolution, width] by resolution."""
        cells = {self.levels[-1].resolution: bins}
        x = bins
        for i, up, across, convolved in zip(self.steps, self.up, self.across, self.blocks, strict=True):
            factor = self.levels[i + 1].resolution // self.levels[i].resolution
            coarse = up(delayed(x) if self.is_causal else x)
            x = run(convolved, (spread(coarse, factor) + across(encodings[i])) / math.sqrt(2))
            cells[self.levels[i].resolution] = x
        return cells


def _begun(layer: nn.Module) -> nn.Module:
    initialise(layer, "linear")
    return layer


def make_causal(module: nn.Module) -> None:
    """No convolution below looks ahead any more."""
    for layer in module.modules():
        if isinstance(layer, Convolution | Entrance):
            layer.is_causal = True
