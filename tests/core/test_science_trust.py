"""Honest generalisation: the gap, the many answers that training may give, and how sure a classifier may sound."""

import itertools

import numpy as np
import pytest
import torch
from isometry.calibrate import Temperature, calibration_at, fit_temperature
from isometry.checkpoint import Vault
from isometry.ensemble import predict_together
from isometry.events import read_events
from isometry.story import load, predict, train
from isometry_moons.train import APP
from torch import nn

T_ERROR = 0.05  # relative
SAME = 1e-6  # absolute, of fp32 outputs summed in another order


@pytest.fixture
def tmp_path(ram):
    return ram


def test_d2_a_memorising_run_stops_early_and_keeps_weights_that_are_not_the_last(tmp_path):
    settings = APP.presets["tiny"].changed(
        data={"n": 20, "unknown": 0.0},
        model={"width": 64},
        optim={"rate": 0.02, "schedule": {"name": "constant"}},
        fit={"epochs": 2000, "batch_size": 20, "patience": 40, "evaluate_every": 4},
        log={"every": 1},
    )
    trained = train(APP, settings, tmp_path / "run", is_quiet=True)
    events = list(itertools.takewhile(lambda e: e["event"] != "stop", read_events(trained.folder / "events.jsonl")))
    losses = [event["loss"] for event in events if event["event"] == "step"]
    unseen = {e["step"]: e["scores"]["nll"] for e in events if e["event"] == "eval" and e["scores"]}
    assert trained.reason == "early stop"
    assert losses[-1] < 0.01 * losses[0], "training loss -> 0"
    assert len(losses) < settings.fit.epochs
    best = Vault(trained.folder / "checkpoints").best()
    assert best.score == unseen[best.step] == min(unseen.values())
    assert best.step < max(unseen) == len(losses)
    assert unseen[len(losses)] > 2 * best.score, "the last weights are far worse on unseen points"
    assert load(APP, trained.folder).checkpoint.step == best.step, "what predictions use"
    assert trained.scores["test"]["nll"] < 0.5 * unseen[len(losses)]


def perceptron(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))


def mean_of_weights(one, other):
    mean = perceptron(0)
    left, right = one.state_dict(), other.state_dict()
    mean.load_state_dict({name: (left[name] + right[name]) / 2 for name in left})
    return mean


def test_d3_permuted_hidden_units_give_the_same_function_and_the_mean_of_both_weights_another():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    net, permuted = perceptron(1), perceptron(2)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    first, last = net[0], net[2]
    permuted[0].load_state_dict({"weight": first.weight[order], "bias": first.bias[order]})
    permuted[2].load_state_dict({"weight": last.weight[:, order], "bias": last.bias})
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close(permuted(x), expected, rtol=0, atol=SAME)
        together = (net(x) + permuted(x)) / 2
        torch.testing.assert_close(together, expected, rtol=0, atol=SAME)
        change = (mean_of_weights(net, permuted)(x) - expected).std() / expected.std()
    assert change > 0.3


def test_d3_predictions_of_other_seeds_differ_and_their_spread_is_reported(tmp_path):
    settings = APP.presets["memorise"].changed(fit={"epochs": 40})
    members = [
        load(APP, train(APP, settings.changed(seed=seed), tmp_path / str(seed), is_quiet=True).folder)
        for seed in range(3)
    ]
    (tmp_path / "points.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in grid()))
    rows = predict_together(members, [tmp_path / "points.csv"])
    each = np.array([[row["probability"] for row in predict(member, [tmp_path / "points.csv"])] for member in members])
    assert [row["probability_spread"] for row in rows] == pytest.approx(each.std(0, ddof=1).tolist())
    assert each.std(0, ddof=1).max() > 0.05, "other seeds, other answers"


def grid():
    return itertools.product(np.linspace(-2, 3, 6), np.linspace(-2, 2, 5))


def test_d5_logits_times_three_have_the_temperature_three_and_the_same_predictions():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 6))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) < rng.random((len(p), 1))).sum(1).clip(0, 5)
    loud = torch.tensor(3 * logits, dtype=torch.float32)
    fitted = fit_temperature(loud, labels)
    assert fitted.temperature == pytest.approx(3.0, rel=T_ERROR)
    head = Temperature().eval()
    head.temperature.fill_(fitted.temperature)
    assert torch.equal(head(loud).argmax(1), loud.argmax(1))
    before, after = calibration_at(loud, labels), calibration_at(loud, labels, fitted.temperature)
    assert after.accuracy == before.accuracy
    assert after.expected_error < 0.1 * before.expected_error
