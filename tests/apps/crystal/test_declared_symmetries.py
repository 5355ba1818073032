"""The symmetries that the app declares hold for its model, and would be seen broken in another."""

import pytest
import torch
from isometry.symmetry import violation
from isometry_crystal.dataset import collate
from isometry_crystal.symmetries import symmetries
from torch import nn

DECLARED = {symmetry.name: symmetry for symmetry in symmetries(None)}


class Broken(nn.Module):
    """Adds a force along x that grows with an atom's place in the list and with x itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch, **kwargs):
        out = dict(self.model(batch, **kwargs))
        push = torch.zeros_like(out["forces"])
        push[:, 0] = torch.arange(len(push)).to(push) + batch.pos[:, 0].to(push)
        return {**out, "forces": out["forces"] + push}


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
