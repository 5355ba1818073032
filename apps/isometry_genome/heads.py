"""What reads the features: how many outputs a head has, what becomes of them on the other strand, and their units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from isometry.initialise import Projection, initialise
from torch import Tensor, nn
from torch.nn import functional

from isometry_genome.positions import Positions
from isometry_genome.strands import TiedHead, tie

if TYPE_CHECKING:
    from isometry_genome.model import ModelSettings

N_BASES = 4
COMPLEMENT = (3, 2, 1, 0)
"""What becomes of A, C, G, T on the other strand."""


def n_outputs(head: str, s: ModelSettings) -> int:
    return {"classes": s.n_classes, "profile": n_read(s), "segments": s.n_segments, "language": N_BASES}[head]


def n_read(s: ModelSettings) -> int:
    """Tracks that the head of the profile says; of the others the stem does."""
    return s.n_tracks - s.n_shares if s.reads == "elements" else s.n_tracks


def swap_of(head: str, s: ModelSettings) -> list[int]:
    """Which output each becomes when the other strand is read."""
    swaps = {"classes": s.swap_classes, "profile": s.swap_tracks, "segments": s.swap_segments, "language": COMPLEMENT}
    return list(swaps[head] or range(s.n_tracks if head == "profile" else n_outputs(head, s)))


def resolution_of(head: str, s: ModelSettings) -> int:
    """Bases of the cells that a head reads."""
    return {"classes": s.bin, "profile": min(s.resolution, s.bin)}.get(head, 1)


def head_of(head: str, n_features: int, s: ModelSettings) -> Projection:
    """Raises ValueError where the data have nothing for it, or where its swap names other outputs."""
    n_out, swap = n_outputs(head, s), swap_of(head, s)
    if head == "profile" and s.reads == "elements":
        swap = swap[:n_out]
    if n_out == 0:
        raise ValueError(f"the head {head} has nothing to say: its number of outputs is 0; it is filled from the data")
    if len(swap) != n_out:
        raise ValueError(f"the swap of {head} names {len(swap)} outputs; expected {n_out}")
    return _begun(n_features, n_out, swap if s.strands == "equivariant" else None)


def pool_of(s: ModelSettings) -> Pool | Positions:
    """Raises ValueError where positions have no length: it is filled from the data."""
    if s.pool != "positions":
        return Pool(s)
    positions = Positions(s)
    if s.strands == "equivariant":
        tie(positions)
    return positions


class Pool(nn.Module):
    """[n, n_bins, width] to [n, width]: what the classes read."""

    def __init__(self, s: ModelSettings):
        super().__init__()
        self.kind = s.pool
        swap = [0] if s.strands == "equivariant" else None
        self.score = _begun(s.width, 1, swap) if s.pool == "attention" else None

    def forward(self, bins: Tensor) -> Tensor:
        if self.kind == "centre":
            n_bins = bins.shape[1]
            return bins[:, (n_bins - 1) // 2 : n_bins // 2 + 1].mean(1)
        if self.score is None:
            return bins.mean(1)
        return (self.score(bins).softmax(1) * bins).sum(1)


class Tracks(nn.Module):
    """Numbers around 0 to the tracks' own unit, and how far a count scatters about its mean."""

    def __init__(self, s: ModelSettings):
        super().__init__()
        self.is_count, self.has_both_strands, self.swap = is_count(s), s.strands != "one", swap_of("profile", s)
        self.means: Tensor
        self.scales: Tensor
        self.register_buffer(
            "means", self._alike(_numbers(s.track_means, 1.0 if self.is_count else 0.0, s)), persistent=False
        )
        self.register_buffer("scales", self._alike(_numbers(s.track_scales, 1.0, s)), persistent=False)
        has_dispersion = s.profile_loss == "negative_binomial"
        self.log_dispersion = nn.Parameter(torch.zeros(s.n_tracks)) if has_dispersion else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., k] of the first k tracks; 0 becomes the mean of the training data."""
        if self.is_count:
            return self.means[: x.shape[-1]] * functional.softplus(x) / math.log(2)
        return self.means[: x.shape[-1]] + self.scales[: x.shape[-1]] * x

    def dispersions(self) -> Tensor:
        """[n_tracks] of a negative binomial profile: the variance is mean + dispersion · mean²."""
        assert self.log_dispersion is not None
        return self._alike(self.log_dispersion).exp()

    def _alike(self, values: Tensor) -> Tensor:
        """Tracks that are one another's other strand have one mean, one scale, one dispersion."""
        return (values + values[self.swap]) / 2 if self.has_both_strands else values


def is_count(s: ModelSettings) -> bool:
    return s.profile_loss != "gaussian"


def _numbers(values: tuple[float, ...], default: float, s: ModelSettings) -> Tensor:
    if values and len(values) != s.n_tracks:
        raise ValueError(f"{len(values)} means or scales of tracks; expected {s.n_tracks}, one for each")
    return torch.tensor(values or (default,) * s.n_tracks)


def _begun(n_in: int, n_out: int, swap: list[int] | None) -> Projection:
    head = Projection(n_in, n_out) if swap is None else TiedHead(n_in, n_out, swap)
    initialise(head, "linear")
    return head
