"""Forces and stress are the derivatives of the energy, which is smooth even where a neighbour comes into sight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from isometry_crystal.angular import gradient_couplings, harmonics, slope_along
from isometry_crystal.radial import radial_basis

STEP = 1e-4  # Å, or strain
DIFFERENCE = 1e-6  # eV/Å or eV: what central differences of this step can tell in float64


def energy_of(model, graph) -> float:
    return model(graph, forces=False, stress=False)["energy"].item()


def test_forces_are_minus_the_slope_of_the_energy(make_model, to_graph, alloy):
    model = make_model(alloy=True)
    forces = model(to_graph(alloy))["forces"].detach().numpy()
    for atom, axis in [(0, 0), (1, 1), (4, 2), (7, 0)]:
        energies = []
        for sign in (1, -1):
            moved = alloy.copy()
            moved.positions[atom, axis] += sign * STEP
            energies.append(energy_of(model, to_graph(moved)))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * STEP), abs=DIFFERENCE)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)])
def test_stress_is_the_slope_by_strain(make_model, to_graph, alloy, a, b):
    model = make_model(alloy=True)
    stress = model(to_graph(alloy))["stress"][0, a, b].item()
    energies = []
    for sign in (1, -1):
        strain = np.zeros((3, 3))
        strain[a, b] += sign * STEP / 2
        strain[b, a] += sign * STEP / 2
        strained = alloy.copy()
        strained.set_cell(alloy.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        energies.append(energy_of(model, to_graph(strained)))
    slope = (energies[0] - energies[1]) / (2 * STEP) / alloy.get_volume()
    assert stress == pytest.approx(slope, abs=DIFFERENCE / 10)


def test_a_dimer_crosses_the_cutoff_smoothly(make_model, to_graph, small):
    """Energy, force and the force's slope go to zero together: no jump in the second derivative."""
    model, cutoff = make_model(), small.cutoff
    offset = 2 * small.energy_offsets[0]

    def at(distance: float) -> tuple[float, float]:
        out = model(to_graph(Atoms("Si2", [[0, 0, 0], [0.6 * distance, 0, 0.8 * distance]])))
        return out["energy"].item() - offset, out["forces"][1].norm().item()

    for distance in (cutoff + 1e-3, cutoff + 1):
        assert at(distance) == (0.0, 0.0)
    for gap in (1e-2, 1e-3):
        energy, force = at(cutoff - gap)
        assert abs(energy) < 100 * (gap / cutoff) ** 3 * 10
        assert force < 100 * (gap / cutoff) ** 2 * 10
    slopes = [(at(cutoff - gap)[1] - at(cutoff - gap - 1e-5)[1]) / 1e-5 for gap in (1e-2, 1e-3, 1e-4)]
    assert abs(slopes[2]) < abs(slopes[1]) < abs(slopes[0])
    assert abs(slopes[2]) < 0.02 * abs(slopes[0])


def test_radial_slopes_are_the_derivatives_of_the_values():
    distance = torch.linspace(0.5, 4.99, 50, dtype=torch.float64).requires_grad_()
    basis = radial_basis(distance, 5.0, 6)
    for wave in range(6):
        (slope,) = torch.autograd.grad(basis.values[:, wave].sum(), distance, retain_graph=True)
        assert (slope - basis.slopes[:, wave]).abs().max() < 1e-12


def test_radial_waves_have_mean_square_one_in_the_ball():
    generator = torch.Generator().manual_seed(0)
    distance = 5 * torch.rand(200_000, generator=generator, dtype=torch.float64) ** (1 / 3)
    assert radial_basis(distance, 5.0, 8).values.square().mean(0) == pytest.approx([1] * 8, abs=0.05)


def test_harmonics_slopes_are_their_gradients():
    vector = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distance = vector.norm(dim=1, keepdim=True)
    values = harmonics(vector / distance, 4)
    cotangent = torch.randn_like(values)
    (truth,) = torch.autograd.grad((values * cotangent).sum(), vector)
    found = slope_along(cotangent, (vector / distance).detach(), values.detach(), gradient_couplings(4)) / distance
    assert (found - truth).abs().max() < 1e-12
