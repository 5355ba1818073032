"""Calibration: the fit against closed forms, the measures by hand, and what every classifying run ends with."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry.calibrate import (
    COLDEST,
    HOTTEST,
    Fitted,
    Temperature,
    calibration,
    calibration_at,
    fit_temperature,
    reliability_figure,
)
from isometry.checkpoint import Vault
from isometry.events import read_events
from isometry.heads import Calibrated, as_plain, check_heads, find_temperatures, what_heads_say
from isometry.objective import Labelled
from isometry.story import evaluate, export, load, predict, prepare, train
from isometry_moons.dataset import posterior, simulated
from isometry_moons.train import APP
from torch import nn

WRITER = Path(__file__).with_name("crashing_writer.py")
FOREIGN = Path(__file__).parent.parent / "foreign"
SAME = 1e-8  # relative, of sums in float64
N = 20_000


@pytest.fixture
def tmp_path(ram):
    return ram


def drawn(n=N, n_classes=4, seed=0):
    """Logits and labels drawn from their softmax: calibrated as they are."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, n_classes))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    return z, (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, n_classes - 1)


# The temperature


def test_two_logits_have_a_closed_form():
    """Logits (0, a), a share q of labels 1: the best softmax says q, so T = a / log(q / (1 - q))."""
    a, q, n = 3.0, 0.7, 1000
    logits, labels = np.tile([0.0, a], (n, 1)), (np.arange(n) < q * n).astype(int)
    expected = a / math.log(q / (1 - q))
    for given in (logits, logits[:, 1], logits[:, 1:], torch.tensor(logits, dtype=torch.float32)):
        assert fit_temperature(given, labels) == (pytest.approx(expected, rel=SAME), "fitted", n)


def test_the_fit_is_where_the_likelihood_is_largest():
    z, labels = drawn()
    found = fit_temperature(5 * z, labels).temperature
    losses = [calibration_at(5 * z, labels, found * factor).nll for factor in (0.99, 1.0, 1.01)]
    assert losses[1] < min(losses[0], losses[2])


def test_the_fit_scales_with_the_logits_and_sees_no_shift():
    z, labels = drawn(2000)
    one = fit_temperature(z, labels).temperature
    for factor in (1e-1, 1.0, 1e3):
        shifted = factor * z + 7 * factor * np.arange(len(z))[:, None]
        assert fit_temperature(shifted, labels).temperature == pytest.approx(factor * one, rel=1e-6)


def test_rows_in_blocks_are_rows_at_once(monkeypatch):
    z, labels = drawn(1000)
    whole, whole_measures = fit_temperature(z, labels), calibration_at(z, labels)
    monkeypatch.setattr("isometry.calibrate._BLOCK", 64)
    assert fit_temperature(z, labels).temperature == pytest.approx(whole.temperature, rel=SAME)
    assert calibration_at(z, labels).expected_error == pytest.approx(whole_measures.expected_error, rel=SAME)


@pytest.mark.parametrize(
    ("change", "temperature", "outcome"),
    [
        (lambda z, y: (z, np.full_like(y, -1)), 1.0, "no labels"),
        (lambda z, y: (z, np.zeros_like(y)), 1.0, "one class"),
        (lambda z, y: (z, z.argmax(1)), 1.0, "never wrong"),
        (lambda z, y: (0 * z, y), 1.0, "all alike"),
        (lambda z, y: (-z, y), HOTTEST, "hottest allowed"),
        (lambda z, y: (1e-5 * z, y), COLDEST, "coldest allowed"),
        (lambda z, y: (np.full_like(z, np.nan), y), 1.0, "no labels"),
        (lambda z, y: (z[:0], y[:0]), 1.0, "no labels"),
    ],
)
def test_what_says_nothing_gives_a_clear_outcome_and_no_nan(change, temperature, outcome):
    logits, labels = change(*drawn(500))
    found = fit_temperature(logits, labels)
    assert (found.temperature, found.outcome) == (temperature, outcome)
    assert len(calibration_at(logits, labels, found.temperature).bins) == 15


def test_rows_that_are_no_numbers_are_left_out_and_a_forbidden_class_is_not():
    z, labels = drawn(3000, 3)
    expected = fit_temperature(z, labels).temperature
    forbidden = np.concatenate([z, np.full((len(z), 1), -np.inf)], 1)
    assert fit_temperature(forbidden, labels).temperature == pytest.approx(expected, rel=SAME)
    broken = np.concatenate([z, [[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf, 0, 0]]])
    found = fit_temperature(broken, [*labels, 0, 0, 0])
    assert found == (pytest.approx(expected, rel=SAME), "fitted", 3000)
    assert calibration_at(broken, [*labels, 0, 0, 0]).n_left_out == 3


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "expected .n, n_classes. and .n."),
        (np.zeros((2, 2)), [0, 2], "expected -1 to 1"),
        (np.zeros((2, 2)), [0.0, 1.0], "expected integers"),
    ],
)
def test_rows_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


def test_a_temperature_divides_when_evaluating_and_only_then():
    module, logits = Temperature(), torch.tensor([[1.0, -2.0]])
    module.temperature.fill_(4.0)
    assert module.train()(logits) is logits
    assert torch.equal(module.eval()(logits), logits / 4)
    assert module(logits.half()).dtype == torch.float16
    assert not list(module.parameters())
    assert list(module.state_dict()) == ["temperature"]


# The measures


def test_measures_by_hand():
    p = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]
    found = calibration(np.array(p), [0, 1, 1, 1], n_bins=2)
    assert (found.n, found.accuracy, found.confidence) == (4, 0.75, pytest.approx(0.75))
    assert found.expected_error == pytest.approx(0.0)
    assert found.equal_mass_error == pytest.approx((abs(2 - 1.3) + abs(1 - 1.7)) / 4)
    assert found.brier == pytest.approx(2 * np.mean([0.01, 0.64, 0.09, 0.16]))
    assert found.nll == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.6]).mean())
    assert [each.count for each in found.bins] == [0, 4]
    assert calibration(np.array(p)[:, 1], [0, 1, 1, 1], n_bins=2) == calibration(np.array(p)[:, 1:], [0, 1, 1, 1], 2)


def test_intervals_are_wilsons():
    scipy = pytest.importorskip("scipy.stats")
    bins = [each for each in calibration_at(*drawn(200)).bins if each.count]
    for each in bins:
        found = scipy.binomtest(round(each.accuracy * each.count), each.count).proportion_ci(0.95, "wilson")
        assert (each.accuracy_low, each.accuracy_high) == (pytest.approx(found.low), pytest.approx(found.high))


def test_equal_confidences_share_a_bin():
    found = calibration(np.tile([0.3, 0.7], (100, 1)), np.arange(100) % 2)
    assert found.equal_mass_error == pytest.approx(0.2)
    assert found.expected_error == found.largest_error == pytest.approx(0.2)


def test_probabilities_of_zero_and_logits_for_probabilities():
    assert math.isfinite(calibration(np.array([[1.0, 0.0]]), [1]).nll)
    with pytest.raises(ValueError, match="logits need a softmax"):
        calibration(np.array([[1.0, 3.0]]), [1])


def test_what_is_calibrated_is_measured_so():
    z, labels = drawn()
    assert calibration_at(z, labels).expected_error < 3 / math.sqrt(N)
    assert calibration_at(3 * z, labels).expected_error > 0.1


def test_the_figure_shows_both_and_survives_empty_ones():
    z, labels = drawn(500)
    empty = calibration_at(z[:0], labels[:0])
    figure = reliability_figure(calibration_at(3 * z, labels), calibration_at(3 * z, labels, 3.0))
    assert [text.get_text().split(":")[0] for text in figure.axes[0].get_legend().get_texts()] == ["before", "after"]
    reliability_figure(empty, empty).canvas.draw()


# The heads of a model


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.near, self.far = (nn.ModuleDict({"scale": Temperature()}) for _ in range(2))


def test_a_head_goes_by_its_name_or_the_end_of_it():
    assert find_temperatures(TwoHeads(), ["near.scale", "far.scale"]) == {
        name: name for name in ("near.scale", "far.scale")
    }
    assert find_temperatures(nn.ModuleDict({"a": TwoHeads()}), ["near.scale"]) == {"near.scale": "a.near.scale"}
    with pytest.raises(ValueError, match="more than one Temperature module ends in 'scale'"):
        find_temperatures(TwoHeads(), ["scale"])
    with pytest.raises(ValueError, match="share the Temperature"):
        find_temperatures(nn.ModuleDict({"a": TwoHeads()}), ["near.scale", "a.near.scale"])


def test_a_head_without_a_temperature_is_refused_before_training(tmp_path):
    settings = APP.presets["tiny"].changed(model={"has_temperature": False})
    with pytest.raises(ValueError, match=r"no Temperature module 'moon' \(it has: none\)"):
        train(APP, settings, tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists()


def test_logits_that_are_divided_already_are_refused():
    _, data, model, objective = prepare(APP, APP.presets["tiny"])
    divided = replace(objective, classes=lambda m, batch: {"moon": Labelled(m(batch["xy"]), batch["label"])})
    with pytest.raises(ValueError, match="before the Temperature module"):
        check_heads(model, divided, data.valid, APP.collate)
    assert model.head["moon"].temperature == 1
    assert model.training


def test_shares_of_several_processes_make_the_whole():
    settings, data, model, objective = prepare(APP, APP.presets["tiny"])
    from isometry.fleet import Fleet
    from isometry.precision import Precision

    def said(rank, world, shares=None):
        fleet = Fleet(rank, world, torch.device("cpu"), "ddp")
        fleet.gather = lambda own: [own] if shares is None else shares
        precision = Precision(settings.precision, fleet.device)
        options = {"batch_size": 7, "precision": precision, "fleet": fleet}
        return what_heads_say(model, objective.classes, data.valid, APP.collate, **options)

    whole, shares = said(0, 1)["moon"], [said(rank, 3) for rank in range(3)]
    together = said(0, 3, shares)["moon"]
    assert len(together.labels) == len(whole.labels) == int((data.valid.label != -1).sum())
    torch.testing.assert_close(np.sort(together.logits, 0), np.sort(whole.logits, 0), rtol=1e-5, atol=1e-6)


# The end of every classifying run


@pytest.fixture(scope="module", params=[1, 2], ids=["one logit", "two logits"])
def overconfident(request, tmp_path_factory):
    settings = APP.presets["memorise"].changed(model={"columns": request.param})
    return train(APP, settings, tmp_path_factory.mktemp("moons") / "run", is_quiet=True).folder


def test_an_overconfident_run_ends_calibrated(overconfident):
    told = json.loads((overconfident / "scores.json").read_text())
    found = told["calibration"]["moon"]
    assert found["temperature"] > 2
    assert found["after"]["expected_error"] < 0.5 * found["before"]["expected_error"]
    assert found["after"]["accuracy"] == found["before"]["accuracy"]
    assert told["scores"]["valid"]["nll"] == pytest.approx(found["after"]["nll"], rel=1e-5)
    notes = [event["message"] for event in read_events(overconfident / "events.jsonl") if event["event"] == "note"]
    assert [note.split(":")[0] for note in notes] == [f"moon calibrated on {found['n']} validation labels"]
    page = (overconfident / "report.html").read_text()
    for part in ("Calibration on the validation set", "ECE before", "Reliability of moon"):
        assert part in page


def test_the_error_falls_on_points_never_looked_at(overconfident):
    loaded = load(APP, overconfident)
    unseen = simulated(4000, 9, loaded.settings.data.noise)
    with torch.no_grad():
        logits = loaded.model.logits(unseen.xy)
        p = torch.softmax(loaded.model(unseen.xy), 1).numpy()
    before, after = calibration_at(logits, unseen.label), calibration(p, unseen.label)
    assert after.expected_error < 0.5 * before.expected_error
    assert after.accuracy == before.accuracy
    truth = posterior(unseen.xy.numpy(), loaded.settings.data.noise)
    certain = torch.softmax(torch.nn.functional.pad(logits, (2 - logits.shape[1], 0)), 1).numpy()
    assert np.abs(p - truth).mean() < np.abs(certain - truth).mean(), "nearer to Bayes' probabilities"


def test_the_posterior_is_calibrated_by_itself():
    points = simulated(N, 4, 0.45)
    assert calibration(posterior(points.xy.numpy(), 0.45), points.label).expected_error < 3 / math.sqrt(N)


def test_predict_evaluate_and_export_use_the_temperature(overconfident, tmp_path):
    stored = json.loads((overconfident / "scores.json").read_text())
    loaded = load(APP, overconfident)
    assert loaded.checkpoint.path.name == stored["checkpoint"]
    assert evaluate(loaded) == pytest.approx(stored["scores"]["test"])
    shipped = load(APP, export(APP, overconfident, tmp_path / "shipped"))
    temperature = stored["calibration"]["moon"]["temperature"]
    assert float(shipped.model.head["moon"].temperature) == pytest.approx(temperature, rel=1e-6)
    assert shipped.checkpoint.manifest["calibration"] == stored["calibration"]
    (tmp_path / "points.csv").write_text("x,y,label\n0,1,0\n1,-0.5,\n")
    assert predict(shipped, [tmp_path / "points.csv"]) == predict(loaded, [tmp_path / "points.csv"])


def short(folder, **changes):
    return train(APP, APP.presets["tiny"].changed(**changes), folder, is_quiet=True)


@pytest.mark.parametrize("place", ["isometry.finish._final_scores", "isometry.finish._write_report"])
def test_a_run_that_died_after_calibrating_ends_the_same(tmp_path, monkeypatch, same_bits, place):
    whole = short(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(place, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            short(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert short(tmp_path / "run").scores == whole.scores
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == names, "amended once"
    one, other = (Vault(tmp_path / name / "checkpoints") for name in ("run", "whole"))
    for found, expected in ((one.best(), other.best()), (one.newest(), other.newest())):
        same_bits(found.weights(), expected.weights())
        states = [found.state(), expected.state()]
        assert all(state.pop("log_size") > 0 for state in states)
        same_bits(*states)
    told = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("run", "whole")]
    assert told[0] == told[1]
    messages = [event.get("message") for event in read_events(tmp_path / "run" / "events.jsonl")]
    assert sum("calibrated on" in (message or "") for message in messages) == 1, "said once"


def test_calibration_leaves_the_training_state_alone(tmp_path):
    short(tmp_path / "run")
    for checkpoint in (
        Vault(tmp_path / "run" / "checkpoints").best(),
        Vault(tmp_path / "run" / "checkpoints").newest(),
    ):
        assert checkpoint.state()["model"]["head.moon.temperature"] == 1


def test_without_a_validation_set_nothing_is_fitted_and_that_is_said(tmp_path):
    run = short(tmp_path / "run", data={"n_valid": 0}).folder
    assert "calibration" not in json.loads((run / "scores.json").read_text())
    messages = [event.get("message") for event in read_events(run / "events.jsonl")]
    assert "not calibrated: there is no validation set" in messages
    assert load(APP, run).model.head["moon"].temperature == 1


def test_where_labels_say_nothing_the_temperature_stays_and_that_is_said(tmp_path):
    settings = APP.presets["tiny"].changed(data={"unknown": 0.0, "n_valid": 1}, fit={"epochs": 1})
    run = train(APP, settings, tmp_path / "run", is_quiet=True).folder
    messages = [event.get("message") or "" for event in read_events(run / "events.jsonl")]
    assert any("moon is not calibrated, its temperature stays 1: one class" in message for message in messages)
    assert json.loads((run / "scores.json").read_text())["calibration"]["moon"]["outcome"] == "one class"


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["ddp", "fsdp2"])
def test_two_processes_calibrate_as_one(tmp_path, shard):
    environment = os.environ | {"PYTHONPATH": str(FOREIGN), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "isometry", "train", "moons", "--json", "--out"]
    for program, name, flags in (([sys.executable], "one", []), (torchrun, "two", ["--fleet.shard", shard])):
        full = [*program, *command, str(tmp_path / name), *flags]
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("one", "two"))
    assert two["calibration"]["moon"]["temperature"] == pytest.approx(
        one["calibration"]["moon"]["temperature"], rel=1e-3
    )
    assert two["calibration"]["moon"]["n"] == one["calibration"]["moon"]["n"]
    assert two["scores"]["test"]["nll"] == pytest.approx(one["scores"]["test"]["nll"], rel=1e-3)


# Amending a checkpoint


def deaths(*arguments):
    done = subprocess.run([sys.executable, WRITER, *map(str, arguments)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_killed_before_any_call_of_amending_a_whole_checkpoint_is_the_best(tmp_path):
    found = [death["temperature"] for death in deaths("amend-exit", tmp_path / "run")]
    assert found == sorted(found)
    assert {1.0, 3.0} == set(found)


@pytest.mark.parametrize("number", ["ENOSPC", pytest.param("EIO", marks=pytest.mark.slow)])
def test_if_any_call_of_amending_fails_a_whole_checkpoint_is_the_best(tmp_path, number):
    assert {death["status"] for death in deaths("amend-fail", tmp_path / "run", number)} == {0, 3, 4}


@pytest.fixture
def vault(tmp_path):
    vault = Vault(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        weights = {"w": torch.full((3,), float(step)), "t": torch.tensor(1.0, dtype=torch.float64)}
        vault.save(step, weights, {"step": step}, app="toy", score=abs(step - 2.0), settings={"a": 1})
    return vault


def test_an_amended_checkpoint_keeps_all_else(vault):
    best = vault.best()
    amended = vault.amend(best, {"t": torch.tensor(2.0)}, calibration={"t": 2.0})
    assert vault.best() == amended
    assert amended.weights()["t"] == torch.tensor(2.0, dtype=torch.float64)
    assert amended.weights()["t"].dtype == torch.float64
    assert torch.equal(amended.weights()["w"], best_weights(2))
    assert amended.state() == {"step": 2}
    changing = ("files", "sha256", "calibration")
    assert {k: v for k, v in amended.manifest.items() if k not in changing} == {
        k: v for k, v in best.manifest.items() if k not in changing
    }
    assert sorted(os.listdir(vault.folder)) == ["step-00000002-2", "step-00000003"]


def best_weights(step):
    return torch.full((3,), float(step))


def test_amending_again_changes_nothing_and_tidies_what_a_crash_left(vault, tmp_path):
    shutil.copytree(vault.best().path, tmp_path / "copy")
    amended = vault.amend(vault.best(), {"t": torch.tensor(2.0)}, calibration={"t": 2.0})
    shutil.copytree(tmp_path / "copy", vault.folder / "step-00000002")
    assert vault.best() == amended, "the amended one comes first"
    assert vault.amend(vault.best(), {"t": torch.tensor(2.0)}, calibration={"t": 2.0}) == amended
    assert sorted(os.listdir(vault.folder)) == ["step-00000002-2", "step-00000003"]


def test_amending_again_changes_nothing_though_something_is_no_number(vault):
    told = {"t": torch.tensor(math.nan)}, {"t": {"nll": math.nan, "temperature": math.inf}}
    amended = vault.amend(vault.best(), told[0], calibration=told[1])
    assert vault.amend(vault.best(), told[0], calibration=told[1]).path == amended.path


def test_what_is_told_of_a_calibration_is_what_is_read_back():
    found = Calibrated(Fitted(math.nan, "no labels", 0), *[calibration_at(np.empty((0, 2)), np.empty(0, int))] * 2)
    told = as_plain(found)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["temperature"], told["outcome"], told["before"]["nll"]) == (None, "no labels", None)


def test_amending_a_weight_that_is_none_is_refused(vault):
    with pytest.raises(ValueError, match="has no weights called u"):
        vault.amend(vault.best(), {"u": torch.tensor(2.0)})
