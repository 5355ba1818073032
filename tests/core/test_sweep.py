"""What a sweep promises: every run once whatever happens, and a U-curve whose sides are named rightly."""

import csv
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import forked
import isometry.cli
import isometry.report
import numpy as np
import pytest
import torch
from isometry.axes import points, read_axes, read_axis, with_values
from isometry.interrupt import Interrupted
from isometry.sweep import sweep
from isometry_wave.train import APP

TINY = APP.presets["tiny"].changed(fit={"epochs": 1}, data={"n": 20})
FLAGS = ["--fit.epochs", "1", "--data.n", "20"]


@pytest.fixture
def plain_reports(monkeypatch):
    """Runs whose own reports are empty: drawing their curves takes longer than training them."""
    monkeypatch.setattr(isometry.report, "write_report", lambda path, *_, **__: Path(path).write_text("") and None)


@pytest.fixture
def isometry_(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        try:
            code = isometry.cli.main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return run


def table(folder: Path) -> str:
    return (folder / "sweep.csv").read_text()


# The points


def test_a_range_is_even_in_the_logarithm_and_exact_at_its_ends():
    axes = read_axes(["optim.decay=1e-6:1e-1"], TINY)
    found = [point["optim.decay"] for point in points(axes, 6)]
    assert found == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rel=1e-6)
    assert (found[0], found[-1]) == (1e-6, 1e-1)
    linear = read_axes(["model.dropout=0:0.5"], TINY, is_linear=True)
    assert [point["model.dropout"] for point in points(linear, 3)] == [0, 0.25, 0.5]


def test_whole_numbers_stay_whole_and_come_once():
    axes = read_axes(["model.width=1:4"], TINY)
    assert points(axes, 9) == [{"model.width": n} for n in (1, 2, 3, 4)]


def test_lists_are_combined_and_several_ranges_are_filled_evenly():
    axes = read_axes(["optim.name=adamw,sgd", "optim.rate=1e-3:1e-1", "optim.decay=1e-4:1"], TINY)
    found = points(axes, 8)
    assert len(found) == 16
    assert [point["optim.name"] for point in found] == ["adamw"] * 8 + ["sgd"] * 8
    shares = np.log10([[point["optim.rate"], point["optim.decay"]] for point in found[:8]]) / [2, 4] + [1.5, 1]
    assert len({tuple(cell) for cell in np.floor(shares * 2).astype(int).tolist()}) == 4, "no corner is empty"
    assert found == points(axes, 8)


def test_values_are_read_as_the_setting_takes_them():
    for text, expected in (("optim.momentum=None,0.9", [None, 0.9]), ("optim.decay-all=false,true", [False, True])):
        axis = read_axis(text, TINY)
        section, _, last = axis.setting.partition(".")
        values = [getattr(getattr(with_values(TINY, [axis], {axis.setting: c}), section), last) for c in axis.choices]
        assert values == expected
    betas = read_axis("optim.betas=0.9 0.99,0.8 0.9", TINY)
    assert with_values(TINY, [betas], {"optim.betas": "0.8 0.9"}).optim.betas == (0.8, 0.9)
    assert read_axis("optim.decay=1e-2,0,1e-3", TINY).choices == ("0", "1e-3", "1e-2")


MISTAKES = {
    "optim.deca=1:2": "did you mean 'decay'",
    "optimm.decay=1:2": "did you mean 'optim'",
    "optim.decay": "expected SETTING=LOW:HIGH",
    "optim.decay=": "expected SETTING=LOW:HIGH",
    "optim.decay=a:b": "expected two numbers",
    "optim.decay=1:2:3": "expected two numbers",
    "optim.decay=2:1": "LOW must be below HIGH",
    "optim.decay=0:1": "say --linear",
    "optim.decay=-2,1": "'optim.decay' is '-2'",
    "optim.name=1:2": "is no number",
    "optim.name=adamm,sgd": "'optim.name' is 'adamm'",
    "model.width=1.5:3": "whole numbers",
    "optim=1:2": "a section",
    "seed=0:4": "--seeds",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_wrong_name_or_value_is_told_in_one_line(isometry_, ram, text):
    code, out, err = isometry_("sweep", "wave", "--over", text, "--out", ram / "sweep")
    assert (code, out) == (1, "")
    assert MISTAKES[text] in err
    assert err.count("\n") == 1
    assert not (ram / "sweep").exists()


def test_the_command_asks_for_what_is_missing(isometry_, ram):
    assert "--over SETTING=LOW:HIGH" in isometry_("sweep", "wave", "--out", ram / "sweep")[2]
    assert "each once" in isometry_("sweep", "wave", *["--over", "seed_=1,2"][:0], "--over", "optim.rate=1:2",
                                    "--over", "optim.rate=1:3", "--out", ram / "sweep")[2]  # fmt: skip
    assert "at least 2" in isometry_("sweep", "wave", "--over", "optim.rate=1:2", "--trials", "1")[2]
    assert "at least 1" in isometry_("sweep", "wave", "--over", "optim.rate=1:2", "--seeds", "0")[2]


# The runs


def quick(folder, over="optim.rate=1e-3:1e-1", **options):
    return sweep(APP, TINY, [over], folder, **{"trials": 3, "seeds": 2} | options)


def test_every_run_is_an_ordinary_run_without_a_test_score(ram, plain_reports, isometry_):
    swept = quick(ram / "sweep")
    runs = sorted((ram / "sweep" / "runs").iterdir(), key=lambda path: int(path.name))
    stored = [json.loads((run / "scores.json").read_text())["scores"] for run in runs]
    assert [set(scores) for scores in stored] == [{"valid"}] * 6
    asked = [json.loads((run / "settings.json").read_text())["settings"] for run in runs]
    assert [(each["optim"]["rate"], each["seed"]) for each in asked] == [
        (rate, seed) for seed in (0, 1) for rate in (1e-3, 1e-2, 1e-1)
    ]
    valid = np.array([scores["valid"]["rmse"] for scores in stored]).reshape(2, 3)
    assert [row["valid"] for row in swept.rows] == pytest.approx(valid.mean(0))
    assert [row["valid_error"] for row in swept.rows] == pytest.approx(valid.std(0, ddof=1) / np.sqrt(2))
    assert isometry_("evaluate", "wave", runs[0], "--json")[0] == 0, "the chosen run may then be tested"
    told = json.loads((ram / "sweep" / "sweep.json").read_text())
    assert (told["score"], told["best"]) == ("rmse", swept.best)
    assert [float(row["valid"]) for row in csv.DictReader((ram / "sweep" / "sweep.csv").open())] == [
        row["valid"] for row in swept.rows
    ]
    report = (ram / "sweep" / "report.html").read_text()
    assert "sweep over optim.rate" in report
    assert "data:image/svg+xml" in report


def test_the_training_score_is_that_of_the_best_weights(ram, plain_reports):
    swept = quick(ram / "sweep", seeds=1, trials=2)
    from isometry import story
    from isometry_wave.dataset import simulated

    loaded = story.load(APP, ram / "sweep" / "runs" / "0")
    train = simulated(20, 1, 0.1)
    with torch.no_grad():
        residual = loaded.model(train.x) - train.y
    assert swept.rows[0]["train"] == pytest.approx(float(residual.square().mean().sqrt()), rel=1e-6)


def test_more_seeds_add_to_a_sweep_and_another_sweep_is_refused(ram, plain_reports):
    quick(ram / "sweep", seeds=1)
    first = (ram / "sweep" / "runs" / "0" / "scores.json").stat().st_mtime_ns
    assert [row["n_seeds"] for row in quick(ram / "sweep", seeds=2).rows] == [2, 2, 2]
    assert (ram / "sweep" / "runs" / "0" / "scores.json").stat().st_mtime_ns == first
    with pytest.raises(ValueError, match=r"holds another sweep \(settings\.fit\.epochs: 1 -> 2\)"):
        sweep(APP, TINY.changed(fit={"epochs": 2}), ["optim.rate=1e-3:1e-1"], ram / "sweep", trials=3)
    with pytest.raises(ValueError, match="holds another sweep"):
        quick(ram / "sweep", trials=4)
    (ram / "full").mkdir()
    (ram / "full" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="holds files but no sweep"):
        quick(ram / "full")
    with pytest.raises(NotADirectoryError, match="a file is in the way"):
        quick(ram / "full" / "mine.txt")


def test_a_run_that_fails_is_recorded_and_the_sweep_goes_on(ram, plain_reports):
    said = []
    app = replace(APP, learn=lambda settings, data: refuse(settings) or APP.learn(settings, data))
    swept = sweep(app, TINY, ["model.width=4,8,16"], ram / "sweep", seeds=2, tell=said.append)
    assert [row["n_seeds"] for row in swept.rows] == [2, 0, 2]
    assert [(row["run"], row["model.width"], row["seed"]) for row in swept.failed] == [(1, "8", 0), (4, "8", 1)]
    assert swept.failed[0]["reason"] == "a width of 8 is unlucky"
    assert sum("failed: a width of 8" in line for line in said) == 2
    assert "2 runs have no score" in swept.summary()
    assert "a width of 8 is unlucky" in (ram / "sweep" / "report.html").read_text()
    with pytest.raises(ValueError, match="no run of the sweep has a score; run 0: a width of 8"):
        sweep(app, TINY, ["model.width=8"], ram / "none", seeds=1)


def refuse(settings):
    if settings.model.width == 8:
        raise ValueError("a width of 8 is unlucky")


def test_several_settings_give_a_table_without_sides(ram, plain_reports):
    swept = sweep(APP, TINY, ["optim.name=adamw,sgd", "model.width=4,8"], ram / "sweep", seeds=1)
    assert swept.curve is None
    assert len(swept.rows) == 4
    assert "side" not in swept.rows[0]
    assert swept.best["valid"] == min(row["valid"] for row in swept.rows)


def test_a_notebook_may_interrupt_and_go_on(ram, plain_reports, monkeypatch):
    monkeypatch.setenv("WAVE_SIGNAL", "15@4")
    with pytest.raises(Interrupted):
        quick(ram / "sweep", trials=2, seeds=1)
    monkeypatch.delenv("WAVE_SIGNAL")
    whole = quick(ram / "whole", trials=2, seeds=1)
    assert quick(ram / "sweep", trials=2, seeds=1).rows == whole.rows


# In processes of their own

TWO = ["--over", "optim.rate=1e-3:1e-1", "--trials", "2", "--seeds", "1", *FLAGS]


def begin(ram, name, *flags, **environment):
    (ram / f"{name}-said").mkdir(exist_ok=True)
    return forked.start(["sweep", "wave", *TWO, "--out", str(ram / name), *flags], ram / f"{name}-said", **environment)


def n_done(folder):
    return len(list(folder.glob("runs/*/report.html")))


def wait_until(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_sweep_killed_and_started_again_gives_the_same_table(ram):
    whole = begin(ram, "whole", "--json")
    killed = begin(ram, "killed", WAVE_SLEEP="0.05")
    wait_until(lambda: n_done(ram / "killed") >= 1)
    killed.send(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    with open(ram / "killed" / "journal.log", "ab") as journal:
        journal.write(b'{"op_code": 4, "torn')
    done = {run: run.stat().st_mtime_ns for run in (ram / "killed").glob("runs/*/scores.json")}
    again = begin(ram, "killed")
    assert again.wait() == 0, again.stderr.read_text()
    assert whole.wait() == 0, whole.stderr.read_text()
    assert table(ram / "killed") == table(ram / "whole")
    assert len(list((ram / "killed" / "runs").iterdir())) == 2
    assert all(run.stat().st_mtime_ns == before for run, before in done.items()), "what was done is not done again"
    assert (
        json.loads(whole.stdout.read_text())["points"]
        == json.loads((ram / "whole" / "sweep.json").read_text())["points"]
    )


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(ram):
    stopped = begin(ram, "stopped", WAVE_SIGNAL="2@4")
    assert stopped.wait() == 130
    assert stopped.stderr.read_text() == "isometry: stopped by SIGINT; the same command goes on from here\n"
    assert not (ram / "stopped" / "sweep.csv").exists()


@pytest.mark.slow
def test_two_processes_share_the_work_and_give_the_same_table(ram):
    foreign = str(Path(__file__).parent.parent / "foreign")
    path = os.pathsep.join([foreign, os.environ.get("PYTHONPATH", "")])
    alone = begin(ram, "alone")
    shared = begin(ram, "shared", "--processes", "2", PYTHONPATH=path)
    assert (alone.wait(), shared.wait(120)) == (0, 0), shared.stderr.read_text()
    assert table(ram / "shared") == table(ram / "alone")
    assert shared.stdout.read_text().count("run ") == 2, "each run was trained once"

    stopped = begin(ram, "stopped", "--processes", "2", PYTHONPATH=path, WAVE_SLEEP="0.5")
    wait_until(lambda: len(list((ram / "stopped").glob("runs/*/checkpoints/step-*"))) >= 2)
    stopped.send(signal.SIGINT)
    assert stopped.wait() == 130, stopped.stderr.read_text()
    assert "the same command goes on" in stopped.stderr.read_text()
    again = begin(ram, "stopped", "--processes", "2", PYTHONPATH=path)
    assert again.wait(120) == 0, again.stderr.read_text()
    assert table(ram / "stopped") == table(ram / "alone")
