"""Honest generalisation: the gap and its two sides, the many answers that training may give, how sure a classifier may
sound, and how little it takes to mislead it (D1, D2, D3, D5, D6)."""

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import isometry.report
import numpy as np
import pytest
import torch
from isometry.app import Data
from isometry.attack import fast_gradient_sign, robustness
from isometry.blocks import mlp
from isometry.calibrate import Temperature, calibration_at, fit_temperature
from isometry.checkpoint import Vault
from isometry.ensemble import predict_together
from isometry.events import read_events
from isometry.lipschitz import certify, spectrally_normalised
from isometry.story import load, predict, train
from isometry.sweep import sweep
from isometry_moons.train import APP
from isometry_wave.train import APP as WAVE
from torch import nn

T_ERROR = 0.05  # relative
SAME = 1e-6  # absolute, of fp32 outputs summed in another order


@pytest.fixture
def tmp_path(ram):
    return ram


# D1: a problem whose U-curve is known in closed form

N, D, NOISE = 40, 20, 1.0
TRUE = np.random.default_rng(5).normal(size=D)
TRUE *= np.sqrt(0.5 * D) / np.linalg.norm(TRUE)
BEST_DECAY = 2 * NOISE**2 / (N * TRUE @ TRUE / D)  # ridge: noise variance over weight variance, Hoerl & Kennard 1970


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(D, 1, bias=False)
        nn.init.zeros_(self.weights.weight)

    def forward(self, x):
        return self.weights(x)[:, 0]


class Rows:
    def __init__(self, x, y) -> None:
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def drawn(seed):
    """x, y to learn from, and x, y without noise to judge by."""
    rng = np.random.default_rng([seed, 1])
    x, other = rng.normal(size=(N, D)), rng.normal(size=(200, D))
    return x, x @ TRUE + NOISE * rng.normal(size=N), other, other @ TRUE


def ridge_data(settings):
    x, y, other, truth = drawn(settings.seed)
    return Data(Rows(x, y), Rows(other, truth), None, checksums={"seed": str(settings.seed)})


RIDGE = replace(WAVE, data=ridge_data, learn=lambda settings, _data: settings, model=lambda _settings: Linear())
RIDGE_SETTINGS = WAVE.presets["tiny"].changed(
    fit={"epochs": 80, "batch_size": N, "average": None, "evaluate_every": 80, "save_every": 1e9},
    optim={"name": "sgd", "rate": 0.4, "momentum": 0.5, "clip": None, "schedule": {"name": "constant", "warmup": 0}},
    precision={"dtype": "fp64"},
)


def exact_rmse(decay, seed):
    """Of the minimiser of |y - Xw|² / N + decay |w|² / 2."""
    x, y, other, truth = drawn(seed)
    w = np.linalg.solve(x.T @ x / N + decay / 2 * np.eye(D), x.T @ y / N)
    return np.sqrt(np.mean((other @ w - truth) ** 2))


def test_d1_a_ridge_regression_is_over_and_underfitted_where_theory_says(tmp_path, monkeypatch):
    # Drawing the curves of every run's own report takes longer than training it.
    monkeypatch.setattr(isometry.report, "write_report", lambda path, *_, **__: Path(path).write_text("") and None)
    n_seeds = 4
    swept = sweep(RIDGE, RIDGE_SETTINGS, ["optim.decay=1e-3:1"], tmp_path / "ridge", trials=7, seeds=n_seeds)
    thetas = [point.theta for point in swept.curve.points]
    exact = np.array([[exact_rmse(theta, seed) for seed in range(n_seeds)] for theta in thetas])
    found = np.array([point.valid for point in swept.curve.points])
    assert found == pytest.approx(exact.mean(1), rel=1e-4)

    best = int(exact.mean(1).argmin())
    sides = [point.side for point in swept.curve.points]
    assert sides[best] == "minimum"
    assert set(sides[:best]) <= {"overfitting side", "flat"}
    assert set(sides[best + 1 :]) <= {"underfitting side", "flat"}
    assert (sides[0], sides[-1]) == ("overfitting side", "underfitting side")
    # Theory's optimum is for the mean over all data sets; four of them find it within a factor of 3.
    assert BEST_DECAY / 3 < swept.curve.minimum.theta < BEST_DECAY * 3
    low, high = swept.curve.minimum.interval
    assert low <= swept.curve.minimum.theta <= high
    fine = np.geomspace(1e-2, 1, 200)
    best_of_these = fine[np.argmin([np.mean([exact_rmse(theta, seed) for seed in range(n_seeds)]) for theta in fine])]
    assert low < best_of_these < high
    assert swept.curve.minimum.end is None
    gaps = [point.gap for point in swept.curve.points]
    assert gaps[0] > gaps[-1], "what overfits has the wider gap"


# D2, D3, D5: the gap, the many answers, the confidence


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


def permuted(net, seed):
    """The same network with its hidden units in another order."""
    other = perceptron(0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    first, last = net[0], net[2]
    other[0].load_state_dict({"weight": first.weight[order], "bias": first.bias[order]})
    other[2].load_state_dict({"weight": last.weight[:, order], "bias": last.bias})
    return other


def test_the_mean_of_permuted_networks_is_that_of_their_outputs_not_of_their_weights():
    x, net = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), perceptron(1)
    other = permuted(net, 3)
    with torch.no_grad():
        expected = net(x)
        torch.testing.assert_close((net(x) + other(x)) / 2, expected, rtol=0, atol=SAME)
        change = (mean_of_weights(net, other)(x) - expected).std() / expected.std()
    assert change > 0.3


def test_d3_other_seeds_give_other_predictions_permuted_units_the_same_and_the_spread_is_reported(tmp_path):
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
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        net = perceptron(seed)
        torch.testing.assert_close(permuted(net, seed)(x), net(x), rtol=0, atol=SAME)


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


# D6: two Gaussian clouds, told apart by a network whose slope is bounded


def clouds(n, seed):
    """Two Gaussian clouds in 20 dimensions that differ in four."""
    label = torch.arange(n) % 2
    x = 0.5 * torch.randn(n, 20, generator=torch.Generator().manual_seed(seed))
    x[:, :4] += (1.4 * label - 0.7)[:, None]
    return {"x": x, "label": label}


def clouds_loss(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["label"])


def trained_on_clouds(is_normalised):
    torch.manual_seed(0)
    net = mlp([20, 64, 64, 2], "relu")
    net = spectrally_normalised(net) if is_normalised else net
    optimizer, batch = torch.optim.Adam(net.parameters(), 1e-2), clouds(200, 1)
    for _ in range(200):
        optimizer.zero_grad()
        clouds_loss(net, batch).backward()
        optimizer.step()
    return net.eval()


def steepest_among(net, x):
    """The norm of the Jacobian at a few points, and the slopes between near pairs."""
    other = x + 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    with torch.no_grad():
        slopes = (net(x) - net(other)).norm(dim=1) / (x - other).norm(dim=1)
    jacobians = torch.func.vmap(torch.func.jacrev(net))(x[:5])
    return max(slopes.max().item(), torch.linalg.matrix_norm(jacobians, 2).max().item())


def test_d6_certified_bound_holds_and_normalisation_resists_the_attack():
    batch, epsilons = clouds(1000, 2), [0.1, 0.2, 0.3]
    plain, normalised = trained_on_clouds(False), trained_on_clouds(True)
    flips, right = {}, {}
    for net in (plain, normalised):
        bound = certify(net).total
        pushed = fast_gradient_sign(net, batch, clouds_loss, 0.01, paths=[("x",)])
        found = (net(pushed["x"]) - net(batch["x"])).norm(dim=1) / (pushed["x"] - batch["x"]).norm(dim=1)
        assert found.max().item() <= bound
        right[net] = (net(batch["x"]).argmax(-1) == batch["label"]).double().mean().item()
        rows = robustness(net, batch, clouds_loss, epsilons, outputs=lambda model, batch: model(batch["x"]))
        flips[net] = [row.flipped for row in rows[1:]]
        exact = copy.deepcopy(net).double()
        assert steepest_among(exact, batch["x"].double()) <= certify(exact).total * (1 + 1e-9)
    assert certify(normalised).total == pytest.approx(1, rel=1e-5)
    assert right[normalised] >= right[plain]
    assert all(few < many / 2 for few, many in zip(flips[normalised], flips[plain], strict=True))
