"""The largest curvature of losses whose Hessian is known, and the rate that it allows."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from isometry.doctor.curvature import Curvature, measure_curvature
from isometry.doctor.still import differentiable_twice
from isometry.doctor.subject import Subject
from torch import Tensor, nn

FP32 = 1e-4
CONDITION = 100.0


def curvature_of(model: nn.Module, batch: Any, loss: Any, **how: Any) -> Curvature:
    with Subject.of(model, batch, loss) as subject:
        found = measure_curvature(subject, **how)
    json.dumps(asdict(found))
    return found


class Point(nn.Module):
    """Parameters alone: the loss is a function of them."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(n))


def hessian(n: int) -> Tensor:
    """With eigenvalues from 1 to 100 in directions of no particular axis."""
    q = nn.init.orthogonal_(torch.empty(n, n, dtype=torch.float64))
    values = torch.logspace(0, math.log10(CONDITION), n, dtype=torch.float64)
    return ((q * values) @ q.T).float()


def bowl(model: Any, h: Tensor) -> Tensor:
    return 0.5 * model.x @ h @ model.x + model.x.sum()


def test_the_largest_curvature_of_a_quadratic() -> None:
    torch.manual_seed(0)
    found = curvature_of(Point(30), hessian(30), bowl, n_products=12)
    assert found.largest == pytest.approx(CONDITION, rel=1e-3)
    assert found.stable_rate == pytest.approx(2 / CONDITION, rel=1e-3)
    assert found.is_converged
    whole = curvature_of(Point(6), hessian(6), bowl, n_products=6)
    assert whole.largest == pytest.approx(CONDITION, rel=FP32)
    assert whole.smallest == pytest.approx(1.0, rel=1e-2)


def test_few_products_come_close() -> None:
    torch.manual_seed(0)
    found = curvature_of(Point(30), hessian(30), bowl)
    assert found.n_products == 3
    assert found.largest is not None
    assert found.error is not None
    assert 0.8 * CONDITION < found.largest <= CONDITION * (1 + FP32)
    assert found.largest + found.error >= 0.9 * CONDITION


@pytest.mark.parametrize(("factor", "converges"), [(0.95, True), (1.05, False)])
def test_descent_converges_below_the_stable_rate_and_diverges_above(factor: float, converges: bool) -> None:
    """1.9 / λ and 2.1 / λ."""
    torch.manual_seed(0)
    h, model = hessian(12), Point(12)
    rate = factor * (curvature_of(model, h, bowl, n_products=12).stable_rate or 0.0)
    minimum = bowl_minimum(h)
    before = float((model.x.detach() - minimum).norm())
    for _ in range(1000):
        (gradient,) = torch.autograd.grad(bowl(model, h), [model.x])
        with torch.no_grad():
            model.x -= rate * gradient
    after = float((model.x.detach() - minimum).norm())
    assert after < 1e-3 * before if converges else not after < 1e3 * before


def bowl_minimum(h: Tensor) -> Tensor:
    return -torch.linalg.solve(h.double(), torch.ones(len(h), dtype=torch.float64)).float()


@pytest.mark.parametrize("name", ["mlp", "batch norm", "lstm", "transformer"])
def test_the_spectrum_is_that_of_the_whole_hessian(name: str) -> None:
    torch.manual_seed(0)
    nets: dict[str, tuple[nn.Module, Tensor]] = {
        "mlp": (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(8, 3)),
        "batch norm": (nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.Tanh()), torch.randn(4, 1, 6)),
        "lstm": (nn.LSTM(2, 2, batch_first=True), torch.randn(3, 4, 2)),
        "transformer": (nn.TransformerEncoderLayer(2, 1, 3, dropout=0.0, batch_first=True), torch.randn(3, 4, 2)),
    }
    model, x = nets[name]

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        out = model(x)
        return ((out[0] if isinstance(out, tuple) else out) - 1).pow(4).mean()

    found = curvature_of(model, x, loss, n_products=80)
    names, values = zip(*[(n, p.detach()) for n, p in model.named_parameters()], strict=True)
    with differentiable_twice():
        whole = whole_hessian(lambda *p: loss_at(model, dict(zip(names, p, strict=True)), x, loss), values)
    eigenvalues = torch.linalg.eigvalsh(whole)
    tolerance = 0.01 if found.way == "differences" else 1e-3
    assert found.largest == pytest.approx(float(eigenvalues[-1]), rel=tolerance)
    assert found.smallest == pytest.approx(float(eigenvalues[0]), abs=tolerance * float(eigenvalues[-1]))


def loss_at(model: nn.Module, parameters: dict[str, Tensor], x: Tensor, loss: Any) -> Tensor:
    return loss(lambda batch: torch.func.functional_call(model.train(), parameters, (batch,)), x)


def whole_hessian(function: Any, values: tuple[Tensor, ...]) -> Tensor:
    blocks = torch.autograd.functional.hessian(function, values)
    rows = [torch.cat([b.reshape(v.numel(), -1) for b in row], 1) for row, v in zip(blocks, values, strict=True)]
    return torch.cat(rows).double()


def test_complex_parameters_count_as_pairs_of_reals() -> None:
    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(torch.randn(3, dtype=torch.complex64))

    torch.manual_seed(0)
    factors = torch.tensor([1.0, 2.0, 5.0])
    found = curvature_of(Wave(), factors, lambda model, a: 0.5 * (a * model.z.abs().square()).sum(), n_products=6)
    assert found.n_parameters == 6
    assert found.largest == pytest.approx(5.0, rel=FP32)
    assert found.smallest == pytest.approx(1.0, rel=1e-3)


def test_a_straight_loss_has_no_limit() -> None:
    found = curvature_of(Point(4), None, lambda model, _: model.x.sum())
    assert (found.largest, found.stable_rate) == (0.0, None)
    assert found.reason


def test_where_the_gradient_cannot_be_differentiated_differences_are_taken() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.pow(3)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            return 3 * ctx.saved_tensors[0].square() * grads[0]

    torch.manual_seed(0)
    model = Point(4)
    found = curvature_of(model, None, lambda model, _: Once.apply(model.x).sum(), n_products=4)  # type: ignore[union-attr]
    assert found.way == "differences"
    assert found.largest == pytest.approx(6 * float(model.x.max()), rel=0.01)
    assert found.smallest == pytest.approx(6 * float(model.x.min()), rel=0.01)
