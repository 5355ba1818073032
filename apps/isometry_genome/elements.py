"""Between stem and trunk, where labels are few: cells say which element they are, and the trunk reads that alone.

What helps to learn are shares of cells that annotated elements cover. The stem says them of each cell; the trunk reads
how much of each lies around a bin, weighted by exp(-distance / λ) of several learnt λ, and no other features: the many
bases cannot be learnt by heart through so few numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from isometry.initialise import Projection, initialise
from torch import Tensor, nn
from torch.nn import functional

from isometry_genome.convolution import block
from isometry_genome.strands import TiedHead, tie

if TYPE_CHECKING:
    from isometry_genome.model import ModelSettings

N_FREE = 2
"""Elements without a name, whose labels are what the trunk makes of them."""
REACHES = (2e3, 5e3, 12e3, 30e3, 80e3)
"""Bases: λ at the start."""
DILATIONS = (1, 2)
DROPPED = 0.1
"""Share of the shares, and of features, that a step of training does without."""
EVIDENCE = 3.0
"""By so much a weight of a site counts for more than it is, so that it is learnt from few."""
BATCHES_REMEMBERED = 50
"""Training batches over which features that the trunk reads are counted, about."""
LEAST_VARIANCE = 1e-3
"""Added to that of a feature, so that what hardly ever changes does not count for much when it does."""
KNOWN = 4.0
"""Sum of squares of a base known for certain, less N, as the network is given it."""


class Elements(nn.Module):
    """Cells of the stem to shares of elements, and to bins of the trunk.

    Args:
        n_found: features of sites; log-odds, which a logit may add up as they are.
        swap: which track each becomes on the other strand.
    """

    def __init__(self, s: ModelSettings, swap: list[int], n_found: int | None):
        super().__init__()
        self.n_cells, self.bin, self.n_shares = s.bin // s.resolution, s.bin, s.n_shares
        self.sight: int | None = None
        if not s.n_shares:
            raise ValueError(
                "the trunk reads elements, and no track is a share of cells; they are filled from the data"
            )
        both = [track - (s.n_tracks - s.n_shares) for track in (*swap, *range(s.n_tracks, s.n_tracks + N_FREE))]
        both, width, is_paired = both[s.n_tracks - s.n_shares :], s.width, s.strands == "equivariant"
        self.blocks = nn.Sequential(*(block(width, s.kernel, d, dropout=DROPPED) for d in DILATIONS))
        self.norm = nn.LayerNorm(width)
        if is_paired:
            tie(self)
        self.head = TiedHead(width, len(both), both) if is_paired else Projection(width, len(both))
        self.of_sites_head = None
        if n_found is not None:
            self.of_sites_head = TiedHead(n_found, len(both), both) if is_paired else Projection(n_found, len(both))
            nn.init.zeros_(self.of_sites_head.weight)
            nn.init.zeros_(self.of_sites_head.bias)
        self.log_reaches = nn.Parameter(torch.tensor(REACHES).log())
        n_read = (len(both) + 1) * (len(REACHES) + 1)
        turned_order = self._swap(both) if is_paired else None
        self.standard = Standard(n_read, turned_order)
        self.read = Reading(n_read, s.width)
        self.read.swap = turned_order
        initialise(self.head, "linear")
        shares = [min(max(share, 1e-4), 0.9) for share in s.track_means[-s.n_shares :]] or [0.1] * s.n_shares
        self.means: Tensor
        self.scales: Tensor
        known = torch.tensor([*shares, *[0.1] * N_FREE])
        known[: self.n_shares] = (known + known[both])[: self.n_shares] / 2
        self.register_buffer("means", known, persistent=False)
        self.register_buffer("scales", (known * (1 - known)).sqrt(), persistent=False)
        with torch.no_grad():
            self.head.weight *= 0.1
            self.head.bias.copy_((known / (1 - known)).log())

    def _swap(self, both: list[int]) -> list[int]:
        n = len(both) + 1
        return [n * k + i for k in range(len(REACHES) + 1) for i in (*both, len(both))]

    def forward(self, cells: Tensor, found: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of cells, the sites in them and their bases to [n, n_cells, n_shares], and [n, n_bins, width]."""
        logits = self.head(functional.gelu(self.norm(self.blocks(cells))))
        if self.of_sites_head is not None:
            logits = logits + EVIDENCE * self.of_sites_head(found.unflatten(1, (cells.shape[1], -1)).sum(2))
        shares = logits.sigmoid()
        known = x.square().sum(-1).unflatten(1, (-1, self.bin)).mean(2) / KNOWN
        held = (shares - self.means) / self.scales
        held = torch.cat([held.unflatten(1, (-1, self.n_cells)).mean(2) * known[..., None], known[..., None]], -1)
        around = functional.dropout(self.standard(self._around(held)), DROPPED, self.training)
        return shares[..., : self.n_shares], self.read(around)

    @contextmanager
    def seeing(self, bases: int | None) -> Iterator[None]:
        """Bins read elements up to so many bases away alone, as the middle one of a window of twice that does; None:
        all of a window."""
        before, self.sight = self.sight, bases
        try:
            yield
        finally:
            self.sight = before

    def _around(self, held: Tensor) -> Tensor:
        """[n, n_bins, k] to [n, n_bins, 6 k]: of the bin, and of what lies around it."""
        reaches = self.log_reaches.exp()
        places = torch.arange(held.shape[1], device=held.device, dtype=reaches.dtype) * self.bin
        apart = (places[:, None] - places).abs()
        decays = torch.exp(-apart / reaches[:, None, None])
        if self.sight is not None:
            decays = decays * (apart <= self.sight)
        decays = decays / (2 * reaches / self.bin).sqrt()[:, None, None]
        return torch.cat([held, *(decay @ held for decay in decays)], -1)


class Standard(nn.Module):
    """Features less their means, over their standard deviations, both as training has lately seen them.

    Sums over many bins are far from 0 and of sizes that differ by a factor of 40; a few hundred steps do not learn to
    read them as they are. One batch is too few bins for its own mean: that of a window is part of what is to be read.

    Args:
        swap: the order in which features come from the other strand, which has the same statistics.
    """

    def __init__(self, n: int, swap: list[int] | None):
        super().__init__()
        self.swap = swap or list(range(n))
        self.mean: Tensor
        self.variance: Tensor
        self.n_seen: Tensor
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("variance", torch.ones(n))
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """[..., n] to the same; in training, after these have been counted in."""
        if self.training:
            self._count(x.detach().flatten(0, -2))
        return (x - self.mean) / (self.variance + LEAST_VARIANCE).sqrt()

    @torch.no_grad()
    def _count(self, rows: Tensor) -> None:
        rows = rows.to(self.mean.dtype)
        is_finite = rows.isfinite().all()  # a step in half precision that overflows is skipped; here it would stay
        self.n_seen += is_finite
        share = (is_finite / self.n_seen.clamp(min=1, max=BATCHES_REMEMBERED)).to(rows.dtype)
        rows = torch.where(is_finite, rows, torch.zeros_like(rows))
        mean, square = rows.mean(0), rows.square().mean(0)
        mean, square = (mean + mean[self.swap]) / 2, (square + square[self.swap]) / 2
        square = (self.variance + self.mean.square()).lerp(square, share)
        self.mean.lerp_(mean, share)
        self.variance.copy_((square - self.mean.square()).clamp(min=0))


class Reading(Projection):
    """A projection whose inputs come in the order `swap` from the other strand, and whose features in reverse."""

    swap: list[int] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.swap is None:
            return super().forward(x)
        weight = (self.weight + self.weight.flip(0)[:, self.swap]) / 2**0.5
        return functional.linear(x, weight, (self.bias + self.bias.flip(0)) / 2)
