"""Ensembles: means and spreads of what several models say, and a refusal where they do not speak of the same."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import isometry.cli
import numpy as np
import pytest
import torch
from isometry.ensemble import average_rows, evaluate_together, predict_together
from isometry.story import evaluate, load, predict, train
from isometry_moons.train import APP
from isometry_wave.train import APP as WAVE

SEEDS = (0, 1, 2)


@pytest.fixture
def tmp_path(ram):
    return ram


@pytest.fixture(scope="module")
def runs():
    """Runs of other seeds."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="isometry-test-") as folder:
        yield [
            train(
                APP, APP.presets["tiny"].changed(seed=s, fit={"epochs": 4}), Path(folder) / f"s{s}", is_quiet=True
            ).folder
            for s in SEEDS
        ]


@pytest.fixture
def members(runs):
    return [load(APP, run) for run in runs]


@pytest.fixture
def points(tmp_path):
    (tmp_path / "points.csv").write_text("x,y,label\n0.3,1.1,0\n1,-0.6,1\n0.5,0.2,\n0.45,0.3,1\n")
    return tmp_path / "points.csv"


# Rows


def test_real_numbers_get_a_mean_and_a_spread():
    tables = [[{"id": 1, "p": 0.1}, {"id": 2, "p": 0.5}], [{"id": 1, "p": 0.3}, {"id": 2, "p": 0.5}]]
    first, second = average_rows(tables)
    assert list(first) == ["id", "p", "p_spread"]
    assert first == {"id": 1, "p": pytest.approx(0.2), "p_spread": pytest.approx(0.1 * math.sqrt(2))}
    assert second == {"id": 2, "p": 0.5, "p_spread": 0.0}


def test_equal_numbers_keep_their_value():
    tables = [[{"x": 0.1}]] * 3
    assert average_rows(tables) == [{"x": 0.1, "x_spread": 0.0}]


def test_verdicts_hold_the_commonest_and_how_many_agree():
    tables = [[{"id": "a", "class": c, "n": n}] for c, n in (("no", 3), ("yes", 3), ("yes", 3))]
    assert average_rows(tables) == [{"id": "a", "class": "yes", "class_agreement": pytest.approx(2 / 3), "n": 3}]


def test_lists_are_averaged_and_what_is_missing_stays_missing():
    tables = [[{"id": 1, "f": [1.0, 2.0], "e": None}], [{"id": 1, "f": [3.0, 2.0], "e": 1.0}]]
    spread = [pytest.approx(math.sqrt(2)), 0.0]
    assert average_rows(tables) == [{"id": 1, "f": [2.0, 2.0], "f_spread": spread, "e": None, "e_spread": None}]
    (row,) = average_rows([[{"p": math.nan}], [{"p": 1.0}]])
    assert math.isnan(row["p"])
    assert math.isnan(row["p_spread"])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([{"id": 1, "p": 0.1}], "gives 1 rows, the one before it 2"),
        ([{"id": 1, "q": 0.1}, {"id": 2, "q": 0.1}], "differ in p, q"),
        ([{"p": 0.1, "id": 1}, {"p": 0.1, "id": 2}], "differ in their order"),
        ([{"id": 2, "p": 0.1}, {"id": 1, "p": 0.1}], "row 1: member 2 speaks of id 2, the one before it of 1"),
        ([{"id": 1, "p": 0.1}, {"id": 2}], "rows differ in their columns"),
    ],
)
def test_tables_that_speak_of_other_things_are_refused(other, message):
    with pytest.raises(ValueError, match=message):
        average_rows([[{"id": 1, "p": 0.1}, {"id": 2, "p": 0.2}], other])


# Members


def test_the_ensemble_is_the_mean_of_its_members(members, points):
    rows = predict_together(members, [points])
    each = np.array([[row["probability"] for row in predict(member, [points])] for member in members])
    assert [row["probability"] for row in rows] == pytest.approx(each.mean(0).tolist())
    assert [row["probability_spread"] for row in rows] == pytest.approx(each.std(0, ddof=1).tolist())
    assert [row["row"] for row in rows] == [1, 2, 3, 4]


def test_its_scores_are_those_of_the_mean_probability(members):
    found = evaluate_together(members)
    each = [evaluate(member) for member in members]
    assert found.members == each
    assert found.together["nll"] < np.mean([scores["nll"] for scores in each]), "Jensen's inequality"
    assert found.spread["nll"] == pytest.approx(np.std([scores["nll"] for scores in each], ddof=1))


def test_members_must_differ_and_be_of_one_app(members, tmp_path):
    with pytest.raises(ValueError, match="expected two or more"):
        predict_together(members[:1], [])
    with pytest.raises(ValueError, match="named twice"):
        predict_together([members[0], members[0]], [])
    copy = load(APP, shutil.copytree(members[0].checkpoint.path, tmp_path / "copy"))
    with pytest.raises(ValueError, match=r"copy: has the weights of .*; the members of an ensemble must differ"):
        predict_together([members[0], copy], [])
    wave = train(WAVE, WAVE.presets["tiny"].changed(fit={"epochs": 1}), tmp_path / "wave", is_quiet=True).folder
    with pytest.raises(ValueError, match="of the apps moons, wave"):
        predict_together([members[0], load(WAVE, wave)], [])


def test_a_pipe_is_not_for_several_readers(members, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is a pipe, read once"):
        predict_together(members, [tmp_path / "pipe"])


def test_members_with_other_test_sets_are_refused_unless_files_are_named(members, tmp_path, points):
    settings = APP.presets["tiny"].changed(data={"noise": 0.2}, fit={"epochs": 1})
    other = load(APP, train(APP, settings, tmp_path / "other", is_quiet=True).folder)
    with pytest.raises(ValueError, match="test sets differ"):
        evaluate_together([members[0], other])
    assert set(evaluate_together([members[0], other], [points]).together) == {"nll", "accuracy"}


# The command line


def isometry_(capsys, *arguments):
    code = isometry.cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_predict_with_writes_means_and_spreads(capsys, runs, points, tmp_path):
    others = [word for run in runs[1:] for word in ("--with", run)]
    code, out, _ = isometry_(
        capsys, "predict", "moons", runs[0], *others, points, "--out", tmp_path / "p.csv", "--json"
    )
    assert code == 0
    assert len(json.loads(out)) == 4
    assert (
        (tmp_path / "p.csv")
        .read_text()
        .splitlines()[0]
        .startswith("row,x,x_spread,y,y_spread,probability,probability_spread,moon")
    )


def test_evaluate_with_takes_files_before_and_after_its_flags(capsys, runs, points):
    answers = [
        isometry_(capsys, "evaluate", "moons", runs[0], *words, "--json")
        for words in ((points, "--with", runs[1]), ("--with", runs[1], points))
    ]
    assert answers[0] == answers[1]
    told = json.loads(answers[0][1])
    assert len(told["members"]) == len(told["checkpoints"]) == 2
    assert told["scores"].keys() == told["spread"].keys() == {"nll", "accuracy"}
    code, out, _ = isometry_(capsys, "evaluate", "moons", runs[0], "--with", runs[1])
    assert code == 0
    assert "member 2" in out


def test_a_format_of_the_field_is_refused_for_several_models(members, tmp_path, monkeypatch):
    own = [replace(member, app=replace(member.app, own_formats=(".own",))) for member in members]
    with pytest.raises(ValueError, match=r"written as a table; choose one of \.csv"):
        predict_together(own, [], tmp_path / "p.own")


def test_members_on_the_command_line_are_of_the_app(capsys, runs, tmp_path, points):
    wave = train(WAVE, WAVE.presets["tiny"].changed(fit={"epochs": 1}), tmp_path / "wave", is_quiet=True).folder
    code, _, err = isometry_(capsys, "predict", "moons", runs[0], "--with", wave, points)
    assert code == 1
    assert err.count("\n") == 1
    assert "a run of the app 'wave', expected 'moons'" in err


def test_rows_of_whole_numbers_hold_the_commonest():
    from isometry.ensemble import _commonest

    stacked = np.array([[1, 5, 7], [2, 5, 8], [2, 6, 9]])
    assert _commonest(stacked).tolist() == [2, 5, 7]
    assert torch.equal(torch.tensor(_commonest(np.array([[True], [False], [False]]))), torch.tensor([False]))


# One network of several


class Mean(torch.nn.Module):
    """The mean of the members' probabilities, as a logit."""

    def __init__(self, members):
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, x):
        return torch.stack([member(x).softmax(-1) for member in self.members]).mean(0).log()


@pytest.fixture
def united(members):
    """The members of an app that makes one network of several."""
    return [replace(member, app=replace(member.app, together=Mean, own_formats=(".own",))) for member in members]


def test_one_network_of_several_is_asked_for_rows_and_formats(united, members, points, tmp_path, monkeypatch):
    rows = predict_together(united, [points])
    plain = predict_together(members, [points])
    assert [row["probability"] for row in rows] == pytest.approx([row["probability"] for row in plain], abs=1e-6)
    assert [row["probability_spread"] for row in rows] == [row["probability_spread"] for row in plain]
    assert {row["moon"] for row in rows} <= {"upper", "lower"}
    asked = []
    own = [
        replace(one, app=replace(one.app, predict=lambda model, _s, _r, out: asked.append((type(model), out)) or []))
        for one in united
    ]
    predict_together(own, [points], tmp_path / "p.own")
    assert asked[-1] == (Mean, tmp_path / "p.own")


def test_one_network_of_several_is_scored_as_one(united, members):
    assert evaluate_together(united).together == pytest.approx(evaluate_together(members).together, abs=1e-6)
