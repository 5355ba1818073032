"""The sum over neighbours as one batched matrix product per layer, with its derivatives written by hand.

A message is linear in each of direction Y, radial basis B, its weights W and the neighbour's features h:

    message[n, q, x] = Σ_j  Y[n, j, q] · (Σ_k B[n, j, k] W[k, x]) · h[neighbour(n, j), x]

so each of its first and second derivatives is again such a sum. Training on forces needs second derivatives, but never
those by the geometry alone; `Sweep` lets each backward sweep leave out what nobody asks for. Atoms are taken in blocks
that fit a processor's cache: nothing of the size of all edges × channels is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from isometry_crystal.table import Table

BLOCK = 65_536  # numbers in a block's largest array: 256 KiB in float32, a quarter of a common second-level cache


class Sweep:
    """What a backward sweep has to reach. First the geometry, for the forces; then, for training, the weights."""

    __slots__ = ("to_geometry", "to_weights")

    def __init__(self) -> None:
        self.to_geometry = self.to_weights = True


class Block(NamedTuple):
    """The operands of some atoms, each [atoms, width, ...] but the weights."""

    rows: slice
    angular: Tensor
    basis: Tensor
    radial: Tensor  # basis @ weights, [atoms, width, x]
    near: Tensor  # the neighbours' features, [atoms, width, x]
    neighbour: Tensor  # [atoms * width]


def blocks(angular: Tensor, basis: Tensor, weights: Tensor, features: Tensor, table: Table) -> Iterator[Block]:
    n_atoms, width = table.neighbour.shape
    size = max(BLOCK // (width * features.shape[1]), 1) if features.device.type == "cpu" else max(n_atoms, 1)
    for start in range(0, n_atoms, size):
        rows = slice(start, min(start + size, n_atoms))
        neighbour = table.neighbour[rows].flatten()
        near = features.index_select(0, neighbour).view(rows.stop - start, width, -1)
        yield Block(rows, angular[rows], basis[rows], basis[rows] @ weights, near, neighbour)


def collect(flow: Tensor, table: Table) -> Tensor:
    """What flows along the edges to their neighbours, summed there: [n_atoms, width, x] -> [n_atoms, x].

    The transpose of taking the neighbours' rows. An atom finds its share in its own row of the table, through the
    reverse edges: nothing is scattered, and the order of summation is fixed, so the result is the same on every run.
    Masked places must hold zeros.
    """
    offsets = torch.arange(0, table.reverse.numel(), table.reverse.shape[1], device=flow.device)
    return torch.embedding_bag(flow.flatten(0, 1), table.reverse.flatten(), offsets, mode=0)[0]


class _Messages(Function):
    @staticmethod
    def forward(
        ctx: Any, angular: Tensor, basis: Tensor, weights: Tensor, features: Tensor, table: Table, sweep: Sweep
    ) -> Tensor:
        ctx.save_for_backward(angular, basis, weights, features)
        ctx.table, ctx.sweep = table, sweep
        out = features.new_empty(len(angular), angular.shape[2], features.shape[1])
        for block in blocks(angular, basis, weights, features, table):
            torch.bmm(block.angular.mT, block.near.mul_(block.radial), out=out[block.rows])
        return out

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        return *_MessagesSlope.apply(cotangents[0].contiguous(), *ctx.saved_tensors, ctx.table, ctx.sweep), None, None


class _MessagesSlope(Function):
    """The cotangents of angular, basis, weights and features, as far as the sweep asks for them."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        angular: Tensor,
        basis: Tensor,
        weights: Tensor,
        features: Tensor,
        table: Table,
        sweep: Sweep,
    ) -> Any:
        ctx.save_for_backward(cotangent, angular, basis, weights, features)
        ctx.table = table
        ctx.set_materialize_grads(False)
        to_angular = torch.empty_like(angular) if sweep.to_geometry else None
        to_basis = torch.empty_like(basis) if sweep.to_geometry else None
        to_weights = torch.zeros_like(weights) if sweep.to_weights else None
        flow = features.new_empty(*table.neighbour.shape, features.shape[1])
        for block in blocks(angular, basis, weights, features, table):
            back = torch.bmm(block.angular, cotangent[block.rows])
            torch.mul(back, block.radial, out=flow[block.rows])
            to_radial = back.mul_(block.near)
            if to_angular is not None and to_basis is not None:
                faded = block.near.mul_(block.radial)
                torch.bmm(faded, cotangent[block.rows].mT, out=to_angular[block.rows])
                torch.matmul(to_radial, weights.T, out=to_basis[block.rows])
            if to_weights is not None:
                to_weights.addmm_(block.basis.flatten(0, 1).T, to_radial.flatten(0, 1))
        return to_angular, to_basis, to_weights, collect(flow, table)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        """Given what turns the cotangents of angular, basis and features. Those of the weights are never turned."""
        cotangent, angular, basis, weights, features = ctx.saved_tensors
        table: Table = ctx.table
        by_angular, by_basis, _, by_features = cotangents
        by_angular = torch.zeros_like(angular) if by_angular is None else by_angular
        by_basis = torch.zeros_like(basis) if by_basis is None else by_basis
        by_features = torch.zeros_like(features) if by_features is None else by_features
        to_cotangent, to_weights = torch.empty_like(cotangent), torch.zeros_like(weights)
        flow = features.new_empty(*table.neighbour.shape, features.shape[1])
        for block in blocks(angular, basis, weights, features, table):
            rows, turn = block.rows, by_basis[block.rows]
            by_radial = turn @ weights
            by_near = by_features.index_select(0, block.neighbour).view_as(block.near)
            back = torch.bmm(block.angular, cotangent[rows])
            turned = torch.bmm(by_angular[rows], cotangent[rows])
            torch.mul(turned, block.radial, out=flow[rows]).addcmul_(back, by_radial)
            to_radial = turned.mul_(block.near).addcmul_(back, by_near)
            to_weights.addmm_(block.basis.flatten(0, 1).T, to_radial.flatten(0, 1))
            to_weights.addmm_(turn.flatten(0, 1).T, back.mul_(block.near).flatten(0, 1))
            change = by_radial.mul_(block.near).addcmul_(by_near, block.radial)
            torch.bmm(block.angular.mT, change, out=to_cotangent[rows])
            to_cotangent[rows].baddbmm_(by_angular[rows].mT, block.near.mul_(block.radial))
        return to_cotangent, None, None, to_weights, collect(flow, table), None, None


def messages(angular: Tensor, basis: Tensor, weights: Tensor, features: Tensor, table: Table, sweep: Sweep) -> Tensor:
    """The sum over neighbours at the head of this file.

    Args:
        angular: [n_atoms, width, components]. basis: [n_atoms, width, n_radial], zero at masked places.
        weights: [n_radial, x]. features: [n_atoms, x].
    Returns:
        [n_atoms, components, x].
    """
    return _Messages.apply(angular, basis, weights, features, table, sweep)


class _Density(Function):
    """Nothing in it is learnt, so a sweep to the weights ends here."""

    @staticmethod
    def forward(ctx: Any, basis: Tensor, angular: Tensor, sweep: Sweep) -> Tensor:
        ctx.save_for_backward(basis, angular)
        ctx.sweep = sweep
        return torch.bmm(basis.mT, angular)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        if not ctx.sweep.to_geometry:
            return None, None, None
        return *_DensitySlope.apply(cotangents[0], *ctx.saved_tensors), None


class _DensitySlope(Function):
    @staticmethod
    def forward(ctx: Any, cotangent: Tensor, basis: Tensor, angular: Tensor) -> Any:
        ctx.save_for_backward(basis, angular)
        return torch.bmm(angular, cotangent.mT), torch.bmm(basis, cotangent)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        basis, angular = ctx.saved_tensors
        return torch.bmm(cotangents[0].mT, angular).baddbmm_(basis.mT, cotangents[1]), None, None


def density(basis: Tensor, angular: Tensor, sweep: Sweep) -> Tensor:
    """Σ_j B[n, j, k] Y[n, j, q]: [n_atoms, width, k], [n_atoms, width, q] -> [n_atoms, k, q]."""
    return _Density.apply(basis, angular, sweep)


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
