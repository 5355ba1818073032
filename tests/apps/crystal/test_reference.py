"""The fast contraction against a slow, plain one: edge lists, e3nn tensor products, autograd through the positions."""

from __future__ import annotations

import math

import pytest
import torch
from e3nn import o3
from isometry_crystal.angular import degree_of, n_components, power_gains, sphere
from isometry_crystal.model import CrystalModel
from isometry_crystal.radial import _gains

PARITY = 1e-10  # relative to values of order one, float64


class PlainModel:
    """The same network with nothing clever in it: messages on edges, products by Wigner 3j symbols."""

    def __init__(self, model: CrystalModel):
        self.model, self.s = model, model.settings

    def energy_and_forces(self, graph) -> tuple[torch.Tensor, torch.Tensor]:
        positions = graph.pos.clone().requires_grad_()
        energy = self.energy(graph, positions)
        (slope,) = torch.autograd.grad(energy, positions, create_graph=True)
        return energy, -slope

    def energy(self, graph, positions) -> torch.Tensor:
        s, model = self.s, self.model
        centre, neighbour = graph.edge_index
        vector = positions[neighbour] + graph.edge_shift.double() @ graph.cell[0] - positions[centre]
        radial, angular = self.radial(vector.norm(dim=1)), self.angular(vector)
        species = model.row[graph.z]
        tensor = self.density(radial, angular, centre, species[neighbour], len(positions))
        if model.centre is not None:
            tensor = tensor * model.centre[species].transpose(0, 1)[degree_of(s.l_max)]
        total, hidden = torch.tensor(s.energy_offsets, dtype=torch.float64)[species].sum(), tensor
        for layer in range(s.n_layers):
            if layer:
                heard = self.message(model.messages[layer - 1], hidden, radial, angular, centre, neighbour)
                tensor = (mixed(model.carry[layer - 1].weight, tensor, degree_of(s.l_max)) + heard) / math.sqrt(2)
            l_out = s.l_hidden if layer < s.n_layers - 1 else 0
            powers = self.powers(tensor, l_out)
            hidden = mixed(model.updates[layer].weight, powers, degree_of(l_out))
            total = total + s.scale * self.readout(model.readouts[layer], hidden[0]).sum()
        return total

    def radial(self, distance):
        """The published form of the waves and of the envelope."""
        x = (distance / self.s.cutoff)[:, None]
        order = torch.arange(1, self.s.n_radial + 1, dtype=torch.float64)
        fade = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
        return torch.sin(math.pi * order * x) / x * fade * _gains(self.s.n_radial)

    def angular(self, vector):
        return o3.spherical_harmonics(list(range(self.s.l_max + 1)), vector, True, "component")

    def density(self, radial, angular, centre, species, n_atoms):
        n_elements, s = len(self.s.elements), self.s
        weight = self.model.density.weight.view(-1, n_elements, s.n_radial, s.channels)[degree_of(s.l_max)]
        out = angular.new_zeros(n_components(s.l_max), n_atoms, s.channels)
        for element in range(n_elements):
            of_element = (species == element).double()[:, None]
            per_edge = torch.einsum("eq,ek,qkc->qec", angular, radial * of_element, weight[:, element])
            out = out.index_add(1, centre, per_edge)
        return out / math.sqrt(s.mean_neighbours)

    def message(self, layer, hidden, radial, angular, centre, neighbour):
        """One weighted tensor product per edge, summed over edges, one linear map per path."""
        s, n_atoms, width = self.s, hidden.shape[1], self.s.message_channels
        sent = by_channel(mixed(layer.down.weight, hidden, degree_of(s.l_hidden)))
        paths = [
            (a, b, c)
            for c in range(s.l_max + 1)
            for a in range(s.l_max + 1)
            for b in range(s.l_hidden + 1)
            if abs(a - b) <= c <= a + b and (a + b + c) % 2 == 0
        ]
        product = o3.TensorProduct(
            o3.Irreps([(1, (a, (-1) ** a)) for a in range(s.l_max + 1)]),
            o3.Irreps([(width, (b, (-1) ** b)) for b in range(s.l_hidden + 1)]),
            o3.Irreps([(width, (c, (-1) ** c)) for _, _, c in paths]),
            [(a, b, number, "uvv", True) for number, (a, b, _) in enumerate(paths)],
            irrep_normalization="component",
            path_normalization="none",
            shared_weights=False,
            internal_weights=False,
        ).double()
        weights = torch.cat([radial @ layer.radial[:, b] for _, b, _ in paths], dim=1) / math.sqrt(s.mean_neighbours)
        per_edge = product(angular, sent[neighbour], weights)
        summed = per_edge.new_zeros(n_atoms, per_edge.shape[1]).index_add(0, centre, per_edge)
        out, start = hidden.new_zeros(n_components(s.l_max), n_atoms, s.channels), 0
        for number, (_, _, c) in enumerate(paths):
            block = summed[:, start : start + width * (2 * c + 1)].view(n_atoms, width, 2 * c + 1)
            share = math.sqrt(1 / sum(other == c for *_, other in paths))
            out[c**2 : (c + 1) ** 2] += torch.einsum("nvm,vc->mnc", block, layer.up.weight[number]) * share
            start += width * (2 * c + 1)
        return out

    def powers(self, tensor, l_out):
        """Harmonic coefficients of f, f², f³ …, by coupling coefficients to coefficients."""
        f = tensor / math.sqrt(len(tensor))
        terms, power = [tensor[: n_components(l_out)]], f
        for exponent in range(2, self.s.correlation + 1):
            power = product_on_sphere(power, f)
            gain = power_gains(sphere(self.s.l_max, l_out, self.s.correlation * self.s.l_max + l_out), exponent)
            terms.append(power[: n_components(l_out)] * gain[:, None, None])
        return torch.cat(terms, dim=-1)

    def readout(self, layer, x):
        return (x @ layer.linear + torch.nn.functional.silu(x @ layer.inner) @ layer.outer).squeeze(-1)


def mixed(weight, x, which):
    return torch.einsum("qni,qio->qno", x, weight[which])


def by_channel(x):
    """[components, n, channels] -> e3nn's [n, channels of l=0, channels × 3 of l=1, ...]."""
    l_max = math.isqrt(len(x)) - 1
    return torch.cat([x[l**2 : (l + 1) ** 2].permute(1, 2, 0).flatten(1) for l in range(l_max + 1)], dim=1)  # noqa: E741


def product_on_sphere(f, g):
    """Coefficients of the product of two functions given by theirs: [qf, n, c], [qg, n, c] -> all degrees."""
    l_f, l_g = math.isqrt(len(f)) - 1, math.isqrt(len(g)) - 1
    point = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    out = f.new_zeros(n_components(l_f + l_g), *f.shape[1:])
    at_point = o3.spherical_harmonics(list(range(l_f + l_g + 1)), point, True, "component")
    for a in range(l_f + 1):
        for b in range(l_g + 1):
            for c in range(abs(a - b), a + b + 1, 2):
                block_a, block_b, block_c = (slice(d**2, (d + 1) ** 2) for d in (a, b, c))
                symbol = o3.wigner_3j(a, b, c, dtype=torch.float64)
                coupled = torch.einsum("abc,a,b->c", symbol, at_point[block_a], at_point[block_b])
                length = coupled.dot(at_point[block_c]) / at_point[block_c].dot(at_point[block_c])
                out[block_c] += (2 * c + 1) * length * torch.einsum("abm,anc,bnc->mnc", symbol, f[block_a], g[block_b])
    return out


CASES = {
    "one element": {},
    "three elements": {"alloy": True},
    "l_max 3, hidden 2": {"l_max": 3, "l_hidden": 2},
    "scalars on edges, three layers": {"l_hidden": 0, "n_layers": 3, "correlation": 2},
    "one layer, four powers": {"n_layers": 1, "correlation": 4},
    "no products": {"correlation": 1},
}


@pytest.fixture
def double():
    """e3nn rounds a product's coefficients to the default precision when it is made."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_padded_equals_plain_edge_list_to_the_second_derivative(make_model, to_graph, alloy, silicon, changes):
    """Energy, forces, and the weights' gradient of a loss on both: every hand-written derivative is in it."""
    model = make_model(**changes).train()
    graph = to_graph(alloy if changes.get("alloy") else silicon)
    target = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    parameters = list(model.parameters())
    found = model(graph, stress=False)
    truth = dict(zip(("energy", "forces"), PlainModel(model).energy_and_forces(graph), strict=True))
    gradients = []
    for out in (found, truth):
        loss = 0.1 * out["energy"].sum() ** 2 + (out["forces"] - target).square().sum()
        gradients.append(torch.autograd.grad(loss, parameters, allow_unused=True))
    assert (found["energy"] - truth["energy"]).abs().item() < PARITY * len(graph.z)
    assert (found["forces"] - truth["forces"]).abs().max() < PARITY
    for mine, its in zip(*gradients, strict=True):
        mine, its = (torch.zeros(1, dtype=torch.float64) if g is None else g for g in (mine, its))
        assert (mine - its).abs().max() < PARITY * its.abs().max().clamp(min=1)
