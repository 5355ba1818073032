"""The step: rows C1 to C8 of the science, each held to its number."""

import math
from itertools import chain
from typing import get_args

import pytest
import torch
from isometry.curves import curves
from isometry.objective import Loss, Objective
from isometry.optim import OptimSettings, build_optimizers, memory, set_rate
from isometry.order import Order, share
from isometry.precision import Precision, PrecisionSettings
from isometry.report import write_report
from isometry.schedule import ScheduleSettings, rate_at
from torch import nn

NAMES = get_args(OptimSettings.model_fields["name"].annotation)
CONDITION = 100.0  # C2, C4: κ of the ravine
FOUND = 1e-4  # C2: distance to the minimum
SAME_STEP = 1e-2  # C6: relative
TINY = 1e-8  # C7: below 2^-24 / 2, zero in fp16
SCALED = 0.01  # C7: relative error of the tiny gradient
STATIONARY = 1e-8  # C8: mean squared gradient norm
STILL = {"name": "constant", "warmup": 0}


class Ravine(nn.Module):
    """The quadratic ½ xᵀ H x + bᵀ x, summed over the columns of x; H has eigenvalues from 1 to κ in a turned basis."""

    def __init__(self, n=8):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
        self.hessian = basis @ torch.diag(torch.logspace(0, math.log10(CONDITION), n).double()) @ basis.T
        self.slope = torch.randn(n, n, dtype=torch.float64, generator=generator)
        self.minimum = -torch.linalg.solve(self.hessian, self.slope)  # x* = -H⁻¹ b
        self.x = nn.Parameter(torch.zeros(n, n, dtype=torch.float64))

    def forward(self, _x=None):
        return (0.5 * self.x * (self.hessian @ self.x) + self.slope * self.x).sum()

    def distance(self):
        return (self.x - self.minimum).norm().item()


def descend(ravine, settings, n_steps):
    """Runs the schedule to its end; the distance to the minimum after every step."""
    optimizers, distances = build_optimizers(ravine, settings), []
    for step in range(n_steps):
        set_rate(optimizers, rate_at(step, n_steps, settings.schedule))
        for optimizer in optimizers:
            optimizer.zero_grad()
        ravine().backward()
        for optimizer in optimizers:
            optimizer.step()
        distances.append(ravine.distance())
    return distances


@pytest.fixture
def trained(run, with_task):
    """`trained(name, epochs, **optim)`: the engine's own loop down the ravine, 13 steps an epoch."""

    def start(name, epochs, **optim):
        def loss(model, batch):
            return Loss((model() - floor).expand(len(batch["x"])))

        ravine = Ravine()
        floor = Ravine()().item() + 0.5 * (ravine.slope * ravine.minimum).sum().item()  # the loss at x*
        objective = Objective(
            loss, lambda model, batch: {"distance": (model.x - model.minimum).norm().expand(len(batch["x"]))},
            lambda rows: {"distance": float(rows["distance"][0])}, decides="distance",
        )  # fmt: skip
        settings = {"name": "sgd", "decay": 0.0, "clip": None, "schedule": STILL} | optim
        fit = {"epochs": epochs, "average": None, "save_every": 1e9}
        made = run(name, with_task(model=ravine, objective=objective), fit=fit, optim=settings,
                   precision={"dtype": "fp64"})  # fmt: skip
        return made.until_end()

    return start


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_c1_245760_records_at_256_are_960_steps_an_epoch_and_48000_in_50(accumulate, world):
    order = Order(245_760, 256, seed=0)
    steps = sum(len(order.batches(epoch)) if epoch < 2 else order.n_batches for epoch in range(50))
    assert (order.n_batches, steps) == (960, 48_000)
    batch = order.batches(0)[0]
    parts = [share(batch, rank, world, accumulate) for rank in range(world)]
    assert sum(len(part) for part in chain(*parts)) == 256


RATES = [
    ("sgd", 0.01, 1000),
    ("adagrad", 1.0, 2000),
    ("rmsprop", 0.03, 2000),
    ("adam", 0.1, 2000),
    ("adamw", 0.1, 2000),
    ("muon", 0.2, 4000),
]


@pytest.mark.parametrize(("name", "rate", "n_steps"), RATES)
def test_c2_every_optimizer_finds_the_minimum_of_a_ravine(name, rate, n_steps):
    assert {row[0] for row in RATES} == set(NAMES)
    ravine = Ravine()
    schedule = ScheduleSettings(name="cosine", warmup=0, floor=0)
    distances = descend(ravine, OptimSettings(name=name, rate=rate, decay=0, schedule=schedule), n_steps)
    assert distances[0] > 0.1
    assert distances[-1] < FOUND


def test_c3_a_rate_beyond_two_over_the_curvature_is_named_a_divergence_with_its_cure(trained, ram):
    slow = trained("slow", 80, momentum=0.0, rate=1.9 / CONDITION)
    assert slow.fit.model.distance() < FOUND
    assert slow.of("fault") == []

    fast = trained("fast", 4, momentum=0.0, rate=2.1 / CONDITION)
    (fault,) = fast.of("fault")
    assert fault["kind"] == "divergence"
    assert "the training loss diverges" in fault["message"]
    assert "a smaller --optim.rate (0.007, say, instead of 0.021)" in fault["message"]
    assert math.isfinite(fast.fit.model().item()), "named while everything is still finite"
    assert fast.reason == "finished", "and nothing is stopped for it"
    report = write_report(ram / "report.html", fast.events, title="").read_text()
    assert "1 × divergence" in report
    assert "a smaller --optim.rate" in report

    crawling = trained("crawling", 4, momentum=0.0, rate=1e-3 / CONDITION)
    assert crawling.of("fault") == []
    assert crawling.fit.model.distance() > 0.9 * Ravine().distance(), "too small a rate crawls"


def test_c4_momentum_needs_fewer_steps_than_plain_descent():
    """Each at its best rate: 2 / (1 + κ) plain, 4 / (1 + √κ)² with momentum ((√κ - 1) / (√κ + 1))² (Polyak 1964)."""
    root = math.sqrt(CONDITION)

    def n_steps_to(tolerance, rate, momentum):
        settings = OptimSettings(name="sgd", rate=rate, momentum=momentum, schedule=ScheduleSettings(**STILL))
        distances = descend(Ravine(), settings, 1000)
        return next(step for step, distance in enumerate(distances) if distance < tolerance)

    plain = n_steps_to(FOUND, 2 / (1 + CONDITION), 0.0)
    heavy = n_steps_to(FOUND, 4 / (1 + root) ** 2, ((root - 1) / (root + 1)) ** 2)
    assert heavy < plain / 3


def effective_rates(settings, n_after, burst):
    """Step size per unit gradient, before a burst of ten large gradients and for n_after unit gradients after it."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    (optimizer,) = build_optimizers(model, settings)
    rates = []
    for gradient in [1.0] * 200 + [burst] * 10 + [1.0] * n_after:
        before = model.weight.item()
        model.weight.grad = torch.full((1, 1), gradient, dtype=torch.float64)
        optimizer.step()
        rates.append((before - model.weight.item()) / gradient)
    return rates[199], rates[210:]


def test_c5_adagrad_never_forgets_a_burst_and_rmsprop_and_adam_do():
    rho, n_after = 0.987, 400
    adagrad = OptimSettings(name="adagrad", rate=0.1)
    assert memory(adagrad) == math.inf
    quiet, after = effective_rates(adagrad, n_after, burst=1e3)
    assert after[-1] < 0.01 * quiet
    assert after[-1] == pytest.approx(0.1 / math.sqrt(200 + 10 * 1e6 + n_after), rel=1e-6)
    rmsprop = OptimSettings(name="rmsprop", rate=0.1, rho=rho)
    adam = OptimSettings(name="adam", rate=0.1, betas=(0.0, rho))
    for settings in (rmsprop, adam):
        assert math.ceil(memory(settings)) == 77
        # After 5 memories 1/150 of the burst's mean square is left: small against 1 for a tenfold burst.
        quiet, after = effective_rates(settings, n_after, burst=10.0)
        assert after[0] < 0.5 * quiet
        assert after[math.ceil(5 * memory(settings))] == pytest.approx(quiet, rel=0.1)
    remembered = {name: memory(OptimSettings(name=name)) for name in NAMES}
    expected = {"sgd": 10, "adagrad": math.inf, "rmsprop": 100, "adam": 1000, "adamw": 1000, "muon": 20}
    assert remembered == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_c6_adam_takes_the_same_step_for_gradients_a_million_times_smaller(name):
    def step(scale):
        torch.manual_seed(0)
        model = nn.Linear(6, 6).double()
        (optimizer,) = build_optimizers(model, OptimSettings(name=name, eps=1e-12, decay=0))
        before = model.weight.detach().clone()
        (scale * model(torch.ones(1, 6).double()).square().sum()).backward()
        optimizer.step()
        return model.weight.detach() - before

    assert ((step(1e-6) - step(1.0)).norm() / step(1.0).norm()).item() < SAME_STEP


def gradient(dtype, scale):
    """Of TINY · w through a matrix product in `dtype`, unscaled; TINY is met between two half-precision products."""
    precision = Precision(PrecisionSettings(dtype=dtype, scale=scale), torch.device("cpu"))
    model = nn.Linear(1, 1, bias=False)
    optimizers = build_optimizers(model, OptimSettings(name="sgd"))
    with precision.autocast():
        y = model(torch.full((1, 1), 1.0))
    precision.backward(y.float().sum() * TINY)
    precision.unscale(optimizers)
    return model.weight.grad.item()


def test_c7_scaling_saves_a_gradient_that_fp16_flushes_and_an_overflow_leaves_the_weights(run, same_bits):
    assert torch.tensor(TINY).half() == 0
    assert gradient("fp32", 1.0) == pytest.approx(TINY, rel=1e-6)
    assert gradient("fp16", 1.0) == 0.0
    assert gradient("fp16", 1024.0) == pytest.approx(TINY, rel=SCALED)
    assert gradient("fp16", 2.0**16) == pytest.approx(TINY, rel=SCALED)

    fit = run(precision={"dtype": "fp16", "scale": 1024.0}).fit
    loss = fit.stepper.loss
    fit.stepper.loss = lambda model, batch: Loss(
        loss(model, batch).each * 1e4
    )  # finite; its gradient times 1024 is not
    before = {name: tensor.clone() for name, tensor in fit.model.state_dict().items()}
    ((n_global, batch),) = fit._fetch(fit.order.batches(0)[:1])
    assert fit.stepper(batch, n_global).verdict == "overflow"
    same_bits(fit.model.state_dict(), before)
    assert fit.precision.scale == 512.0


def test_c8_the_mean_squared_gradient_is_told_each_epoch_and_falls_to_nothing(trained):
    done = trained("run", 60, momentum=0.8, rate=0.02)
    told = [event["mean_square_gradient"] for event in done.of("eval")]
    assert len(told) == 60
    assert told[-1] < STATIONARY

    ravine, norms = Ravine(), []
    (optimizer,) = build_optimizers(ravine, OptimSettings(name="sgd", rate=0.02, momentum=0.8, decay=0.0))
    for _ in range(13):
        optimizer.zero_grad()
        ravine().backward()
        norms.append(ravine.x.grad.square().sum().item())
        optimizer.step()
    assert told[0] == pytest.approx(sum(norms) / 13, rel=1e-9)
    assert "Mean squared gradient" in {curve.name for curve in curves(done.events)}
