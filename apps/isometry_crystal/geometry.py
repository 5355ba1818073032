"""From positions to what the network sees of them, and back: the chain rule from its basis to forces and stress."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from isometry_crystal.angular import gradient_couplings, harmonics, slope_along
from isometry_crystal.contraction import Sweep
from isometry_crystal.radial import radial_basis
from isometry_crystal.table import Table, opposite_edges, tabulate


class Edges:
    """The geometry of one forward pass, and the switch that ends the last backward sweep before it.

    The basis is a leaf of the graph: the energy's slopes by it come from autograd, the way on is in `slope_of`, where
    only the slopes carry a graph to the weights. No step differentiates the geometry twice.
    """

    def __init__(self, graph: Any, cutoff: float, n_radial: int, l_max: int, dtype: torch.dtype, wants_slopes: bool):
        self.table = table_of(graph)
        self.vector = vectors(graph, self.table, cutoff).to(dtype)
        self.distance = self.vector.norm(dim=-1, keepdim=True)
        self.direction = self.vector / self.distance
        basis = radial_basis(self.distance.squeeze(-1), cutoff, n_radial)
        self.slopes = basis.slopes
        self.radial = basis.values.requires_grad_(wants_slopes)
        self.angular = harmonics(self.direction, l_max).requires_grad_(wants_slopes)
        self.l_max, self.sweep = l_max, Sweep()

    def slope_of(self, energy: Tensor, create_graph: bool) -> Tensor:
        """dE/d(vector) of every edge, [n_atoms, width, 3] eV/Å; differentiable by the weights if create_graph."""
        self.sweep.to_weights = False
        radial, angular = torch.autograd.grad(energy, (self.radial, self.angular), create_graph=create_graph)
        self.sweep.to_geometry, self.sweep.to_weights = False, True
        along = (radial * self.slopes).sum(-1, keepdim=True)
        across = slope_along(angular, self.direction, self.angular.detach(), gradient_couplings(self.l_max).to(angular))
        return along * self.direction + across / self.distance


def table_of(graph: Any) -> Table:
    """The graph's edges as a padded table; opposite edges are looked up when the data set has not stored them."""
    reverse = graph.edge_reverse if "edge_reverse" in graph else opposite_edges(graph.edge_index, graph.edge_shift)
    return tabulate(graph.edge_index, reverse, graph.num_nodes)


def vectors(graph: Any, table: Table, cutoff: float) -> Tensor:
    """[n_atoms, width, 3] Å from each atom to its neighbours, as precise as `pos`; masked ones lie at the cutoff.

    A masked vector must never be zero: the derivative of its length would be NaN.
    """
    vector = graph.pos.new_tensor([0.0, 0.0, cutoff]).repeat(table.mask.numel(), 1)
    centre, neighbour = graph.edge_index
    cell = graph.cell.view(-1, 3, 3)[structure_of(graph)[centre]]
    shift = torch.einsum("ea,eab->eb", graph.edge_shift.to(graph.pos.dtype), cell)
    vector[table.place] = graph.pos[neighbour] - graph.pos[centre] + shift
    return vector.view(*table.mask.shape, 3)


def structure_of(graph: Any) -> Tensor:
    """[n_atoms] the structure each atom belongs to."""
    batch = getattr(graph, "batch", None)
    return torch.zeros(graph.num_nodes, dtype=torch.long, device=graph.pos.device) if batch is None else batch
