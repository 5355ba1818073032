"""How a message fades with distance: waves under a smooth envelope, with their slopes by formula.

The slopes are returned beside the values because the forces need them and nothing in training ever differentiates the
geometry twice: the second sweep of a training step stops at these numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ORDER = 6  # of the envelope: value, slope and curvature vanish at the cutoff


class Radial(NamedTuple):
    """Values [..., n_radial] (dimensionless) and their derivatives by distance [..., n_radial] 1/Å."""

    values: Tensor
    slopes: Tensor


def envelope(x: Tensor) -> tuple[Tensor, Tensor]:
    """The polynomial cutoff and its derivative by x = r / cutoff: 1 at 0; value, slope, curvature 0 at 1 and beyond.

    The published form 1 - 28 x⁶ + 48 x⁷ - 21 x⁸ is factored as (1 - x)³ (1 + 3x + 6x² + 10x³ + 15x⁴ + 21x⁵): the
    same polynomial without its cancellation near the cutoff, so it stays smooth in float32.
    Source: Gasteiger et al. 2020, arXiv:2003.03123, eq. 8 with p = 6.
    """
    rest = (1 - x).clamp(min=0)
    series = torch.full_like(x, math.comb(ORDER + 1, 2))
    for power in range(ORDER - 2, -1, -1):
        series = series * x + math.comb(power + 2, 2)
    slope = -(ORDER * (ORDER + 1) * (ORDER + 2) / 2) * x ** (ORDER - 1) * rest * rest
    return rest * rest * rest * series, slope


def radial_basis(distance: Tensor, cutoff: float, n_radial: int) -> Radial:
    """Spherical waves sin(nπr/r_c)/r under the envelope, each of mean square 1 over a uniform ball of radius r_c.

    Args:
        distance: [...] Å, positive; at and beyond the cutoff all values and slopes are exactly 0.
        cutoff: Å.
    Source: Gasteiger et al. 2020, arXiv:2003.03123, eq. 7; the normalisation is ours (a signal of size one).
    """
    x = (distance / cutoff).unsqueeze(-1)
    values, slopes = _waves(x, n_radial)
    gain = _gains(n_radial).to(x)
    return Radial(values * gain, slopes * (gain / cutoff))


def _waves(x: Tensor, n_radial: int) -> tuple[Tensor, Tensor]:
    """sin(nπx)/x times the envelope, and the derivative by x; x [..., 1]."""
    order = math.pi * torch.arange(1, n_radial + 1, dtype=x.dtype, device=x.device)
    fade, fade_slope = envelope(x)
    wave = torch.sin(order * x) / x
    wave_slope = (order * torch.cos(order * x) - wave) / x
    return wave * fade, wave_slope * fade + wave * fade_slope


def _gains(n_radial: int) -> Tensor:
    """1 / root mean square of each wave over the ball, ∫₀¹ 3x² wave² dx by the midpoint rule."""
    x = ((torch.arange(4096, dtype=torch.float64) + 0.5) / 4096).unsqueeze(-1)
    values, _ = _waves(x, n_radial)
    return (3 * x**2 * values**2).mean(0).rsqrt()
