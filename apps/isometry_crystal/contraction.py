"""The sum over neighbours as one batched matrix product per layer, with its derivatives written by hand.

A message is trilinear in direction Y, distance R and the neighbour's features h:

    message[n, q, x] = Σ_j  Y[n, j, q] · R[n, j, c(x)] · h[neighbour(n, j), x]

so each of its first and second derivatives is again such a sum. Training on forces needs the second derivatives, but
never those by the geometry alone; `Sweep` lets the last sweep of a step leave them out. No tensor of
n_edges × components × channels is ever formed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from isometry_crystal.table import Table


class Sweep:
    """Whether a backward sweep still has to reach the geometry: yes until the forces are known, then no more."""

    __slots__ = ("reaches_geometry",)

    def __init__(self) -> None:
        self.reaches_geometry = True


def gather(features: Tensor, table: Table) -> Tensor:
    """[n_atoms, x] -> [n_atoms, width, x], the rows of the neighbours."""
    return features.index_select(0, table.neighbour.flatten()).view(*table.neighbour.shape, -1)


def collect(messages: Tensor, table: Table) -> Tensor:
    """The transpose of `gather`: [n_atoms, width, x] -> [n_atoms, x]. Masked places must hold zeros.

    What flows to an atom is found in its own row through the reverse edges, so nothing is scattered, and the order of
    summation is fixed: the result is the same bit for bit on every run.
    """
    offsets = torch.arange(0, table.reverse.numel(), table.reverse.shape[1], device=messages.device)
    return torch.embedding_bag(messages.flatten(0, 1), table.reverse.flatten(), offsets, mode=0)[0]


class _Density(Function):
    """density[n, k, q] = Σ_j R[n, j, k] Y[n, j, q]: nothing in it is learnt, so the last sweep ends here."""

    @staticmethod
    def forward(ctx: Any, radial: Tensor, angular: Tensor, sweep: Sweep) -> Tensor:
        ctx.save_for_backward(radial, angular)
        ctx.sweep = sweep
        return torch.bmm(radial.mT, angular)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        if not ctx.sweep.reaches_geometry:
            return None, None, None
        return *_DensitySlope.apply(cotangents[0], *ctx.saved_tensors), None


class _DensitySlope(Function):
    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, radial: Tensor, angular: Tensor) -> Any:
        ctx.save_for_backward(radial, angular)
        return torch.bmm(angular, cotangent.mT), torch.bmm(radial, cotangent)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        radial, angular = ctx.saved_tensors
        return torch.bmm(cotangents[0].mT, angular) + torch.bmm(radial.mT, cotangents[1]), None, None


def density(radial: Tensor, angular: Tensor, sweep: Sweep) -> Tensor:
    """[n_atoms, width, k], [n_atoms, width, q] -> [n_atoms, k, q]."""
    return _Density.apply(radial, angular, sweep)


class _Messages(Function):
    @staticmethod
    def forward(ctx: Any, radial: Tensor, angular: Tensor, features: Tensor, table: Table, sweep: Sweep) -> Tensor:
        near = _by_channel(gather(features, table), radial)
        faded = (near * radial.unsqueeze(2)).flatten(2)
        ctx.save_for_backward(radial, angular, features, near, faded)
        ctx.table, ctx.sweep = table, sweep
        return torch.bmm(angular.mT, faded)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        grads = _MessagesSlope.apply(cotangents[0], *ctx.saved_tensors, ctx.table, ctx.sweep.reaches_geometry)
        return *grads, None, None


class _MessagesSlope(Function):
    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        radial: Tensor,
        angular: Tensor,
        features: Tensor,
        near: Tensor,
        faded: Tensor,
        table: Table,
        reaches_geometry: bool,
    ) -> Any:
        back = _by_channel(torch.bmm(angular, cotangent), radial)
        ctx.save_for_backward(cotangent, radial, angular, near, faded, back)
        ctx.table = table
        ctx.set_materialize_grads(False)
        to_radial = (back * near).sum(2)
        to_angular = torch.bmm(faded, cotangent.mT) if reaches_geometry else None
        to_features = collect((back * radial.unsqueeze(2)).flatten(2), table)
        return to_radial, to_angular, to_features

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        cotangent, radial, angular, near, faded, back = ctx.saved_tensors
        by_radial, by_angular, by_features = cotangents
        by_radial = torch.zeros_like(radial) if by_radial is None else by_radial
        by_angular = torch.zeros_like(angular) if by_angular is None else by_angular
        turned = _by_channel(torch.bmm(by_angular, cotangent), radial)
        to_cotangent = torch.bmm(by_angular.mT, faded)
        to_radial, change = turned * near, near * by_radial.unsqueeze(2)
        if by_features is not None:
            near_change = _by_channel(gather(by_features, ctx.table), radial)
            to_radial = to_radial.addcmul_(back, near_change)
            change = change.addcmul_(near_change, radial.unsqueeze(2))
        to_cotangent = to_cotangent.baddbmm_(angular.mT, change.flatten(2))
        flow = turned.mul_(radial.unsqueeze(2)).addcmul_(back, by_radial.unsqueeze(2))
        to_features = collect(flow.flatten(2), ctx.table)
        return to_cotangent, to_radial.sum(2), None, to_features, None, None, None, None


def messages(radial: Tensor, angular: Tensor, features: Tensor, table: Table, sweep: Sweep) -> Tensor:
    """The sum over neighbours at the head of this file.

    Args:
        radial: [n_atoms, width, channels], zero at masked places.
        angular: [n_atoms, width, components].
        features: [n_atoms, hidden_components * channels].
    Returns:
        [n_atoms, components, hidden_components * channels].
    """
    return _Messages.apply(radial, angular, features, table, sweep)


class _Swap(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, table: Table) -> Tensor:
        ctx.table = table
        return values.flatten(0, 1).index_select(0, table.reverse.flatten()).view_as(values)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        return _Swap.apply(cotangents[0], ctx.table), None


def opposite(values: Tensor, table: Table) -> Tensor:
    """[n_atoms, width, ...] the value of each edge's opposite; its own transpose."""
    return _Swap.apply(values, table)


def _by_channel(values: Tensor, radial: Tensor) -> Tensor:
    """[n_atoms, width, hidden_components * channels] -> [n_atoms, width, hidden_components, channels]."""
    return values.unflatten(2, (-1, radial.shape[2]))
