"""The corners: nobody near, many at once, missing cells, other precisions, and signals of size one at the start."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from isometry_crystal.dataset import collate, labels_of
from isometry_crystal.model import CrystalModel, ModelSettings
from isometry_crystal.table import opposite_edges, tabulate
from isometry_data.crystals import record_of

SIZE_ONE = (0.05, 20.0)  # second moment of every layer at initialisation
SAME = 1e-12  # eV, eV/Å in float64


def test_an_isolated_atom_has_exactly_its_offset(make_model, to_graph, small):
    out = make_model(torch.float32).train()(to_graph(Atoms("Si", cell=[20, 20, 20], pbc=True)))
    assert out["energy"].item() == small.energy_offsets[0]
    assert (out["forces"] == 0).all()
    assert (out["stress"] == 0).all()
    (out["energy"].sum() + out["forces"].sum()).backward()


def test_a_batch_gives_what_its_members_give(make_model, to_graph, alloy, silicon):
    members = [
        alloy,
        Atoms("C", cell=[15, 15, 15], pbc=True),
        Atoms("Si2", [[0, 0, 0], [0, 0, 2.4]]),
        silicon * (2, 1, 1),
    ]
    model = make_model(alloy=True)
    graphs = [to_graph(atoms) for atoms in members]
    whole = model(collate([with_labels(g, a) for g, a in zip(graphs, members, strict=True)]))
    start = 0
    for number, graph in enumerate(graphs):
        alone, end = model(graph), start + graph.num_nodes
        assert abs(whole["energy"][number] - alone["energy"][0]) < SAME
        assert (whole["forces"][start:end] - alone["forces"]).abs().max() < SAME
        assert torch.allclose(whole["stress"][number], alone["stress"][0], atol=SAME, equal_nan=True)
        start = end


def with_labels(graph, atoms):
    for name, value in labels_of(record_of(atoms)).items():
        graph[name] = value
    return graph


def test_gradients_are_finite_beside_masked_neighbours(make_model, to_graph, alloy):
    """An atom alone, one with few and one with many neighbours share a table full of empty places."""
    model = make_model(torch.float32, alloy=True).train()
    crowd = Atoms("Ge8Si", np.random.default_rng(0).uniform(0, 4, (9, 3)))
    out = model(collate([to_graph(a) for a in (alloy, Atoms("C"), Atoms("Si2", [[0, 0, 0], [0, 0, 3.9]]), crowd)]))
    (out["forces"].square().sum() + out["energy"].square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_unknown_element_is_named(make_model, to_graph):
    with pytest.raises(ValueError, match=r"\[79\].*\(14,\)"):
        make_model()(to_graph(bulk("Au")))


def test_float32_agrees_with_float64(make_model, to_graph, silicon):
    double = make_model(torch.float64)(to_graph(silicon))
    single = make_model(torch.float32)(to_graph(silicon))
    assert single["forces"].dtype == torch.float32
    assert single["energy"].dtype == torch.float64
    assert abs(single["energy"] - double["energy"]).item() / 8 < 1e-5
    assert (single["forces"] - double["forces"]).abs().max() < 1e-4


def test_casting_there_and_back_loses_no_digit_of_the_constants(make_model, to_graph, silicon):
    model, other = make_model(), make_model().float().double()
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(to_graph(silicon))["forces"], other(to_graph(silicon))["forces"])


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_keeps_geometry_and_energy_in_full_precision(make_model, to_graph, silicon, half):
    model = make_model(torch.float32).train()
    full = model(to_graph(silicon))
    with torch.autocast("cpu", dtype=half):
        out = model(to_graph(silicon))
        lonely = model(to_graph(Atoms("Si")))
    assert out["forces"].dtype == torch.float32
    assert not torch.equal(out["energy"], full["energy"]), "nothing ran in half precision"
    scale = full["forces"].abs().max()
    assert (out["forces"] - full["forces"]).abs().max() < 0.1 * scale
    assert out["forces"].sum(0).abs().max() < 1e-5 * scale
    assert lonely["energy"].item() == model.settings.energy_offsets[0]
    out["forces"].square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("changes", [{}, {"l_hidden": 0}, {"correlation": 2}, {"n_layers": 4}], ids=str)
def test_signals_start_at_size_one(to_graph, changes):
    """The second moment of every layer's output, over atoms, channels and the components of its scalars."""
    settings = ModelSettings(elements=(14,), energy_offsets=(0.0,), mean_neighbours=28.0).changed(**changes)
    torch.manual_seed(0)
    model, sizes = CrystalModel(settings), {}
    for name, module in model.named_modules():
        if name.startswith(("density", "messages", "updates", "carry")) and name.count(".") <= 1:
            module.register_forward_hook(
                lambda _m, _i, out, name=name: sizes.update({name: out[0].square().mean().item()})
            )
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    atoms.rattle(0.3, seed=0)
    terms = model(to_graph(atoms, settings.cutoff))["energies"]
    assert sizes
    for name, size in [*sizes.items(), ("energies", terms.square().mean().item())]:
        assert SIZE_ONE[0] < size < SIZE_ONE[1], f"{name}: {size}, all: {sizes}"


def test_table_holds_every_edge_once_and_its_opposite(to_graph, silicon):
    graph = to_graph(silicon)
    table = tabulate(graph.edge_index, graph.edge_reverse, 8)
    assert int(table.mask.sum()) == graph.num_edges
    assert torch.equal(table.neighbour.flatten()[table.place], graph.edge_index[1])
    assert torch.equal(table.reverse.flatten()[table.reverse.flatten()], torch.arange(table.reverse.numel()))
    centre_of_opposite = table.reverse.flatten()[table.place] // table.mask.shape[1]
    assert torch.equal(centre_of_opposite, graph.edge_index[1])


def test_opposite_edges_match_shifts_and_miss_what_is_absent():
    edges = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 0]])
    shifts = torch.tensor([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert opposite_edges(edges, shifts).tolist() == [2, -1, 0, -1]


def test_two_models_of_one_seed_are_equal_and_copies_are_free(make_model):
    one, two = make_model(seed=3), make_model(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    twin = copy.deepcopy(one)
    next(twin.parameters()).data.zero_()
    assert next(one.parameters()).abs().sum() > 0
