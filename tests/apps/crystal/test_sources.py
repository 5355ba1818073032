"""Where structures come from, and that no parent is on two sides of a split."""

from __future__ import annotations

import os

import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from isometry_crystal.sources import SourceSettings, notes, structures
from isometry_data.catalogue import locate

needs_mlearn = pytest.mark.skipif(
    not os.path.exists(os.path.join(os.environ.get("ISOMETRY_DATA", ""), "crystal", "mlearn", "Si_train.extxyz.xz")),
    reason="mlearn is not in ISOMETRY_DATA",
)


def test_the_embedded_set_keeps_its_own_split():
    split, checksums = structures(SourceSettings(), seed=0)
    assert all(record.info["split"] == name for name, part in split._asdict().items() for record in part)
    groups = [{record.info["group"] for record in part} for part in split]
    assert not (groups[0] & groups[1])
    assert not (groups[0] & groups[2])
    assert not (groups[1] & groups[2])
    assert list(checksums) == ["silicon.extxyz.xz"]


def test_a_learning_curve_takes_evenly_spaced_structures():
    full, _ = structures(SourceSettings(), seed=0)
    some, _ = structures(SourceSettings(n_train=40), seed=0)
    assert len(some.train) == 40
    assert len(some.test) == len(full.test)
    kinds = {record.info["config_type"] for record in some.train}
    assert kinds == {record.info["config_type"] for record in full.train}


@needs_mlearn
def test_mlearn_keeps_the_published_test_set():
    split, checksums = structures(SourceSettings(source="mlearn", elements=("Si",)), seed=0)
    assert {record.source for record in split.test} == {str(locate("mlearn", "Si_test"))}
    assert {record.source for record in [*split.train, *split.valid]} == {str(locate("mlearn", "Si_train"))}
    assert split.valid
    assert set(checksums) == {"Si_train.extxyz.xz", "Si_test.extxyz.xz"}
    assert f"{len(split.test)} energies" in notes(split)[2]


def test_files_without_a_split_are_split_by_parent(tmp_path):
    frames = []
    for parent in range(20):
        for variant in range(3):
            atoms = bulk("Si", "diamond", a=5.2 + 0.02 * parent, cubic=True)
            atoms.rattle(0.05, seed=3 * parent + variant)
            atoms.info["group"] = f"parent-{parent}"
            atoms.calc = SinglePointCalculator(atoms, energy=-860.0, forces=atoms.positions * 0)
            frames.append(atoms)
    write(tmp_path / "all.extxyz", frames)
    split, _ = structures(SourceSettings(source="files", train=(tmp_path / "all.extxyz",)), seed=1)
    groups = [{record.info["group"] for record in part} for part in split]
    assert all(groups)
    assert not (groups[0] & groups[1])
    assert not (groups[0] & groups[2])
    assert not (groups[1] & groups[2])


def test_no_file_is_a_clear_error():
    with pytest.raises(ValueError, match=r"give --data\.train FILE"):
        structures(SourceSettings(source="files"), seed=0)
