"""The looks at a network in training say what is true, say it once, and change nothing."""

import io
import math
from contextlib import suppress

import pytest
import torch
from isometry.doctor.complaints import complaints
from isometry.doctor.health import FEWEST_VALUES, Health
from isometry.events import TensorBoard, event, read_events
from isometry.health_curves import findings_told, health_curves
from isometry.lines import PlainLines
from isometry.report import write_report
from torch import nn

SAME_NUMBER = 1e-5  # relative: fp32 norms, once with and once without scaling by their largest number


def step(health, model, optimizer, loss, number):
    """One step, looked at if it is due; what the look showed."""
    optimizer.zero_grad()
    with health.look(number) as look:
        loss().backward()
        if look is not None:
            look.gradients()
        optimizer.step()
        if look is not None:
            look.updates()
    return None if look is None else look.record()


def perceptron(inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(inplace), nn.Linear(16, 16), nn.ReLU(inplace), nn.Linear(16, 1))


def records_of(model, n_steps, every=1, rate=1e-2, n=64):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(1)).to(model[0].weight.dtype)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    health = Health(model, every)
    return [step(health, model, optimizer, lambda: model(x).square().mean(), i) for i in range(1, n_steps + 1)]


# The numbers


def test_the_update_ratio_of_plain_descent_is_rate_times_gradient_over_weight():
    model, rate = perceptron().double(), 1e-2  # in fp32 the weights themselves round the step
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    (record,) = records_of(model, 1, rate=rate)
    for name in ("0", "2", "4"):
        weight, gradient = weights[f"{name}.weight"], model.get_parameter(f"{name}.weight").grad
        assert record.layers[name]["update"] == pytest.approx(
            (rate * gradient.norm() / weight.norm()).item(), SAME_NUMBER
        )


def test_gradient_and_activation_are_root_mean_squares():
    model = perceptron()
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    first = model[0](x).square().mean().sqrt().item()
    (record,) = records_of(model, 1)
    own = torch.cat([model[0].weight.grad.flatten(), model[0].bias.grad])
    assert record.layers["0"]["gradient"] == pytest.approx(own.square().mean().sqrt().item(), SAME_NUMBER)
    assert record.layers["0"]["activation"] == pytest.approx(first, SAME_NUMBER)
    sizes = [record.layers[name]["gradient"] for name in ("0", "2", "4")]
    assert record.spread == pytest.approx(math.log(max(sizes) / min(sizes)))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_neither_tiny_nor_huge_gradients_are_lost_in_squaring(size):
    layer = nn.Linear(4, 4, bias=False)
    health = Health(layer)
    layer.weight.grad = torch.full((4, 4), size)
    with health.look(1) as look:
        look.gradients()
    assert look.record().layers["network"]["gradient"] == pytest.approx(size)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_dead_layer_is_found(inplace):
    model = perceptron(inplace)
    with torch.no_grad():
        model[2].bias[:12] = -100.0
    records = records_of(model, 4)
    assert "dead" not in records[0].layers["3"], "64 records are too few to tell"
    assert records[-1].layers["3"]["dead"] == 0.75
    assert records[-1].layers["2"]["dead"] == 0.75, "its rows get no gradient"
    found = [(finding.name, finding.where) for record in records for finding in record.findings]
    assert found == [("dead units", "3")]


def test_units_that_wake_now_and_then_are_not_dead():
    """Each record wakes one unit of sixteen: in 64 values every unit is alive."""
    model = nn.Sequential(nn.Linear(16, 16, bias=False), nn.ReLU(), nn.Linear(16, 1))
    nn.init.eye_(model[0].weight)
    health, optimizer = Health(model, 1), torch.optim.SGD(model.parameters(), 0.0)
    x = torch.eye(16).repeat(4, 1)
    for number in range(1, 2 * FEWEST_VALUES // 64 + 1):
        record = step(health, model, optimizer, lambda: model(x).square().mean(), number)
    assert record.layers["1"]["dead"] == 0.0


def test_channels_of_a_convolution_are_its_units():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 1))
    with torch.no_grad():
        model[0].bias[:6] = -100.0
    health, optimizer = Health(model, 1), torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(16, 1, 6, 6)
    record = step(health, model, optimizer, lambda: model(x).square().mean(), 1)
    assert record.layers["1"]["dead"] == 0.75


def test_a_dead_network_tells_its_zero_gradients():
    model = perceptron()
    with torch.no_grad():
        model[2].bias.fill_(-100.0)
    record = records_of(model, 2)[-1]
    assert record.n_zero == 2
    assert {f.where for f in record.findings if f.name == "zero gradient"} == {"0", "2"}


def test_numbers_that_are_not_finite_are_fatal_at_once_and_named_where_they_begin():
    model = perceptron()
    with torch.no_grad():
        model[2].weight[0, 0] = math.inf
    (finding,) = records_of(model, 1)[0].findings
    assert (finding.severity, finding.name, finding.where) == ("fatal", "not finite", "2")
    assert 0 < finding.number <= 1 / 16, "one unit of sixteen"


def test_a_gradient_that_is_not_finite_is_named_where_it_enters():
    model = perceptron()
    health, optimizer = Health(model, 1), torch.optim.SGD(model.parameters(), 1e-3)
    record = step(health, model, optimizer, lambda: model(torch.randn(4, 8)).sum() * math.inf, 1)
    (finding,) = record.findings
    assert (finding.severity, finding.name, finding.where) == ("fatal", "not finite", "4")


def test_leaping_and_standing_weights_and_the_last_scale_are_told():
    layers = {"a": {"gradient": 1.0, "update": 0.2}, "b": {"gradient": 1.0, "update": 1e-8}, "c": {"gradient": 1.0}}
    found = {(f.name, f.where) for f in complaints(layers, frozenset("abc"), scale=1.0)}
    assert found == {("leaping weights", "a"), ("standing weights", "b"), ("loss scale at its floor", "network")}
    assert not complaints({"a": {"gradient": 1.0, "update": 1e-3, "dead": 0.4}}, frozenset("a"), scale=2.0**16)


def test_a_first_step_that_moves_nothing_is_no_finding():
    """A layer that begins at 0 passes no gradient in step 1, and learns from step 2 on."""
    model = perceptron()
    nn.init.zeros_(model[4].weight)
    assert not [f for record in records_of(model, 21, every=10) if record is not None for f in record.findings]


def test_a_finding_is_told_once():
    model = perceptron()
    told = [(f.name, f.where) for record in records_of(model, 6, rate=0.0) for f in record.findings]
    assert len(told) == len(set(told)) == 3, "weights that stand still, in three layers"


# What is left alone


def test_between_looks_and_after_them_no_hook_is_there():
    model = perceptron()
    health = Health(model, 3)
    assert [number for number in range(1, 10) if health.is_due(number)] == [1, 3, 6, 9]
    with health.look(2) as look:
        assert look is None
    with suppress(ZeroDivisionError), health.look(3):
        assert any(module._forward_hooks for module in model.modules())
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_compiled_network_is_looked_at_without_hooks():
    model = perceptron()
    compiled = torch.compile(model, backend="eager")
    with Health(compiled, 1).look(1) as look:
        assert not any(module._forward_hooks for module in model.modules())
        compiled(torch.randn(4, 8)).sum().backward()
        look.gradients()
    seen = look.record().layers
    assert list(seen) == ["0", "2", "4"]
    assert "activation" not in seen["0"]


def test_recurrent_tied_sparse_and_attentive_layers_are_measured():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(10, 8, sparse=True)
            self.memory = nn.LSTM(8, 8, batch_first=True)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
            self.again = self.out

        def forward(self, tokens):
            x, _ = self.memory(self.embedding(tokens))
            x, _ = self.attention(x, x, x)
            return self.again(self.out(x))

    model = Odd()
    with Health(model, 1).look(1) as look:
        model(torch.randint(0, 10, (4, 5))).square().mean().backward()
        look.gradients()
    seen = look.record().layers
    assert {"embedding", "memory", "attention", "out"} <= set(seen)
    assert all(seen[name]["gradient"] > 0 for name in ("embedding", "memory", "attention", "out"))


# In a run


def state_of(done):
    state = done.fit.state()
    return {key: state[key] for key in ("model", "optimizers", "average", "random")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_looks_leave_the_run_bit_for_bit_the_same(run, with_task, same_bits, precision):
    changes = {"fit": {"epochs": 2, "accumulate": 2}, "optim": {"clip": 0.1}, "precision": {"dtype": precision}}
    never = run("never", change=with_task(health_every=0), **changes).until_end()
    always = run("always", change=with_task(health_every=1), **changes).until_end()
    same_bits(state_of(never), state_of(always))
    assert not never.of("health")
    assert [event["step"] for event in always.of("health")] == list(range(1, always.fit.position.step + 1))
    assert all(event["layers"] for event in always.of("health"))


def test_a_resumed_run_tells_what_the_unbroken_one_tells(run, with_task):
    change = with_task(health_every=3)
    quiet = {"fit": {"epochs": 3}}
    whole = run("whole", change=change, **quiet).until_end()
    broken = run("broken", change=change, **quiet).stopped_at(20).until_end()
    told = [[{**event, "time": 0} for event in done.of("health")] for done in (whole, broken)]
    assert told[0] == told[1]


def test_the_update_is_measured_behind_clipping_and_the_gradient_before_it(run, with_task):
    plain = {"name": "sgd", "momentum": 0.0, "decay": 0.0, "schedule": {"name": "constant", "warmup": 0.0}}
    first = {}
    for clip in (None, 1e-3):
        done = run(f"clip{clip}", change=with_task(health_every=1), fit={"epochs": 1}, optim={**plain, "clip": clip})
        done.until_end()
        first[clip] = done.of("health")[0]["layers"]
    for name, seen in first[None].items():
        if "update" in seen:
            assert first[1e-3][name]["gradient"] == seen["gradient"]
            assert first[1e-3][name]["update"] < 0.1 * seen["update"]


# How it is told


def told(findings=()):
    layers = {"0": {"gradient": 0.1, "update": 1e-3, "dead": 0.75}, "1": {"gradient": 0.0, "activation": math.nan}}
    rest = {"spread": 1.0, "n_zero": 1, "scale": None}
    return event("health", step=100, epoch=1, layers=layers, findings=list(findings), **rest)


FOUND = {"severity": "warning", "name": "dead units", "where": "0", "number": 0.75, "reason": "Why.", "remedy": "Do."}


def test_a_look_is_a_line_only_where_it_found_something():
    stream = io.StringIO()
    lines = PlainLines(stream)
    lines(told())
    assert stream.getvalue() == ""
    lines(told([FOUND]))
    assert stream.getvalue() == "health step 100  dead units in 0: Why. Do.\n"


def test_the_report_shows_maps_and_lists_each_finding_once(tmp_path):
    events = [told([FOUND]), replaced(told([FOUND]), step=200)]
    assert [curve.name for curve in health_curves(events)] == [
        "Gradient per weight (rms)",
        "Update to weight, ‖Δw‖/‖w‖",
        "Dead units",
    ]
    assert [row["step"] for row in findings_told(events)] == [100]
    text = write_report(tmp_path / "report.html", events, title="a run").read_text(encoding="utf-8")
    assert "<h2>Health</h2>" in text
    assert text.count("dead units") == 1


def replaced(event, **fields):
    return {**event, **fields}


def test_tensorboard_hears_the_layers(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    board(told([FOUND]))
    board.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert {"health/gradient/0", "health/dead/0", "health/spread"} <= set(found.Tags()["scalars"])


def test_a_run_folder_holds_the_looks(tmp_path):
    from isometry.story import train
    from isometry_wave.train import APP

    settings = APP.presets["tiny"].changed(fit={"epochs": 1}, log={"health": 5})
    folder = train(APP, settings, tmp_path / "run", is_quiet=True).folder
    looks = [event for event in read_events(folder / "events.jsonl") if event["event"] == "health"]
    assert [event["step"] for event in looks] == [1, 5, 10]
    assert "<h2>Health</h2>" in (folder / "report.html").read_text(encoding="utf-8")
