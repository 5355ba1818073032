"""What `isometry compare` promises: exactly the settings that differ, and the scores that the runs wrote themselves."""

import csv
import json

import isometry.cli
import pytest
from isometry.compare import as_rows, compare, differing
from isometry.fit import Fit
from isometry.interrupt import Interrupted
from isometry.story import train
from isometry_wave.train import APP

SHORT = {"fit": {"epochs": 2}, "data": {"n": 40}}
N_PARAMETERS = 16 + 16 + 16 * 16 + 16 + 16 + 1  # of the wave app's net of width 16


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs that differ in two settings."""
    folder = tmp_path_factory.mktemp("runs")
    for name, changes in (("a", {}), ("b", {"optim": {"rate": 0.02}, "seed": 3})):
        train(APP, APP.presets["tiny"].changed(**SHORT).changed(**changes), folder / name, is_quiet=True)
    return folder


@pytest.fixture
def isometry_(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        return isometry.cli.main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


def stored_scores(run):
    return json.loads((run / "scores.json").read_text())["scores"]


def stopped(folder, monkeypatch, epochs_before=1, changes=None):
    """A run that a signal stops after an epoch."""
    step = Fit._stop_or_save

    def stop(fit):
        fit.interrupt.signal = 15 if fit.position.epoch == epochs_before else None
        step(fit)

    monkeypatch.setattr(Fit, "_stop_or_save", stop)
    with pytest.raises(Interrupted):
        train(APP, APP.presets["tiny"].changed(**SHORT).changed(**changes or {}), folder, is_quiet=True)
    monkeypatch.undo()
    return folder


def test_only_the_settings_that_differ_are_named_as_typed(runs):
    assert differing(compare([runs / "a", runs / "b"])) == {"optim.rate": [0.01, 0.02], "seed": [0, 3]}
    assert differing(compare([runs / "a"])) == {}


def test_the_scores_are_the_runs_own(runs):
    row = as_rows(compare([runs / "b", runs / "a"]))[1]
    stored = stored_scores(runs / "a")
    assert (row["valid rmse"], row["test rmse"]) == (stored["valid"]["rmse"], stored["test"]["rmse"])
    assert (row["state"], row["steps"], row["parameters"]) == ("finished", 6, N_PARAMETERS)
    assert row["seconds"] > 0


def test_an_unfinished_run_shows_its_last_validation(runs, ram, monkeypatch):
    run = stopped(ram / "stopped", monkeypatch)
    (entry,) = compare([run])
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    last = [event["scores"] for event in events if event["event"] == "eval"][-1]
    assert (entry.state, entry.scores) == ("unfinished", {"valid": last})
    assert "test rmse" not in as_rows([entry])[0]


def test_a_run_that_failed_is_shown_as_failed(ram):
    settings = APP.presets["tiny"].changed(**SHORT).changed(data={"poison": tuple(range(40))})
    with pytest.raises(FloatingPointError):
        train(APP, settings.changed(fit={"epochs": 20}), ram / "bad", is_quiet=True)
    assert compare([ram / "bad"])[0].state == "failed"


def test_a_checkpoint_is_compared_by_completed_settings(runs):
    checkpoint = sorted((runs / "b" / "checkpoints").iterdir())[-1]
    assert differing(compare([runs / "a", checkpoint])) == {"optim.rate": [0.01, 0.02], "seed": [0, 3]}
    entry = compare([checkpoint])[0]
    assert entry.state == "checkpoint"
    assert set(entry.scores["valid"]) == {"rmse"}


def test_the_calibration_of_a_run_is_shown(runs, ram):
    import shutil

    shutil.copytree(runs / "a", ram / "copy")
    result = json.loads((ram / "copy" / "scores.json").read_text()) | {"calibration": {"head": {"temperature": 1.5}}}
    (ram / "copy" / "scores.json").write_text(json.dumps(result))
    assert as_rows(compare([ram / "copy"]))[0]["calibration head.temperature"] == 1.5


def test_the_command_prints_json_tables_and_files(isometry_, runs, ram):
    code, out, err = isometry_("compare", runs / "a", runs / "b", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["app"] == "wave"
    assert [run["settings"] for run in told["runs"]] == [
        {"optim.rate": 0.01, "seed": 0},
        {"optim.rate": 0.02, "seed": 3},
    ]
    assert told["runs"][0]["scores"] == stored_scores(runs / "a")

    code, out, _ = isometry_("compare", runs / "a", runs / "b", "--out", ram / "table.csv")
    assert code == 0
    assert "optim.rate" in out
    rows = list(csv.DictReader((ram / "table.csv").open()))
    assert [row["optim.rate"] for row in rows] == ["0.01", "0.02"]
    assert "the same in all" in isometry_("compare", runs / "a")[1]


def test_what_cannot_be_compared_is_told_in_one_line(isometry_, runs, ram):
    (ram / "empty").mkdir()
    (ram / "other" / "checkpoints").mkdir(parents=True)
    (ram / "other" / "settings.json").write_text('{"app": "tide", "settings": {}}')
    for arguments, expected in (
        ([runs / "a", ram / "absent"], "no such run folder"),
        ([runs / "a", ram / "empty"], "not a run folder"),
        ([runs / "a", ram / "other"], "different apps"),
        ([runs / "a", "--out", ram / "table.doc"], "no format"),
    ):
        code, out, err = isometry_("compare", *arguments)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert expected in err
