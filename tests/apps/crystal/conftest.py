"""Small crystals and small models for the claims of this folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from isometry_crystal.dataset import CrystalGraph, graph_of
from isometry_crystal.model import CrystalModel, ModelSettings
from isometry_data.crystals import record_of

SMALL = ModelSettings(
    cutoff=4.0,
    channels=8,
    message_channels=4,
    l_max=2,
    n_radial=5,
    readout=8,
    elements=(14,),
    energy_offsets=(-5.3,),
    mean_neighbours=17.0,
)
ALLOY = SMALL.changed(elements=(6, 14, 32), energy_offsets=(-9.0, -5.3, -4.5))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tensors this small only wait for each other's threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> ModelSettings:
    return SMALL


@pytest.fixture
def make_model() -> Callable[..., CrystalModel]:
    """A randomly initialised model: `make_model(dtype, seed=0, alloy=False, **changed settings)`."""

    def make(dtype: torch.dtype = torch.float64, seed: int = 0, alloy: bool = False, **changes: object) -> CrystalModel:
        torch.manual_seed(seed)
        return CrystalModel((ALLOY if alloy else SMALL).changed(**changes)).to(dtype).eval()

    return make


@pytest.fixture
def silicon() -> Atoms:
    """Eight atoms of silicon, shaken by 0.15 Å, in a sheared cell smaller than the cutoff's sphere."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.03 * np.array([[1, 2, 0], [0, -1, 1], [0, 0, 0.5]])), scale_atoms=True
    )
    atoms.rattle(0.15, seed=1)
    return atoms


@pytest.fixture
def alloy(silicon: Atoms) -> Atoms:
    """The same with carbon and germanium in it."""
    atoms = silicon.copy()
    atoms.numbers[[1, 4, 6]] = [6, 32, 32]
    return atoms


@pytest.fixture
def to_graph() -> Callable[..., CrystalGraph]:
    """`to_graph(atoms, cutoff=4.0)`: the structure as the model takes it."""

    def convert(atoms: Atoms, cutoff: float = SMALL.cutoff) -> CrystalGraph:
        return graph_of(record_of(atoms), cutoff)

    return convert
