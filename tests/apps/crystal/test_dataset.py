"""Records to graphs, what the training set teaches beforehand, and a split that keeps families together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from isometry_crystal.dataset import (
    CrystalDataset,
    blocks_of,
    collate,
    elements_of,
    energy_offsets,
    force_scale,
    graph_of,
    hold_out,
    name_bytes,
    names_of,
    split_records,
    statistics,
    system_of,
)
from isometry_crystal.table import opposite_edges
from isometry_data.crystals import CrystalRecord, record_of


def record(
    atoms: Atoms, energy: float | None = None, forces: float | None = None, frame: int = 0, **info
) -> CrystalRecord:
    return CrystalRecord(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions,
        cell=atoms.cell.array,
        pbc=atoms.pbc,
        energy=energy,
        forces=None if forces is None else np.full((len(atoms), 3), forces),
        frame=frame,
        info=info,
    )


def test_a_structure_is_the_same_each_time_it_is_asked_for(silicon):
    dataset = CrystalDataset([record_of(silicon)], 4.0)
    assert dataset[0] is dataset[0]
    assert len(dataset) == 1
    with pytest.raises(IndexError):
        dataset[1]


def test_unknown_labels_are_nan(silicon):
    graph = graph_of(record(silicon), 4.0)
    assert graph.energy.isnan().all()
    assert graph.forces.isnan().all()
    assert graph.stress.isnan().all()


def test_stress_goes_from_six_numbers_to_nine(silicon):
    known = CrystalRecord(silicon.numbers, silicon.positions, silicon.cell.array, silicon.pbc, stress=np.arange(6.0))
    expected = torch.tensor([[0.0, 5, 4], [5, 1, 3], [4, 3, 2]], dtype=torch.float64)
    assert torch.equal(graph_of(known, 4.0).stress[0], expected)


def test_a_batch_finds_the_opposite_edges_again(silicon, alloy):
    batch = collate([graph_of(record_of(atoms), 4.0) for atoms in (silicon, alloy, Atoms("Si"), silicon)])
    assert torch.equal(batch.edge_reverse, opposite_edges(batch.edge_index, batch.edge_shift))
    assert batch.n_atoms.tolist() == [8, 8, 1, 8]


def test_offsets_are_the_atoms_energies_where_compositions_tell_them_apart():
    truth = {6: -9.0, 14: -5.4}
    mixtures = [Atoms("Si2"), Atoms("SiC"), Atoms("SiC3"), Atoms("Si5C2")]
    records = [record(atoms, energy=sum(truth[n] for n in atoms.numbers)) for atoms in mixtures]
    assert energy_offsets(records, (6, 14)) == pytest.approx((-9.0, -5.4), abs=1e-9)


def test_offsets_of_a_single_compound_are_of_smallest_norm():
    records = [record(Atoms("SiC"), energy=-14.0), record(Atoms("Si2C2"), energy=-28.0)]
    assert energy_offsets(records, (6, 14)) == pytest.approx((-7.0, -7.0), abs=1e-9)
    assert energy_offsets([record(Atoms("SiC"))], (6, 14)) == (0.0, 0.0)


def test_statistics_complete_the_models_settings(silicon, small):
    dataset = CrystalDataset([record(silicon, energy=-40.0, forces=0.5), record(silicon, energy=-44.0)], small.cutoff)
    found = small.changed(**statistics(dataset))
    assert found.elements == elements_of(dataset.records) == (14,)
    assert found.energy_offsets == pytest.approx((-5.25,))
    assert found.scale == pytest.approx(0.5)
    assert found.mean_neighbours == pytest.approx(dataset[0].num_edges / 8)
    assert force_scale([record(silicon)]) == 1.0


def test_names_travel_as_bytes():
    rows = torch.cat([name_bytes("aimd"), name_bytes(""), name_bytes("ground_state" * 3)]).numpy()
    assert names_of(rows) == ["aimd", "", ("ground_state" * 3)[:24]]
    assert system_of(record(Atoms("SiCSi"))) == "C-Si"


@pytest.fixture
def trajectories() -> list[CrystalRecord]:
    """Three temperatures of 40 consecutive frames, and a strain path."""
    atoms = bulk("Si")
    frames = [record(atoms, frame=i, config_type="aimd", temperature_K=t) for t in (300, 900, 2000) for i in range(40)]
    return frames + [record(atoms, frame=i, config_type="elastic", strain_mode=i // 10) for i in range(30)]


def test_blocks_of_neighbouring_frames_stay_together(trajectories):
    rest, held = hold_out(trajectories, 0.15, seed=0, block=6)
    assert len(rest) + len(held) == len(trajectories)
    assert 0.08 * len(trajectories) < len(held) < 0.25 * len(trajectories)
    kept = {id(r) for r in rest}
    for blocks in blocks_of(trajectories, 6).values():
        for block in blocks:
            assert len({id(trajectories[i]) in kept for i in block}) == 1
    assert {r.info["config_type"] for r in held} == {"aimd", "elastic"}


def test_groups_named_in_the_file_are_never_cut():
    records = [record(bulk("Si"), frame=i, config_type="rattle", group=f"parent{i % 7}") for i in range(70)]
    split = split_records(records, valid=0.15, test=0.3, seed=4)
    groups = [{r.info["group"] for r in part} for part in split]
    assert all(groups)
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]  # noqa: PT018


def test_the_files_own_split_is_kept():
    records = [record(bulk("Si"), frame=i, split=s) for i, s in enumerate(["train", "test", "valid", "val", "train"])]
    split = split_records(records)
    assert [[r.frame for r in part] for part in split] == [[0, 4], [2, 3], [1]]
    with pytest.raises(ValueError, match=r"frame 5.*'holdout'.*train, valid or test"):
        split_records([*records, record(bulk("Si"), frame=5, split="holdout")])


def test_a_split_depends_on_the_seed_alone(trajectories):
    one, same, other = (split_records(trajectories, seed=seed) for seed in (1, 1, 2))
    assert [[id(r) for r in part] for part in one] == [[id(r) for r in part] for part in same]
    assert [id(r) for r in one.test] != [id(r) for r in other.test]
