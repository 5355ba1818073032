"""What the precisions promise: fp16 loses no gradient, an overflow leaves no trace, losses are summed in fp32."""

import pytest
import torch
from isometry.guard import Guard, GuardSettings
from isometry.objective import Loss
from isometry.optim import OptimSettings, build_optimizers
from isometry.precision import Precision, PrecisionSettings
from torch import nn

CPU = torch.device("cpu")


class Weight(nn.Module):
    """y = w x, computed in half precision under autocast, as a matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1, bias=False)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "bf16", "fp16"])
def test_every_precision_trains(run, dtype):
    done = run(precision={"dtype": dtype}, fit={"epochs": 8}).until_end()
    scores = [event["scores"]["rmse"] for event in done.of("eval")]
    assert scores[-1] < 0.7 * scores[0]
    expected = torch.float64 if dtype == "fp64" else torch.float32
    assert {p.dtype for p in done.fit.model.parameters()} == {expected}
    memory = [v for o in done.fit.optimizers for s in o.state.values() for k, v in s.items() if k != "step"]
    assert {tensor.dtype for tensor in memory} == {expected}


def test_fp16_multiplies_in_half_precision(run):
    seen = []
    fit = run(precision={"dtype": "fp16"}).fit
    fit.model.layers[3].register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    fit.task = fit.task
    ((n_global, batch),) = fit._fetch(fit.order.batches(0)[:1])
    fit.stepper(batch, n_global)
    assert seen == [torch.float16]


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "rmsprop"])
@pytest.mark.parametrize("is_first", [True, False])
def test_an_overflow_leaves_weights_and_optimizer_and_halves_the_scale(run, same_bits, name, is_first):
    fit = run(precision={"dtype": "fp16", "scale": 1024.0}, optim={"name": name}).fit
    batches = list(fit._fetch(fit.order.batches(0)[:3]))

    def step(number):
        n_global, batch = batches[number]
        return fit.stepper(batch, n_global)

    if not is_first:
        assert step(0).verdict == "step"
    before = clone(fit.state())
    loss = fit.stepper.loss
    fit.stepper.loss = lambda model, batch: Loss(loss(model, batch).each * 1e4)  # finite, but its gradient times 1024
    outcome = step(1)
    assert (outcome.verdict, outcome.fault, outcome.scale) == ("overflow", "overflow", 1024.0)
    after = fit.state()
    for part in ("model", "optimizers", "average"):
        same_bits(after[part], before[part])
    assert fit.precision.scale == 512.0
    fit.stepper.loss = loss
    assert step(2).verdict == "step"
    assert fit.precision.scale == 512.0


def clone(tree):
    return torch.utils._pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, tree)


def test_an_overflow_is_told_and_training_goes_on(run):
    done = run(precision={"dtype": "fp16", "scale": 2.0**30}, fit={"epochs": 3}).until_end()
    faults = done.of("fault")
    assert {fault["kind"] for fault in faults} == {"overflow"}
    scales = [fault["scale"] for fault in faults]
    assert scales == [2.0**30 / 2**n for n in range(len(scales))]
    assert done.fit.position.step == 39 - len(faults)


def test_the_scale_walks_exactly_as_announced():
    """Halved by an overflow, doubled after `growth_interval` good steps in a row, counted anew after each change."""
    precision = Precision(PrecisionSettings(dtype="fp16", scale=64.0, growth_interval=3), CPU)
    model = Weight()
    optimizers = build_optimizers(model, OptimSettings(name="sgd"))
    scales = []
    for slope in [1, 1, 1, 1, float("inf"), 1, 1, float("inf"), float("inf"), 1, 1, 1, 1]:
        scales.append(precision.scale)
        with precision.autocast():
            y = model(torch.ones(1, 1))
        precision.backward(y.float().sum() * slope)
        precision.unscale(optimizers)
        precision.update(optimizers)
        optimizers[0].zero_grad()
    assert scales == [64, 64, 64, 128, 128, 64, 64, 64, 32, 16, 16, 16, 32]


def test_clipping_sees_the_true_gradient(run):
    """fp16 with scaling clips as fp32 does: the scale is taken out first."""
    weights = []
    for dtype in ("fp32", "fp16"):
        fit = run(dtype, precision={"dtype": dtype}, optim={"name": "sgd", "clip": 0.01}, model={"dropout": 0.0}).fit
        before = clone(fit.model.state_dict())
        ((n_global, batch),) = fit._fetch(fit.order.batches(0)[:1])
        rate = fit.optimizers[0].param_groups[0]["lr"]
        outcome = fit.stepper(batch, n_global)
        moved = [tensor - before[name] for name, tensor in fit.model.state_dict().items()]
        assert outcome.gradient_norm > 0.01
        weights.append(torch.nn.utils.get_total_norm(moved).item() / rate)
    assert weights == pytest.approx([0.01, 0.01], rel=2e-3)


def test_losses_are_summed_in_fp32_or_better(run):
    fit = run(precision={"dtype": "fp16"}).fit
    total = []
    backward = fit.precision.backward
    fit.precision.backward = lambda loss: total.append(loss) or backward(loss)
    fit.stepper.loss = lambda model, batch: Loss(model(batch["x"]).half() * 0 + 6e4)  # the sum is no fp16 number
    ((n_global, batch),) = fit._fetch(fit.order.batches(0)[:1])
    outcome = fit.stepper(batch, n_global)
    assert total[0].dtype == torch.float32
    assert outcome.loss == pytest.approx(6e4, rel=1e-3)


def test_without_fp16_there_is_no_scale():
    for dtype in ("fp32", "fp64", "bf16"):
        precision = Precision(PrecisionSettings(dtype=dtype), CPU)
        assert precision.scale is None
        assert not precision.has_scale
    judge = Guard(GuardSettings(patience=1)).judge
    assert judge(loss_is_finite=True, gradient_is_finite=False, scale=None) == "rollback"
