"""A network's states are labels that another network trains on; residues it is not sure of do not count."""

import json

import numpy as np
import pytest
from isometry.app import load_app
from isometry.cli import main
from isometry.story import train
from isometry_data.protein_records import label_counts
from isometry_data.state_files import read_states, write_states
from isometry_protein.predict import predictions
from isometry_protein.simulate import simulated

APP = load_app("protein")
SMALL = {"model": {"width": 8, "embedding": 6}, "fit": {"epochs": 1}, "data": {"n_train": 60, "longest": 60}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    train(APP, APP.presets["tiny"].changed(**SMALL), folder / "run", is_quiet=True)
    return folder / "run"


@pytest.fixture
def unlabelled(tmp_path):
    records = simulated(12, seed=77, longest=60)
    path = tmp_path / "unlabelled.fasta"
    path.write_text("".join(f">{record.name}\n{record.sequence}\n" for record in records))
    return path


def probabilities(teacher, records):
    from isometry.story import load

    return [found.three for found in predictions(load(APP, str(teacher)).model, records)]


def test_predicted_states_are_read_as_labels(teacher, unlabelled, tmp_path):
    out = tmp_path / "labelled.ss"
    assert main(["predict", "protein", str(teacher), str(unlabelled), "--out", str(out), "--json"]) == 0
    records = read_states(out)
    assert [record.sequence for record in records] == [record.sequence for record in simulated(12, seed=77, longest=60)]
    for record, three in zip(records, probabilities(teacher, records), strict=True):
        assert record.ss3 == "".join("HEC"[state] for state in three.argmax(1))
        assert record.ss8 is None
        assert record.mask.all()


def test_residues_that_the_teacher_is_not_sure_of_are_masked(teacher, unlabelled, tmp_path, capsys):
    out = tmp_path / "labelled.ss"
    sure = float(np.median(np.concatenate(probabilities(teacher, simulated(12, seed=77, longest=60))).max(1)))
    assert main(["label", str(teacher), str(unlabelled), "--out", str(out), "--sure", str(sure), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    records = read_states(out)
    assert [record.mask.tolist() for record in records] == [
        (three.max(1) >= sure).tolist() for three in probabilities(teacher, records)
    ]
    assert told["n_sure"] == sum(record.mask.sum() for record in records)
    assert 0 < told["n_sure"] < told["n_residues"] == sum(map(len, records))


def test_a_student_trains_on_its_teachers_labels(teacher, unlabelled, tmp_path):
    labelled, own, valid = (tmp_path / name for name in ("labelled.ss", "own.ss", "valid.ss"))
    assert main(["label", str(teacher), str(unlabelled), "--out", str(labelled)]) == 0
    write_states(own, simulated(10, seed=3, longest=60))
    write_states(valid, simulated(10, seed=4, longest=60))
    files = {"source": "files", "train": (own, labelled), "valid": (valid,), "n_train": None}
    student = train(APP, APP.presets["tiny"].changed(**{**SMALL, "data": files}), tmp_path / "student", is_quiet=True)
    assert "valid" in student.scores
    assert "22 chains" in label_counts(read_states(own) + read_states(labelled))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "labelled.fasta"], "expected an ending .ss"),
        (["--out", "labelled.ss", "--sure", "80"], "--sure 80.0: expected a probability, 0 to 1"),
        (["--out", "nowhere/labelled.ss"], "the folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_labelled_is_one_line(arguments, message, teacher, unlabelled, capsys):
    assert main(["label", str(teacher), str(unlabelled), *arguments]) == 1
    assert message in capsys.readouterr().err
