"""What the command line promises: the same commands for every app, one line for a mistake, nothing left behind."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import isometry.cli
import pytest
import torch
from isometry.checkpoint import Vault
from isometry.events import read_events
from isometry.runfolder import RunFolder
from isometry.story import Trained
from isometry_wave.train import APP

FOREIGN = str(Path(__file__).parent.parent / "foreign")
SHORT = ["--fit.epochs", "2", "--data.n", "40"]


@pytest.fixture
def isometry_(capsys):
    """`isometry_(*arguments)`: exit code, stdout, stderr, in this process."""

    def run(*arguments) -> tuple[int, str, str]:
        try:
            code = isometry.cli.main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert isometry.cli.main(["train", "wave", "--out", str(folder), *SHORT]) == 0
    return folder


@pytest.fixture
def points(ram) -> Path:
    (ram / "points.csv").write_text("x,y\n0.5,0.48\n1.0,0.84\n2.0,0.91\n")
    return ram / "points.csv"


def separately(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([FOREIGN, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


LIGHT = """
import sys, isometry.cli
try:
    code = isometry.cli.main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = {"torch", "e3nn", "torch_geometric", "matplotlib", "pydantic", "ase", "Bio"} & sys.modules.keys()
sys.exit(f"imported {sorted(heavy)}" if heavy else code)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["apps"], ["apps", "--json"], ["train", "--help"], ["--version"]])
def test_help_and_apps_answer_without_torch(arguments):
    answer = separately("-c", LIGHT, *arguments)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout
    if arguments == ["apps", "--json"]:
        entry = next(entry for entry in json.loads(answer.stdout) if entry["name"] == "wave")
        assert entry["package"] == "isometry_wave"
        assert entry["summary"].startswith("A foreign app")


def test_the_module_the_script_and_the_command_are_one(ram, isometry_):
    script = str(Path(FOREIGN) / "isometry_wave" / "train.py")
    flags = [*SHORT, "--json", "--out"]
    module = separately("-m", "isometry", "train", "wave", *flags, str(ram / "module"))
    own = separately(script, *flags, str(ram / "script"))
    _, here, _ = isometry_("train", "wave", *flags, ram / "here")
    scores = [json.loads(out)["scores"] for out in (module.stdout, own.stdout, here)]
    assert scores[0] == scores[1] == scores[2]
    assert module.stderr == ""


def test_train_evaluate_predict(isometry_, trained, points, ram):
    code, out, err = isometry_("evaluate", "wave", trained, "--json")
    assert (code, err) == (0, "")
    stored = json.loads((trained / "scores.json").read_text())
    assert json.loads(out)["scores"] == pytest.approx(stored["scores"]["test"])

    code, out, _ = isometry_("evaluate", "wave", trained, points)
    assert code == 0
    assert "rmse" in out

    code, out, _ = isometry_("predict", "wave", trained, points, "--json")
    assert [row["x"] for row in json.loads(out)] == [0.5, 1.0, 2.0]

    table = ram / "table.csv"
    code, out, _ = isometry_("predict", "wave", trained, points, "--out", table, "--dtype", "fp64")
    assert code == 0
    assert str(table) in out
    assert len(table.read_text().splitlines()) == 4


def test_a_stride_is_for_apps_that_read_windows(isometry_, trained, points, monkeypatch):
    code, _, err = isometry_("predict", "wave", trained, points, "--stride", "3")
    assert (code, err) == (1, "isometry: --stride 3: the app wave does not read records by windows; leave it out\n")
    asked = []
    app = replace(APP, strided=lambda settings, n: asked.append(n) or settings)
    monkeypatch.setattr(isometry.cli, "load_app", lambda _: app)
    assert isometry_("predict", "wave", trained, points)[0] == 0
    assert isometry_("predict", "wave", trained, "--stride", "3", points)[0] == 0
    assert asked == [3]
    code, _, err = isometry_("predict", "wave", trained, points, "--stride", "0")
    assert (code, err) == (1, "isometry: --stride 0: windows cannot begin 0 apart; expected 1 or more\n")


def test_a_checkpoint_folder_is_a_model_too(isometry_, trained, points):
    checkpoint = next((trained / "checkpoints").iterdir())
    assert isometry_("predict", "wave", checkpoint, points, "--json")[0] == 0


def test_weights_exported_in_half_precision_take_two_bytes_less_each(isometry_, trained, points, ram):
    sizes, answers = [], []
    for name, flags in (("full", []), ("half", ["--half"])):
        assert isometry_("export", "wave", trained, ram / name, *flags)[0] == 0
        sizes.append((ram / name / "weights.safetensors").stat().st_size)
        answers.append([row["y"] for row in json.loads(isometry_("predict", "wave", ram / name, points, "--json")[1])])
    assert sizes[0] - sizes[1] == pytest.approx(2 * 321, abs=16), "the header's length may change by a few letters"
    assert answers[1] == pytest.approx(answers[0], rel=5e-3, abs=5e-3)


def test_an_exported_checkpoint_predicts_the_same_and_holds_no_training_state(isometry_, trained, points, ram):
    assert isometry_("export", "wave", trained, ram / "shared")[0] == 0
    assert sorted(path.name for path in (ram / "shared").iterdir()) == ["manifest.json", "weights.safetensors"]
    rows = [isometry_("predict", "wave", model, points, "--json")[1] for model in (trained, ram / "shared")]
    assert rows[0] == rows[1]
    code, _, err = isometry_("export", "wave", trained, ram / "shared")
    assert code == 1
    assert "is there already" in err


def test_a_finished_run_says_so_and_gives_the_same_scores(isometry_, trained):
    before = sorted(path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file() and path.name != ".lock")
    code, out, err = isometry_("train", "wave", "--out", trained, *SHORT, "--json")
    assert (code, err) == (0, "")
    again = json.loads(out)
    assert again["reason"] == "finished before"
    assert again["scores"] == json.loads((trained / "scores.json").read_text())["scores"]
    after = sorted(path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file() and path.name != ".lock")
    assert after == before, "a finished run is not touched"
    assert "finished before" in isometry_("train", "wave", "--out", trained, *SHORT)[1]


def test_the_log_of_a_run_is_complete(trained):
    events = read_events(trained / "events.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert [event["split"] for event in events if event["event"] == "eval"][-2:] == ["valid", "test"]
    assert next(event for event in events if event["event"] == "stop")["reason"] == "finished"


# Settings


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_what_is_no_number_is_still_strict_json(isometry_, trained, points, monkeypatch):
    finished = Trained(trained, "finished", {"test": {"rmse": math.inf}})
    monkeypatch.setattr("isometry.story.train", lambda *_, **__: finished)
    monkeypatch.setattr("isometry.story.measured", lambda *_: ({"rmse": math.nan}, {}))
    monkeypatch.setattr("isometry.story.predict", lambda *_: [{"y": torch.tensor([1.0, -math.inf])}])
    assert strict(isometry_("train", "wave", "--json")[1])["scores"] == {"test": {"rmse": "Infinity"}}
    assert strict(isometry_("evaluate", "wave", str(trained), "--json")[1])["scores"] == {"rmse": "NaN"}
    assert strict(isometry_("predict", "wave", str(trained), str(points), "--json")[1]) == [{"y": [1.0, "-Infinity"]}]


def test_the_doctor_speaks_strict_json_of_a_dead_network(isometry_, monkeypatch):
    def dead(settings):
        model = APP.model(settings)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 1e-30)
        return model

    monkeypatch.setattr("isometry_wave.train.APP", replace(APP, model=dead))
    code, told, _ = isometry_("doctor", "wave", "--json")
    assert code == 1
    assert strict(told)["verdict"] == "fatal"


def settings_of(folder: Path) -> dict:
    return json.loads((folder / "settings.json").read_text())["settings"]


def test_a_flag_changes_its_field_and_no_sibling(isometry_, ram):
    assert isometry_("train", "wave", "--out", ram / "run", *SHORT, "--optim.rate", "0.5", "--seed", "3")[0] == 0
    found = settings_of(ram / "run")
    from isometry_wave.train import APP

    expected = APP.presets["tiny"].changed(optim={"rate": 0.5}, seed=3, fit={"epochs": 2}, data={"n": 40})
    from isometry.run_settings import that_matter

    assert found == that_matter(expected)
    assert found["fit"]["average"] == 0.9, "the preset's own value, not the class's"


def test_a_file_stands_in_for_flags_and_flags_come_last(isometry_, ram):
    (ram / "my.toml").write_text("seed = 5\n[fit]\nepochs = 1\n[data]\nn = 40\n[optim]\nrate = 0.25\n")
    run = ram / "run"
    assert isometry_("train", "wave", "--config", ram / "my.toml", "--out", run, "--optim.rate", "0.125")[0] == 0
    found = settings_of(run)
    assert (found["seed"], found["fit"]["epochs"], found["fit"]["average"]) == (5, 1, 0.9)
    assert found["optim"]["rate"] == 0.125


# Mistakes: one line each, and nothing left behind

MISTAKES = {
    "unknown app": (["train", "wavy"], "no app called 'wavy'"),
    "unknown preset": (["train", "wave", "--preset", "huge"], "no preset 'huge'.*tiny"),
    "unknown flag": (["train", "wave", "--optim.rat", "1"], "--optim.rat"),
    "unknown command": (["trian", "wave"], "trian"),
    "no command": ([], "COMMAND"),
    "wrong type": (["train", "wave", "--fit.epochs", "many"], "epochs.*many|many.*int"),
    "value out of range": (["train", "wave", "--fit.epochs", "-3"], "epochs"),
    "wrong choice": (["train", "wave", "--optim.name", "adamm"], "adamm"),
    "no GPU": (["train", "wave", "--device", "cuda"], "sees no GPU; use --device cpu"),
    "no such device": (["train", "wave", "--device", "abacus"], "abacus"),
    "missing config": (["train", "wave", "--config", "absent.toml"], "absent.toml: no such"),
    "missing data": (["train", "wave", "--data.files", "absent.csv"], "absent.csv"),
    "no run": (["evaluate", "wave", "absent"], "absent: no run folder"),
    "extra argument": (["apps", "--loud"], "--loud"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(isometry_, ram, monkeypatch, name):
    monkeypatch.chdir(ram)
    arguments, expected = MISTAKES[name]
    code, out, err = isometry_(*arguments)
    assert code != 0
    one_line(err, expected)
    assert out == ""
    assert [path for path in ram.rglob("*") if path.name != "runs"] == []


def one_line(err: str, expected: str) -> None:
    import re

    assert err.count("\n") == 1, err
    assert err.startswith("isometry: ")
    assert re.search(expected, err), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ("[optim]\nrat = 1", "my.toml: unknown key 'optim.rat', did you mean 'rate'"),
        ("[optim]\nrate = 'fast'", "my.toml: 'optim.rate' is 'fast'"),
        ("[optim", "my.toml: not valid TOML"),
        ("fit = 3", "my.toml: 'fit' is 3"),
    ],
)
def test_a_wrong_settings_file_is_named(isometry_, ram, toml, expected):
    (ram / "my.toml").write_text(toml)
    code, _, err = isometry_("train", "wave", "--config", ram / "my.toml", "--out", ram / "run")
    assert code != 0
    one_line(err, expected)
    assert not (ram / "run").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "no rows"), ("x,y\n", "no rows"), ("x,y\n1.0,oops\n", "line 2"), ("a\n1\n", "line 2")],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_bad_data_leave_no_run_behind(isometry_, ram, content, expected, is_there):
    (ram / "bad.csv").write_text(content)
    run = ram / "deep" / "run"
    if is_there:
        run.mkdir(parents=True)
    code, _, err = isometry_("train", "wave", "--data.files", ram / "bad.csv", "--out", run)
    assert code != 0
    one_line(err, expected)
    assert not run.exists() or not any(run.iterdir())


def test_a_folder_of_something_else_is_left_alone(isometry_, ram):
    (ram / "notes.txt").write_text("mine")
    code, _, err = isometry_("train", "wave", "--out", ram, *SHORT)
    assert code != 0
    one_line(err, "holds files but no run")
    assert [path.name for path in ram.iterdir()] == ["notes.txt"]
    code, _, err = isometry_("predict", "wave", ram, ram / "notes.txt")
    one_line(err, "not a run folder")


def test_other_settings_in_the_same_folder_are_refused(isometry_, trained):
    before = (trained / "settings.json").read_text()
    code, _, err = isometry_("train", "wave", "--out", trained, *SHORT, "--optim.rate", "0.5")
    assert code != 0
    one_line(err, r"other settings \(settings.optim.rate: 0.01 -> 0.5\); choose another --out")
    assert (trained / "settings.json").read_text() == before


def with_stored(folder: Path, change) -> None:
    stored = json.loads((folder / "settings.json").read_text())
    change(stored["settings"])
    (folder / "settings.json").write_text(json.dumps(stored))


def test_a_run_older_than_a_setting_goes_on_with_its_default(isometry_, trained, ram):
    def forget(settings):
        del settings["initialise"], settings["fit"]["curriculum"], settings["fit"]["tokens"]
        del settings["precision"]["scale"]

    folder = copied(trained, ram)
    with_stored(folder, forget)
    assert isometry_("train", "wave", "--out", folder, *SHORT)[0] == 0
    code, _, err = isometry_("train", "wave", "--out", folder, "--fit.tokens", "64", *SHORT)
    assert code == 1
    one_line(err, "fit.tokens: None -> 64")


def test_what_a_run_was_told_stays_though_the_default_has_changed(isometry_, trained, ram):
    folder = copied(trained, ram)
    with_stored(folder, lambda settings: settings["precision"].update(scale=65536.0))
    code, _, err = isometry_("train", "wave", "--out", folder, *SHORT)
    assert code == 1
    one_line(err, "precision.scale: 65536.0 -> 'auto'")
    assert isometry_("train", "wave", "--out", folder, "--precision.scale", "65536", *SHORT)[0] == 0


def test_a_run_with_a_setting_that_is_gone_says_so(isometry_, trained, ram):
    folder = copied(trained, ram)
    with_stored(folder, lambda settings: settings.update(gone=3))
    code, _, err = isometry_("train", "wave", "--out", folder, *SHORT)
    assert code == 1
    one_line(err, "settings.gone: 3 -> None")


def test_settings_without_effect_may_change(isometry_, trained):
    assert isometry_("train", "wave", "--out", trained, *SHORT, "--fit.workers", "1", "--log.every", "3")[0] == 0


def test_two_runs_in_one_folder_the_second_is_refused(isometry_, trained):
    with RunFolder.open(trained):
        code, _, err = isometry_("train", "wave", "--out", trained, *SHORT)
    assert code != 0
    one_line(err, f"in use by process {os.getpid()}")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_run_whose_labels_are_no_numbers_ends_with_an_error(isometry_, ram, value):
    rows = "".join(f"{x / 10},{value}\n" for x in range(64))
    (ram / "bad.csv").write_text("x,y\n" + rows)
    flags = ["--data.files", ram / "bad.csv", "--fit.epochs", "9", "--guard.patience", "2", "--json"]
    code, out, err = isometry_("train", "wave", "--out", ram / "run", *flags)
    assert (code, out) == (1, "")
    one_line(err, r"non-finite.*record \d+" if value == "inf" else "'rmse' was never a number; check the labels")


def test_a_persistent_fault_keeps_the_checkpoints(isometry_, ram):
    poison = [str(record) for record in range(0, 200, 3)]
    run = ram / "run"
    flags = ["--guard.patience", "2", "--guard.rollbacks", "1", "--json", "--data.poison", *poison]
    code, out, err = isometry_("train", "wave", "--out", run, *flags)
    assert (code, out) == (1, "")
    one_line(err, r"stayed non-finite after 1 returns .*record \d+.*--optim.rate")
    assert Vault(run / "checkpoints").newest() is not None
    events = read_events(run / "events.jsonl")
    assert events[-1]["event"] == "stop"
    assert events[-1]["reason"] == "error"


# Checkpoints that cannot be used


def copied(trained: Path, ram: Path) -> Path:
    import shutil

    return Path(shutil.copytree(trained, ram / "copy"))


def test_a_truncated_checkpoint_falls_back_or_says_so(isometry_, trained, points, ram):
    run = copied(trained, ram)
    newest, *older = sorted((run / "checkpoints").iterdir(), reverse=True)
    content = (newest / "weights.safetensors").read_bytes()
    (newest / "weights.safetensors").write_bytes(content[: len(content) // 2])
    code, _, err = isometry_("predict", "wave", newest, points)
    assert code != 0
    one_line(err, "damaged")
    for path in older:
        (path / "weights.safetensors").write_bytes(b"")
    code, _, err = isometry_("predict", "wave", run, points)
    assert code != 0
    one_line(err, "no checkpoint can be read")


def test_a_newer_format_is_refused(isometry_, trained, points, ram):
    from isometry.manifest import sealed

    run = copied(trained, ram)
    for checkpoint in (run / "checkpoints").iterdir():
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        manifest.pop("sha256")
        (checkpoint / "manifest.json").write_bytes(sealed(manifest | {"format": 99}))
    code, _, err = isometry_("predict", "wave", run, points)
    assert code != 0
    one_line(err, "format 99.*upgrade isometry")


@pytest.mark.parametrize(
    ("content", "expected"), [(None, "absent.csv"), ("", "no rows"), ("x\nhere\n", "line 2.*expected a number x")]
)
def test_bad_files_to_predict_are_named_and_no_table_is_written(isometry_, trained, ram, content, expected):
    file = ram / "absent.csv"
    if content is not None:
        file.write_text(content)
    code, _, err = isometry_("predict", "wave", trained, file, "--out", ram / "table.csv")
    assert code != 0
    one_line(err, expected)
    assert not (ram / "table.csv").exists()


@pytest.mark.parametrize(
    ("out", "expected"), [("table.xls", "no format.*expected one of .csv"), ("no/t.csv", "folder")]
)
def test_a_table_that_cannot_be_written_is_refused_before_the_work(isometry_, trained, points, ram, out, expected):
    code, _, err = isometry_("predict", "wave", trained, points, "--out", ram / out)
    assert code != 0
    one_line(err, expected)


def test_changed_data_are_refused(isometry_, ram, monkeypatch):
    from dataclasses import replace

    import isometry_wave.train as wave

    run = ram / "run"
    order = forked.start(["train", "wave", "--out", str(run), *SHORT], ram, WAVE_SIGNAL="15@4")
    assert order.wait() == 143
    data = wave.APP.data
    other = replace(wave.APP, data=lambda settings: replace(data(settings), checksums={"seed": "2"}))
    monkeypatch.setattr(wave, "APP", other)
    code, _, err = isometry_("train", "wave", "--out", run, *SHORT, "--json")
    assert code != 0
    one_line(err, "the data changed since this run began .*'1' -> '2'")
    assert Vault(run / "checkpoints").newest() is not None
