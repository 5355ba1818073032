"""The forecast of what fp16 flushes: the facts of rounding, the chain of gradients, the window of loss scales."""

import importlib.util
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from isometry.doctor.half import LARGEST, Spread, allowed, flushed, forecast, measure_half
from isometry.doctor.subject import Subject
from isometry.objective import Loss
from isometry.precision import PrecisionSettings
from torch import nn

POINTS = 2.0  # percentage points between forecast and truth
PAGE = Path(__file__).parents[2] / "docs" / "half_precision.py"
sys.path.insert(0, str(PAGE.parent))  # where it finds its own


def page():
    spec = importlib.util.spec_from_file_location("half_precision", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fp16_rounds_where_the_forecast_says():
    def half(number):
        return torch.tensor(number, dtype=torch.float64).half().item()

    assert half(2.0**-25) == 0.0
    assert half(2.0**-25 * (1 + 2.0**-10)) == 2.0**-24
    assert half(65519.0) == 65504.0
    assert half(65520.0) == float("inf")
    edge = torch.tensor([2.0**-25, 2.0**-25 * (1 + 2.0**-10), 0.0, 1.0])
    spread = Spread.of(edge)
    assert (spread.n, spread.n_nonzero, spread.largest) == (4, 3, 1.0)
    assert Spread.of(torch.full((3,), 2.0**-25)).needed == 2.0
    assert Spread.of(torch.full((3,), 2.0**-25 * (1 + 2.0**-10))).needed == 1.0
    assert LARGEST == 65520.0
    assert allowed(65519.0) == 0.5  # one factor of two is kept in hand
    assert allowed(65520.0) == 0.25


class Sigmoids(nn.Module):
    """Sigmoids of nothing but their own slope, 1/4 at 0, through products with 1."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1)
        self.layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(n_layers))
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.fill_(1.0)
                layer.bias.fill_(-0.5)  # brings sigmoid(0) back to 0
            self.first.weight.zero_()
            self.first.bias.zero_()

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = layer(torch.sigmoid(x))
        return x


@pytest.mark.parametrize(("n_layers", "survives"), [(12, True), (13, False)])
def test_twelve_sigmoids_are_the_last_that_fp16_sees_through(n_layers, survives):
    """0.25^12 = 2^-24 is fp16's smallest number."""
    net, x = Sigmoids(n_layers), torch.ones(1, 1)
    with Subject.of(net, x, lambda model, x: model(x).float().sum()) as subject:
        told = {t.name: t for t in forecast(subject, (1.0, 16.0))[1.0]}
        half = measure_half(subject)
    assert told["first.weight"].scaled.flushed == (0.0 if survives else 1.0)
    assert half.need == 2.0 ** (2 * n_layers - 24)
    assert half.start is not None
    assert half.weights["scaled"].flushed == 0.0


def test_the_forecast_is_what_autocast_flushes():
    shown = page()
    quick = ("GELU, Xavier, 20 layers", "sigmoid, Xavier, 12 layers", "CNN with batch norm")
    rows = [row for net in shown.nets() if net.name in quick for row in shown.rows_of(net, (1.0, 2.0**10))]
    assert max(row.measured for row in rows) > 50.0  # there was something to foresee
    assert max(abs(row.difference) for row in rows) < POINTS


@pytest.mark.slow
def test_the_forecast_is_what_autocast_flushes_on_every_net_of_the_documentation():
    shown = page()
    rows = [row for net in shown.nets() for row in shown.rows_of(net)]
    assert len({row.net for row in rows}) >= 7
    assert max(abs(row.difference) for row in rows) < POINTS


def test_a_flushed_layer_silences_those_before_it():
    """Each of three slopes of 2^-10 is harmless; together they leave fp16."""
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(4)))
    with torch.no_grad():
        for layer in net:
            layer.weight.fill_(2.0**-10)
    x = torch.full((1, 1), 2.0**14)
    with Subject.of(net, x, lambda model, x: model(x).float().sum()) as subject:
        told = {t.name: t.scaled.flushed for t in forecast(subject, (1.0,))[1.0] if t.of == "activation"}
    assert told == {"0": 1.0, "1": 0.0, "2": 0.0, "3": 0.0}


def test_zeros_are_not_called_flushed():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        net[0].bias.fill_(-100.0)  # every unit is dead
    with Subject.of(net, torch.randn(16, 4), lambda model, x: model(x).float().mean()) as subject:
        half = measure_half(subject)
    dead = next(t for t in half.tensors if t.name == "0.weight")
    assert (dead.zero, dead.unscaled.flushed) == (1.0, 0.0)


def examined(net, x, loss=lambda model, x: model(x).float().square().mean()):
    with Subject.of(net, x, loss) as subject:
        return measure_half(subject)


def test_the_start_lies_in_the_window_and_overflows_nothing():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
    half = examined(net, torch.randn(32, 8))
    assert half.need <= half.start <= half.allow
    assert half.reason is None
    assert all(t.scaled.overflowed == 0.0 for t in half.tensors)
    assert flushed(half.tensors, "weight") == pytest.approx(half.weights["scaled"].flushed)
    asdict(half)  # plain data


def test_gradients_wider_than_fp16_have_no_window():
    x = torch.ones(4, 1)
    net = nn.ModuleDict({"large": nn.Linear(1, 1, bias=False), "small": nn.Linear(1, 1, bias=False)})
    half = examined(net, x, lambda m, x: (m["large"](x).float() * 2.0**14 + m["small"](x).float() * 2.0**-30).sum())
    assert half.start is None
    assert "2^" in half.reason


def test_activations_beyond_fp16_are_told():
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    with torch.no_grad():
        net[0].weight.fill_(1e6)
    half = examined(net, torch.ones(2, 1), lambda model, x: model(x).float().mean())
    assert half.forward_overflow.keys() >= {"0"}
    assert half.start is None
    assert "0" in half.reason


@pytest.mark.parametrize("factor", [0.0, float("inf"), float("nan")])
def test_what_has_no_gradient_has_a_reason(factor):
    half = examined(nn.Linear(3, 1), torch.ones(2, 3), lambda model, x: (model(x) * factor).sum())
    assert half.scale is None
    assert half.reason


def test_recurrent_layers_are_foreseen_though_the_processor_has_no_fp16_for_them():
    torch.manual_seed(0)
    half = examined(nn.GRU(4, 8), torch.randn(6, 3, 4), lambda model, x: model(x)[0].float().square().mean())
    assert half.start is not None


def test_the_network_is_left_as_it_was(same_bits):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(2)
    )
    x = torch.randn(4, 1, 6, 6)
    net(x)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random = torch.get_rng_state()
    examined(net, x)
    same_bits(net.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert not torch.is_autocast_enabled("cpu")


# The start of a run


def test_a_run_starts_at_the_scale_it_needs_and_skips_no_step(run):
    done = run(precision={"dtype": "fp16"}, fit={"epochs": 2}).until_end()
    notes = [note["message"] for note in done.of("note")]
    assert len(notes) == 1
    assert notes[0].startswith("loss scale starts at 2^")
    assert not done.of("fault")


def steep(task):
    """The same run with a loss whose gradients the usual 2^16 would overflow."""
    loss = task.objective.loss
    steeper = replace(task.objective, loss=lambda model, batch: Loss(loss(model, batch).each * 1e4))
    return replace(task, objective=steeper)


def test_where_a_guess_overflows_the_measured_start_does_not(run):
    guessed = run("guessed", steep, precision={"dtype": "fp16", "scale": 2.0**16}, fit={"epochs": 1}).until_end()
    measured = run("measured", steep, precision={"dtype": "fp16"}, fit={"epochs": 1}).until_end()
    assert len(guessed.of("fault")) >= 3
    assert not measured.of("fault")


def test_a_resumed_run_takes_the_stored_scale(run, same_bits):
    whole = run("whole", precision={"dtype": "fp16"}, fit={"epochs": 2}).until_end()
    parts = run("parts", precision={"dtype": "fp16"}, fit={"epochs": 2}).stopped_at(7).until_end()
    same_bits(parts.fit.state(), whole.fit.state())
    assert len(parts.of("note")) == 1


def test_a_number_stays_what_it_is(run):
    one = run("number", precision={"dtype": "fp16", "scale": 512.0}, fit={"epochs": 1}).until_end()
    assert not one.of("note")
    assert one.fit.precision.scale == 512.0
    assert PrecisionSettings.model_validate({"dtype": "fp16", "scale": 65536.0}).scale == 65536.0  # as once stored
    assert PrecisionSettings().scale == "auto"


def test_without_fp16_nothing_is_measured(run, monkeypatch):
    monkeypatch.setattr("isometry.doctor.half.measure_half", lambda subject: 1 / 0)
    for dtype in ("fp32", "bf16"):
        run(dtype, precision={"dtype": dtype}, fit={"epochs": 1}).until_end()
