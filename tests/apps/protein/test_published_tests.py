"""CASP12, TS115 and NEW364 as they are published, scored by the shipped checkpoint under their names."""

import numpy as np
import pytest
from isometry.app import load_app
from isometry.loaded import load
from isometry.story import measured
from isometry_data.protein_records import AMINO_ACIDS, EIGHT_STATES, three_states
from isometry_data.state_files import write_states
from isometry_protein.predict import predictions
from isometry_protein.simulate import simulated

APP = load_app("protein")


@pytest.fixture
def chains():
    """Two chains with eight states; every fifth residue is not ordered, every seventh not evaluated."""
    rng, made = np.random.default_rng(0), []
    for record in simulated(2, 3):
        states = "".join(rng.choice(list(EIGHT_STATES), len(record)))
        place = np.arange(len(record))
        made.append((record.sequence, states, place % 5 > 0, place % 7 > 0))
    return made


def as_arrays(path, chains):
    data = np.zeros((len(chains), 200, 68))
    for row, (sequence, states, ordered, evaluated) in zip(data, chains, strict=True):
        n = len(sequence)
        row[range(n), [AMINO_ACIDS.index(letter) for letter in sequence]] = 1
        row[range(n), [57 + EIGHT_STATES.index(state) for state in states]] = 1
        row[:n, 50], row[:n, 51], row[:n, 52] = 1, ordered, evaluated
    np.savez_compressed(path, data=data, pdbids=np.array(["1ABC-A", "2XYZ-B"]))


def as_table(path, chains):
    lines = ["input, dssp3, dssp8, disorder, cb513_mask"]
    for sequence, states, *masks in chains:
        marks = (" ".join(str(float(mark)) for mark in mask) for mask in masks)
        lines.append(",".join([" ".join(sequence), " ".join(three_states(states)), " ".join(states), *marks]))
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("name", "write", "file"),
    [
        ("casp12", as_arrays, "CASP12.npz"),
        ("ts115", as_arrays, "TS115_HHblits.npz"),
        ("ts115", as_table, "TS115.csv"),
        ("new364", as_table, "NEW364.csv"),
    ],
)
def test_it_is_scored_by_name_on_the_residues_that_count(tmp_path, monkeypatch, chains, name, write, file):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    (tmp_path / "protein" / name).mkdir(parents=True)
    write(tmp_path / "protein" / name / file, chains)
    loaded = load(APP, "netsurfp2", device="cpu")
    scores, _ = measured(loaded, [type(tmp_path)(name)])
    records = APP.read(loaded.settings, [tmp_path / "protein" / name / file]).records
    told = predictions(loaded.model, records)
    counts = np.concatenate([ordered & evaluated for _, _, ordered, evaluated in chains])
    three = np.array(list("".join(of.states for of in told)))
    eight = np.array(list(EIGHT_STATES))[np.concatenate([of.eight.argmax(1) for of in told])]
    known = np.array(list("".join(states for _, states, _, _ in chains)))
    reduced = np.select([np.isin(known, list("GHI")), np.isin(known, list("EB"))], ["H", "E"], "C")
    assert scores["q3"] == pytest.approx((three == reduced)[counts].mean())
    assert scores["q8"] == pytest.approx((eight == known)[counts].mean())


def test_it_may_be_the_test_set_of_a_run_by_name(tmp_path, monkeypatch, chains):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    (tmp_path / "protein" / "casp12").mkdir(parents=True)
    as_arrays(tmp_path / "protein" / "casp12" / "CASP12.npz", chains)
    write_states(tmp_path / "train.ss", simulated(40, 1))
    settings = APP.presets["tiny"].changed(
        data={"source": "files", "train": (str(tmp_path / "train.ss"),), "test": ("casp12",)}
    )
    data = APP.data(settings)
    assert (len(data.test), set(data.checksums)) == (2, {"train.ss", "CASP12.npz"})
    assert APP.tested(settings)[1] == {"CASP12.npz": data.checksums["CASP12.npz"]}


def test_a_set_that_is_not_there_is_told_with_its_places(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOMETRY_DATA", str(tmp_path))
    monkeypatch.setenv("ISOMETRY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError, match=r"set ISOMETRY_DATA to a folder that has .*NEW364\.csv"):
        APP.read(APP.presets["netsurfp2"], [type(tmp_path)("new364")])
