"""The potential: an energy that is a sum over atoms, with forces and stress as its derivatives.

Node-centred equivariant message passing. Neighbours are summed into per-atom tensors as one batched product per layer;
channels are mixed, tensors coupled and multiplied on atoms only. Products of tensors (the body order) are taken as
powers of a function on the sphere, by a quadrature that is exact for them.
Related: Batatia et al. 2022, arXiv:2206.07697 (MACE); Luo et al. 2024, arXiv:2401.10216 (Gaunt products).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from isometry.settings import Settings
from pydantic import Field
from torch import Tensor, nn

from isometry_crystal.angular import coupling, degree_of, n_components, power_gains, sphere
from isometry_crystal.contraction import density, messages, opposite
from isometry_crystal.exact import Exact, full_precision
from isometry_crystal.geometry import Edges, structure_of
from isometry_crystal.powers import moments


class ModelSettings(Settings):
    """Size of the network, and what it learnt from the training data before the first step."""

    cutoff: float = Field(default=5.0, gt=0)
    """Å; neighbours beyond it are not seen"""
    channels: int = Field(default=32, ge=1)
    message_channels: int = Field(default=16, ge=1)
    """channels that travel along edges"""
    l_max: int = Field(default=3, ge=1, le=6)
    """highest degree of the spherical harmonics"""
    l_hidden: int = Field(default=1, ge=0, le=3)
    """highest degree of the tensors that travel along edges"""
    n_radial: int = Field(default=8, ge=1)
    n_layers: int = Field(default=2, ge=1)
    correlation: int = Field(default=3, ge=1, le=5)
    """highest power of an atom's density: 2 makes three-body, 3 four-body terms per layer"""
    readout: int = Field(default=32, ge=1)
    """hidden units of the energy readouts"""
    elements: tuple[int, ...] = ()
    """atomic numbers, ascending; filled from the data"""
    energy_offsets: tuple[float, ...] = ()
    """eV per atom of each element; filled from the data"""
    scale: float = Field(default=1.0, gt=0)
    """eV: the size of an atom's energy above its offset; filled from the data"""
    mean_neighbours: float = Field(default=30.0, gt=0)
    """filled from the data"""


class Mix(nn.Module):
    """A linear map of channels for each component's degree or path: [components, n, n_in] -> [components, n, n_out].

    No bias: what is zero stays zero, so an atom without neighbours has exactly the energy of its offset.
    """

    def __init__(self, which: Tensor, n_in: int, n_out: int):
        super().__init__()
        self.which: Tensor
        self.weight = nn.Parameter(torch.randn(int(which.max()) + 1, n_in, n_out) / math.sqrt(n_in))
        self.register_buffer("which", which, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight[self.which]).to(x.dtype)


class Message(nn.Module):
    """What the neighbours' tensors say about an atom: [hidden, n, channels] -> [components, n, channels]."""

    def __init__(self, s: ModelSettings):
        super().__init__()
        pairs = coupling(s.l_max, s.l_hidden, s.l_max)
        self.n_out = n_components(s.l_max)
        self.down = Mix(degree_of(s.l_hidden), s.channels, s.message_channels)
        self.radial = nn.Parameter(torch.randn(s.n_radial, s.l_hidden + 1, s.message_channels) / math.sqrt(s.n_radial))
        self.up = Mix(pairs.path, s.message_channels, s.channels)
        self.couple = Exact(pairs.matrix / math.sqrt(s.mean_neighbours))
        members = nn.functional.one_hot(pairs.component, self.n_out).T.double()
        self.sum_paths = Exact(members / members.sum(1, keepdim=True).sqrt())

    def forward(self, hidden: Tensor, edges: Edges) -> Tensor:
        n_atoms, couple = hidden.shape[1], self.couple.like(hidden)
        sent = self.down(hidden).transpose(0, 1).flatten(1)
        radial = self.radial[:, self.down.which].flatten(1)
        with full_precision(sent):
            heard = messages(edges.angular, edges.radial, radial, sent, edges.table, edges.sweep)
        heard = heard.view(n_atoms, couple.shape[1], -1).transpose(0, 1).flatten(1)
        paths = self.up((couple @ heard).to(hidden.dtype).view(len(couple), n_atoms, -1))
        return (self.sum_paths.like(paths) @ paths.flatten(1)).to(hidden.dtype).view(self.n_out, n_atoms, -1)


class Powers(nn.Module):
    """An atom's tensor and its powers, up to a degree: [components, n, c] -> [components(l_out), n, correlation * c].

    Powers are taken of the function on the sphere that the tensor stands for, pointwise, and turned back by quadrature.
    """

    def __init__(self, l_in: int, l_out: int, correlation: int):
        super().__init__()
        on_sphere = sphere(l_in, l_out, correlation * l_in + l_out)
        self.n_out = n_components(l_out)
        self.to_points = Exact(on_sphere.to_points / math.sqrt(n_components(l_in)))
        self.back = [
            Exact(power_gains(on_sphere, power)[:, None] * on_sphere.to_tensor) for power in range(2, correlation + 1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        terms = [x[: self.n_out]]
        if self.back:
            with full_precision(x):
                found = moments(x.flatten(1), self.to_points.like(x), [back.like(x) for back in self.back])
            terms += [moment.view_as(terms[0]) for moment in found]
        return torch.cat(terms, dim=-1)


class Readout(nn.Module):
    """An atom's invariants to its energy, without bias: [n, channels] -> [n]."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.linear = nn.Parameter(torch.randn(channels, 1) / math.sqrt(channels))
        self.inner = nn.Parameter(torch.randn(channels, width) / math.sqrt(channels))
        self.outer = nn.Parameter(torch.randn(width, 1) / math.sqrt(width))

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            return (x @ self.linear + nn.functional.silu(x @ self.inner) @ self.outer).squeeze(-1)


class CrystalModel(nn.Module):
    """See the head of this file. Made from settings alone, so a checkpoint of settings and weights is complete."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.degrees: Tensor
        self.row: Tensor
        s = self.settings = settings
        n_elements = len(s.elements)
        if n_elements == 0 or len(s.energy_offsets) != n_elements:
            raise ValueError("model.elements and model.energy_offsets must name the same elements, at least one")
        degrees = degree_of(s.l_max)
        hidden = [s.l_hidden] * (s.n_layers - 1) + [0]
        self.density = Mix(degrees, n_elements * s.n_radial, s.channels)
        self.messages = nn.ModuleList(Message(s) for _ in hidden[1:])
        self.carry = nn.ModuleList(Mix(degrees, s.channels, s.channels) for _ in hidden[1:])
        self.powers = nn.ModuleList(Powers(s.l_max, out, s.correlation) for out in hidden)
        self.updates = nn.ModuleList(Mix(degree_of(out), s.correlation * s.channels, s.channels) for out in hidden)
        self.readouts = nn.ModuleList(Readout(s.channels, s.readout) for _ in hidden)
        self.centre = nn.Parameter(torch.ones(n_elements, s.l_max + 1, s.channels)) if n_elements > 1 else None
        self.register_buffer("degrees", degrees, persistent=False)
        row = torch.full((119,), -1)
        row[list(s.elements)] = torch.arange(n_elements)
        self.register_buffer("row", row, persistent=False)
        self.offsets = Exact(torch.tensor(s.energy_offsets, dtype=torch.float64))

    def forward(self, graph: Any, forces: bool = True, stress: bool = True) -> dict[str, Tensor]:
        """Energies and, on request, their derivatives.

        Args:
            graph: PyG Data or Batch with z [n], pos [n, 3] Å, cell [structures, 3, 3] Å, edge_index, edge_shift.
        Returns:
            energy [structures] and energies [n] eV, float64; forces [n, 3] eV/Å; virial [structures, 3, 3] eV;
            stress [structures, 3, 3] eV/Å³, virial / volume, positive under tension, NaN without a cell.
            Under `torch.no_grad()` they are plain numbers, otherwise they carry a graph to the weights.
        """
        wants_slopes = forces or stress
        s = self.settings
        species = self.species(graph.z)
        with full_precision(graph.pos):
            edges = Edges(graph, s.cutoff, s.n_radial, s.l_max, self.density.weight.dtype, wants_slopes)
        with torch.set_grad_enabled(wants_slopes or torch.is_grad_enabled()):
            terms = self.terms(species, edges) * s.scale
            total = terms.sum()
        energies = terms.double() + self.offsets.exact.to(terms.device)[species]
        structure, n_structures = structure_of(graph), graph.cell.numel() // 9
        out = {"energies": energies, "energy": energies.new_zeros(n_structures).index_add(0, structure, energies)}
        if not wants_slopes:
            return out
        with full_precision(graph.pos):
            slope = edges.slope_of(total, create_graph=torch.is_grad_enabled())
            out["forces"] = (slope - opposite(slope, edges.table)).sum(1)
            if stress:
                virial = torch.bmm(edges.vector.mT, slope)
                out["virial"] = virial.new_zeros(n_structures, 3, 3).index_add(0, structure, (virial + virial.mT) / 2)
                out["stress"] = out["virial"] / volumes(graph.cell).to(virial.dtype)
        return out

    def terms(self, species: Tensor, edges: Edges) -> Tensor:
        """[n_atoms] each atom's energy above its offset, in units of the scale."""
        tensor = self.near(species, edges)
        energy = torch.zeros_like(tensor[0, :, 0])
        hidden = tensor
        for layer, (raise_, update, readout) in enumerate(zip(self.powers, self.updates, self.readouts, strict=True)):
            if layer > 0:
                heard = self.messages[layer - 1](hidden, edges)
                tensor = (self.carry[layer - 1](tensor) + heard) * math.sqrt(0.5)
            hidden = update(raise_(tensor))
            energy = energy + readout(hidden[0])
        return energy

    def near(self, species: Tensor, edges: Edges) -> Tensor:
        """[components, n_atoms, channels] the neighbours' density by element: at first they are nothing else."""
        radial = edges.radial
        if self.centre is not None:
            kind = nn.functional.one_hot(species, len(self.centre)).to(radial.dtype)[edges.table.neighbour]
            radial = (kind.unsqueeze(-1) * radial.unsqueeze(2)).flatten(2)
        with full_precision(radial):
            summed = density(radial, edges.angular, edges.sweep) / math.sqrt(self.settings.mean_neighbours)
        tensor = self.density(summed.permute(2, 0, 1))
        if self.centre is None:
            return tensor
        return tensor * self.centre[species].transpose(0, 1)[self.degrees]

    def species(self, numbers: Tensor) -> Tensor:
        """[n_atoms] the row of each atom's element. Raises ValueError on an element the model was not made for."""
        rows = self.row[numbers]
        if bool((rows < 0).any()):
            unknown = sorted(set(numbers[rows < 0].tolist()))
            raise ValueError(
                f"atomic numbers {unknown} are unknown to this model, which knows {self.settings.elements}"
            )
        return rows


def volumes(cells: Tensor) -> Tensor:
    """[structures, 1, 1] Å³; NaN where there is no cell."""
    volume = torch.linalg.det(cells.view(-1, 3, 3)).abs().view(-1, 1, 1)
    return volume.where(volume > 0, torch.nan)
