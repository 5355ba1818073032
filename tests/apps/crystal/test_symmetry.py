"""The energy knows no direction, origin, order or unit cell; forces and stress turn with the crystal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import make_supercell
from scipy.spatial.transform import Rotation

PRECISIONS = [torch.float32, torch.float64]
ENERGY = {torch.float32: 1e-5, torch.float64: 1e-9}  # eV per atom
FORCES = {torch.float32: 1e-4, torch.float64: 1e-9}  # eV/Å
STRESS = {torch.float32: 1e-5, torch.float64: 1e-9}  # eV/Å³


@pytest.fixture(params=PRECISIONS, ids=["float32", "float64"])
def check(request, make_model, to_graph):
    """`check(atoms, other, order, turn)`: same energy per atom; forces in `order`, turned by `turn`; stress turned."""
    dtype = request.param
    model = make_model(dtype, alloy=True)

    def compare(atoms: Atoms, other: Atoms, order=slice(None), turn=None) -> None:
        turn = torch.eye(3, dtype=torch.float64) if turn is None else torch.tensor(turn)
        one, two = (model(to_graph(each)) for each in (atoms, other))
        assert abs(one["energy"] / len(atoms) - two["energy"] / len(other)).item() < ENERGY[dtype]
        assert (one["forces"].double()[order] @ turn.T - two["forces"].double()).abs().max() < FORCES[dtype]
        assert (turn @ one["stress"][0].double() @ turn.T - two["stress"][0].double()).abs().max() < STRESS[dtype]
        assert one["forces"].abs().max() > 0.1, "a comparison of zeros would prove nothing"

    return compare


def turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc)


@pytest.mark.parametrize("seed", range(3))
def test_rotation_turns_forces_and_stress_and_leaves_the_energy(check, alloy, seed):
    rotation = Rotation.random(rng=seed).as_matrix()
    check(alloy, turned(alloy, rotation), turn=rotation)


@pytest.mark.parametrize("mirror", [np.diag([1.0, -1, 1]), -np.eye(3)], ids=["mirror", "inversion"])
def test_reflection_does_the_same(check, alloy, mirror):
    check(alloy, turned(alloy, mirror), turn=mirror)


def test_energy_ignores_translation_and_wrapping(check, alloy):
    moved = alloy.copy()
    moved.positions += [1.7, -20.3, 4.4]
    check(alloy, moved)
    moved.wrap()
    check(alloy, moved)


def test_energy_ignores_the_order_of_atoms(check, alloy):
    order = np.random.default_rng(0).permutation(len(alloy))
    check(alloy, alloy[order], order=order)


def test_energy_ignores_the_choice_of_lattice_vectors(check, alloy):
    other = alloy.copy()
    other.set_cell(np.array([[1, 1, 0], [0, 1, 0], [-1, 2, 1]]) @ alloy.cell.array, scale_atoms=False)
    check(alloy, other)


def test_a_supercell_has_the_energy_of_its_cells(check, alloy):
    matrix = np.diag([2, 1, 3])
    check(alloy, make_supercell(alloy, matrix, order="cell-major"), order=list(range(8)) * 6)


def test_swapping_two_elements_is_seen(make_model, to_graph, alloy):
    model, swapped = make_model(alloy=True), alloy.copy()
    swapped.numbers[[0, 1]] = swapped.numbers[[1, 0]]
    assert abs(model(to_graph(alloy))["energy"] - model(to_graph(swapped))["energy"]).item() > 1e-3


def test_forces_sum_to_zero_and_stress_is_symmetric(make_model, to_graph, alloy):
    out = make_model(alloy=True)(to_graph(alloy))
    assert out["forces"].sum(0).abs().max() < 1e-12
    assert (out["stress"] - out["stress"].mT).abs().max() == 0


def test_a_molecule_feels_no_torque_and_has_no_stress(make_model, to_graph, silicon):
    molecule = Atoms(silicon.numbers, silicon.positions)
    out = make_model()(to_graph(molecule))
    torque = torch.linalg.cross(torch.from_numpy(molecule.positions), out["forces"]).sum(0)
    assert torque.abs().max() < 1e-12
    assert out["stress"].isnan().all()
    assert out["virial"].isfinite().all()


@pytest.mark.parametrize("periodic", [(True, True, False), (True, False, False)])
def test_slabs_and_wires_ignore_the_empty_direction(make_model, to_graph, silicon, periodic):
    silicon.pbc = periodic
    taller = silicon.copy()
    taller.cell[2] *= 3
    model = make_model()
    one, two = model(to_graph(silicon)), model(to_graph(taller))
    assert (one["forces"] - two["forces"]).abs().max() < 1e-12
