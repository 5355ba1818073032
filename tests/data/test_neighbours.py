"""Neighbour lists are ASE's, whatever the cell, the periodicity and the place of the atoms."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from ase.neighborlist import neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from isometry_data.crystals import neighbours, record_of

ON_THE_EDGE = 1e-6  # Å; pairs this close to the cutoff may fall either way, so no example has one
SAME_LENGTH = 1e-9  # Å


def pairs(edge_index: np.ndarray, shift: np.ndarray) -> Counter:
    """Pairs with their images, each as often as it is listed."""
    return Counter(zip(*edge_index.tolist(), *shift.T.tolist(), strict=True))


def oracle(atoms: Atoms, cutoff: float) -> Counter:
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    return pairs(np.stack([i, j]), shift)


def lengths(atoms: Atoms, edge_index: np.ndarray, shift: np.ndarray) -> np.ndarray:
    i, j = edge_index
    return np.linalg.norm(atoms.positions[j] + shift @ np.asarray(atoms.cell) - atoms.positions[i], axis=1)


def assert_agrees(atoms: Atoms, cutoff: float) -> None:
    edge_index, shift = neighbours(atoms, cutoff)
    assert pairs(edge_index, shift) == oracle(atoms, cutoff)
    assert edge_index.dtype == shift.dtype == np.int64
    assert (np.diff(edge_index[0]) >= 0).all()
    assert not shift[:, ~atoms.pbc].any()
    assert (lengths(atoms, edge_index, shift) <= cutoff + SAME_LENGTH).all()


STRUCTURES = {
    "crystal": bulk("Si", a=5.43, cubic=True),
    "cell far smaller than the cutoff": bulk("Cu"),
    "left-handed cell": Atoms("Cu", cell=bulk("Cu").cell[[1, 0, 2]], pbc=True),
    "needle": Atoms("Fe2", [[0, 0, 0], [1.3, 0.2, 0]], cell=[[2.5, 0, 0], [9, 20, 0], [-3, 7, 20]], pbc=True),
    "slab": fcc111("Cu", (2, 2, 3), vacuum=6.0),
    "slab whose cell has two vectors": graphene(size=(2, 1, 1)),
    "wire": Atoms("C3", [[0, 0, 0], [1, 1, 0.3], [5, 5, 1]], cell=[0, 0, 2.4], pbc=(False, False, True)),
    "molecule": molecule("C6H6"),
    "molecule in a cell that means nothing": Atoms("HF", [[0, 0, 0], [0, 0, 0.92]], cell=[0.5, 0.5, 0.5]),
    "one atom": Atoms("He"),
    "one periodic atom": Atoms("Po", cell=[3.35] * 3, pbc=True),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("cutoff", [1.7, 5.3])
def test_pairs_are_those_of_ase(name, cutoff):
    assert_agrees(STRUCTURES[name], cutoff)


def coordinates(n: int, limit: float) -> st.SearchStrategy:
    return st.lists(st.lists(st.floats(-limit, limit), min_size=3, max_size=3), min_size=n, max_size=n)


@settings(max_examples=60, deadline=None)
@given(
    cell=coordinates(3, 5.0),
    positions=st.integers(1, 5).flatmap(lambda n: coordinates(n, 12.0)),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cutoff=st.floats(0.5, 4.0),
)
def test_pairs_are_those_of_ase_for_any_cell(cell, positions, pbc, cutoff):
    """Triclinic and skewed, every mix of periodicity, atoms outside the cell, cells smaller than the cutoff."""
    atoms = Atoms(f"H{len(positions)}", positions, cell=cell, pbc=pbc)
    rows = np.asarray(cell)[list(pbc)]
    assume(len(rows) == 0 or np.sqrt(max(np.linalg.det(rows @ rows.T), 0)) > 2.0 ** len(rows))
    assume(np.abs(np.linalg.det(np.asarray(cell))) > 4.0)  # what ASE's list asks for
    wide = lengths(atoms, *neighbours(atoms, cutoff + 2 * ON_THE_EDGE))
    assume(not (np.abs(wide - cutoff) < ON_THE_EDGE).any())
    i, j = np.triu_indices(len(atoms), 1)
    assume((np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1) > ON_THE_EDGE).all())
    assert_agrees(atoms, cutoff)


def test_every_pair_is_listed_both_ways():
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=0)
    edge_index, shift = neighbours(atoms, 4.5)
    assert pairs(edge_index, shift) == pairs(edge_index[::-1], -shift)


def test_wrapping_atoms_changes_no_distance():
    atoms = bulk("Si", a=5.43, cubic=True)
    atoms.rattle(0.2, seed=0)
    moved = atoms.copy()
    moved.positions += np.random.default_rng(0).integers(-3, 4, (8, 3)) @ np.asarray(atoms.cell)
    for cutoff in (3.0, 7.0):
        here, there = (np.sort(lengths(a, *neighbours(a, cutoff))) for a in (atoms, moved))
        np.testing.assert_allclose(here, there, atol=SAME_LENGTH)


def test_pairs_far_apart_are_found_without_a_bin_for_every_ångström_between():
    """Three molecules 1e5 Å apart: more bins than memory, were there one for each cutoff."""
    pair, far = np.array([[0, 0, 0], [0, 0, 0.8]]), np.array([1e5, -1e5, 0])
    atoms = Atoms("H6", np.vstack([pair, pair + far, pair - far[::-1]]))
    edge_index, shift = neighbours(atoms, 3.0)
    assert edge_index.tolist() == [[0, 1, 2, 3, 4, 5], [1, 0, 3, 2, 5, 4]]
    assert not shift.any()


def test_atoms_record_and_arrays_are_all_understood():
    atoms = bulk("Si", a=5.43)
    expected = neighbours(atoms, 4.0)
    for structure in (record_of(atoms), (atoms.positions, np.asarray(atoms.cell), atoms.pbc)):
        for found, must in zip(neighbours(structure, 4.0), expected, strict=True):
            np.testing.assert_array_equal(found, must)


def test_no_atoms_have_no_neighbours():
    edge_index, shift = neighbours((np.zeros((0, 3)), np.eye(3), np.ones(3, bool)), 3.0)
    assert (edge_index.shape, shift.shape) == ((2, 0), (0, 3))


@pytest.mark.parametrize("cutoff", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cutoff_is_a_positive_length(cutoff):
    with pytest.raises(ValueError, match="the cutoff must be a positive length in Å"):
        neighbours(bulk("Si"), cutoff)
