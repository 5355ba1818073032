"""The symmetries that the app declares hold for its model, and would be seen broken in another."""

import pytest
import torch
from ase.build import bulk
from isometry.order import to_device
from isometry.symmetry import violation
from isometry_crystal.dataset import collate
from isometry_crystal.symmetries import symmetries
from torch import nn

ROUNDING_OF_FORCES = 1e-5  # eV/Å, in fp32, of some eV/Å that cancel
DECLARED = {symmetry.name: symmetry for symmetry in symmetries(None)}


class Broken(nn.Module):
    """Adds a force along x that grows with an atom's place in the list and with x itself."""

    def __init__(self, model, size=1.0):
        """size: eV/Å per Å."""
        super().__init__()
        self.model, self.size = model, size

    def forward(self, batch, **kwargs):
        out = dict(self.model(batch, **kwargs))
        push = torch.zeros_like(out["forces"])
        push[:, 0] = torch.arange(len(push)).to(push) + batch.pos[:, 0].to(push)
        return {**out, "forces": out["forces"] + self.size * push}


@pytest.fixture
def batch(to_graph, alloy):
    shaken = alloy.copy()
    shaken.rattle(0.05, seed=3)
    return collate([to_graph(alloy), to_graph(shaken)])


@pytest.mark.parametrize("name", DECLARED)
def test_each_holds_for_the_model(name, make_model, batch):
    found = violation(DECLARED[name], make_model(alloy=True), batch)
    assert set(found) == {"energy", "forces", "virial"}
    assert max(found.values()) < 1e-9


@pytest.mark.parametrize("name", DECLARED)
def test_each_is_seen_broken(name, make_model, batch):
    assert violation(DECLARED[name], Broken(make_model(alloy=True)), batch)["forces"] > DECLARED[name].tolerance


@pytest.fixture
def perfect(to_graph):
    """Diamond at rest and squeezed: by symmetry no atom feels a force."""
    graphs = [to_graph(bulk("Si", "diamond", a=a, cubic=True)) for a in (5.43, 5.2)]
    return to_device(collate(graphs), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("name", DECLARED)
def test_rounding_of_a_perfect_crystal_breaks_nothing(name, make_model, perfect):
    model = make_model(torch.float32)
    forces = DECLARED[name].outputs(model, perfect)["forces"]
    assert forces.abs().max() < ROUNDING_OF_FORCES
    assert max(violation(DECLARED[name], model, perfect).values()) <= DECLARED[name].tolerance


def test_a_force_that_matters_is_seen_in_a_perfect_crystal(make_model, perfect):
    found = violation(DECLARED["translation"], Broken(make_model(torch.float32), 1e-3), perfect)
    assert found["forces"] > DECLARED["translation"].tolerance
