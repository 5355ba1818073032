"""Products of a tensor with itself: powers of the function on the sphere that it stands for, and their moments.

    moments_p[i, x] = Σ_s Back_p[i, s] (Σ_q Points[s, q] tensor[q, x])^p,   p = 2, 3, …

with both derivatives written by hand, in blocks of columns that fit a processor's cache: the function's values at the
points of the quadrature are never kept.
Related: Luo et al. 2024, arXiv:2401.10216 (products of spherical functions instead of Clebsch-Gordan sums).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 65_536  # values in a block: 256 KiB in float32


def columns(tensor: Tensor, n_points: int) -> Iterator[slice]:
    """Blocks of the last dimension; one block on a device that has no use for a cache."""
    n = tensor.shape[1]
    size = max(BLOCK // n_points // 16, 1) * 16 if tensor.device.type == "cpu" else max(n, 1)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class _Moments(Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, points: Tensor, *backs: Tensor) -> Any:
        ctx.save_for_backward(tensor, points, *backs)
        moments = [tensor.new_empty(len(back), tensor.shape[1]) for back in backs]
        for part in columns(tensor, len(points)):
            values = points @ tensor[:, part]
            power = values
            for back, moment in zip(backs, moments, strict=True):
                power = power * values
                moment[:, part] = back @ power
        return tuple(moments)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        tensor, points, *backs = ctx.saved_tensors
        return _MomentsSlope.apply(len(backs), tensor, points, *backs, *cotangents), None, *[None] * len(backs)


class _MomentsSlope(Function):
    """Pointsᵀ Σ_p p values^(p-1) Back_pᵀ cotangent_p."""

    @staticmethod
    def forward(ctx: Any, n: int, tensor: Tensor, points: Tensor, *rest: Tensor) -> Tensor:
        ctx.save_for_backward(tensor, points, *rest)
        ctx.n = n
        out = torch.empty_like(tensor)
        for part in columns(tensor, len(points)):
            values = points @ tensor[:, part]
            # Horner's scheme from the highest power down: Σ_p p v^(p-1) u_p = v (2 u_2 + v (3 u_3 + …)).
            total = _scaled(rest, n, n + 1, part)
            for power in range(n, 1, -1):
                total.mul_(values).add_(_scaled(rest, n, power, part))
            out[:, part] = points.T @ total.mul_(values)
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        tensor, points, *rest = ctx.saved_tensors
        n = ctx.n
        to_tensor = torch.empty_like(tensor)
        outward = [torch.empty_like(cotangent) for cotangent in rest[n:]]
        for part in columns(tensor, len(points)):
            values, turn = points @ tensor[:, part], points @ cotangents[0][:, part]
            power = turn
            bend = torch.zeros_like(values)
            for k, (back, out) in enumerate(zip(rest[:n], outward, strict=True), start=2):
                bend.addcmul_(power, _scaled(rest, n, k, part), value=k - 1)
                power = power * values
                out[:, part] = back @ (power * k)
            to_tensor[:, part] = points.T @ bend
        return None, to_tensor, None, *[None] * n, *outward


def _scaled(rest: Any, n: int, power: int, part: slice) -> Tensor:
    """power · Backᵀ cotangent of one power, at the points of the columns."""
    return (rest[power - 2].T * power) @ rest[n + power - 2][:, part]


def moments(tensor: Tensor, points: Tensor, backs: list[Tensor]) -> tuple[Tensor, ...]:
    """Moments of the second and higher powers; twice differentiable by the tensor.

    Args:
        tensor: [components, x]. points: [n_points, components]. backs: for each power [moments, n_points].
    Returns:
        for each power [moments, x].
    """
    return _Moments.apply(tensor.contiguous(), points, *backs)
