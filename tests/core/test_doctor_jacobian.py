"""Products with the Jacobian against the whole matrix, and its spectrum and growth against closed forms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from isometry.doctor.jacobian import Jacobian, measure_jacobian
from isometry.doctor.products import Products
from isometry.doctor.still import differentiable_twice
from isometry.doctor.subject import Subject
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv

FP32 = 1e-5  # relative, through a few layers


def square(model: nn.Module, batch: Any) -> Tensor:
    return model(batch).abs().square().mean()


@contextmanager
def examined(model: nn.Module, batch: Any, loss: Any = square) -> Iterator[Subject]:
    with Subject.of(model, batch, loss) as subject:
        yield subject


def jacobian_of(model: nn.Module, batch: Any, loss: Any = square, **how: Any) -> Jacobian:
    with examined(model, batch, loss) as subject:
        found = measure_jacobian(subject, **how)
    json.dumps(asdict(found))
    return found


def chain(weights: list[Tensor], activation: type[nn.Module] | None = None, bias_std: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight in weights:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data = weight
        nn.init.normal_(layer.bias, std=bias_std)
        layers += [layer, activation()] if activation else [layer]
    return nn.Sequential(*layers)


def gaussian(n_layers: int, width: int, variance: float = 1.0) -> list[Tensor]:
    return [torch.randn(width, width) * math.sqrt(variance / width) for _ in range(n_layers)]


def orthogonal(n_layers: int, width: int) -> list[Tensor]:
    return [nn.init.orthogonal_(torch.empty(width, width)) for _ in range(n_layers)]


# Products against the whole matrix


class Last(nn.Module):
    """A recurrent net's last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0][:, -1]


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


BODIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 6), nn.Tanh()), (3, 5)),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()),
        (3, 2, 4, 4),
    ),
    "lstm": (Last, (2, 5, 4)),
    "attention": (Attending, (2, 5, 8)),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True), 2),
        (2, 5, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_products_are_those_of_the_whole_matrix(name: str) -> None:
    torch.manual_seed(0)
    make, shape = BODIES[name]
    body, x = make(), torch.randn(shape)
    model = nn.Sequential(body, nn.LazyLinear(1))
    model(x)
    with examined(model, x) as subject:
        products = Products(subject)
        with differentiable_twice():
            whole = torch.func.jacrev(body)(x).detach().reshape(-1, x.numel()).double()
        assert_products_are(products, whole)
        found = measure_jacobian(subject, n_products=100)
    assert products.method == "forward mode"
    assert str(products.end) == "input of 1"
    # The thrifty way with fused recurrent kernels takes differences.
    tolerance = FP32 if found.method == "forward mode" else 1e-3
    assert_spectrum_is(found, torch.linalg.svdvals(whole), tolerance)


def assert_products_are(products: Products, whole: Tensor, tolerance: float = FP32) -> None:
    n_outputs, n_inputs = whole.shape
    assert (products.n_inputs, products.n_outputs) == (n_inputs, n_outputs)
    v, u = torch.randn(n_inputs, dtype=torch.float64), torch.randn(n_outputs, dtype=torch.float64)
    torch.testing.assert_close(products.forward(v), whole @ v, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(products.pushed(v).end, whole @ v, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(products.backward(u), whole.T @ u, rtol=tolerance, atol=tolerance)


def assert_spectrum_is(found: Jacobian, values: Tensor, tolerance: float) -> None:
    assert found.singular_values is not None
    size = float(values[0])
    assert found.largest == pytest.approx(size, rel=tolerance)
    if len(found.singular_values) == len(values):
        np.testing.assert_allclose(found.singular_values, values, atol=tolerance * size)
        assert found.smallest == pytest.approx(float(values[-1]), abs=tolerance * size)


class Graphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = GCNConv(3, 6), GCNConv(6, 4), nn.Linear(4, 1)

    def forward(self, batch: Any) -> Tensor:
        x = self.first(batch.x, batch.edge_index).tanh()
        return self.head(self.second(x, batch.edge_index))


def test_products_are_those_of_the_whole_matrix_on_graphs() -> None:
    torch.manual_seed(0)
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    batch = Batch.from_data_list([Data(x=torch.randn(4, 3), edge_index=edges, y=torch.randn(1)) for _ in range(2)])
    model = Graphs()

    def body(x: Tensor) -> Tensor:
        return model.second(model.first(x, batch.edge_index).tanh(), batch.edge_index)

    with examined(model, batch) as subject:
        whole = torch.func.jacrev(body)(batch.x).detach().reshape(-1, batch.x.numel()).double()
        assert_products_are(Products(subject), whole)


class Twice(torch.autograd.Function):
    """x² that knows no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grads[0]


class Once(Twice):
    """x² that can be differentiated once only."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grads[0]


class Squared(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("function", "method", "tolerance"), [(Twice, "double reverse", FP32), (Once, "differences", 1e-3)]
)
def test_what_forward_mode_does_not_know_is_taken_another_way(function: Any, method: str, tolerance: float) -> None:
    torch.manual_seed(0)
    body, x = nn.Sequential(nn.Linear(4, 6), Squared(function), nn.Linear(6, 5)), torch.randn(3, 4)
    with examined(nn.Sequential(body, nn.Tanh(), nn.Linear(5, 1)), x) as subject:
        products = Products(subject)
        v = torch.randn(12, dtype=torch.float64)
        h = 1e-6
        exact = body.double()[0]
        hidden = lambda y: body[2](exact(y).square()).tanh()  # noqa: E731
        expected = (hidden(x.double() + h * v.view(3, 4)) - hidden(x.double() - h * v.view(3, 4))) / (2 * h)
        body.float()
        assert measure_jacobian(subject).method == method
        while products.method != method:  # what drops a tangent without a word only the examination notices
            products.fall_back()
        found = products.forward(v)
    torch.testing.assert_close(found, expected.detach().flatten(), rtol=tolerance, atol=tolerance)


class Rotated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x, norm="ortho")


def test_complex_numbers_count_as_pairs_of_reals() -> None:
    torch.manual_seed(0)
    found = jacobian_of(nn.Sequential(*chain(orthogonal(3, 8)), Rotated()), torch.randn(1, 8))
    assert (found.n_inputs, found.n_outputs) == (8, 16)
    np.testing.assert_allclose(found.singular_values, 1.0, atol=FP32)


def test_where_integers_enter_the_offset_of_their_embedding_is_the_input() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 8), *chain(orthogonal(4, 8)), nn.Linear(8, 1))
    found = jacobian_of(model, torch.randint(9, (2, 3)))
    assert (found.start, found.end, found.n_inputs, found.n_weight_layers) == ("output of 0", "input of 5", 48, 4)
    assert found.largest == pytest.approx(1.0, abs=FP32)


# The spectrum


def test_one_network_vanishes_and_explodes_at_once() -> None:
    for n_layers in (2, 7, 18):
        found = jacobian_of(chain([torch.diag(torch.tensor([10.0, 0.1]))] * n_layers), torch.randn(1, 2), tiny)
        assert found.largest == pytest.approx(10.0**n_layers, rel=FP32)
        assert found.smallest == pytest.approx(0.1**n_layers, rel=FP32)
        assert found.condition == pytest.approx(100.0**n_layers, rel=2 * FP32)
        assert found.spread == pytest.approx(math.log(100))


def tiny(model: nn.Module, batch: Any) -> Tensor:
    """A loss within range, however large the outputs."""
    return (model(batch) * 1e-20).abs().mean()


def test_orthogonal_weights_keep_all_directions() -> None:
    torch.manual_seed(0)
    model = chain(orthogonal(100, 32))
    found = jacobian_of(model, torch.randn(1, 32), n_products=32)
    assert found.is_exact
    assert len(found.singular_values or []) == 32
    np.testing.assert_allclose(found.singular_values, 1.0, atol=1e-4)
    many = jacobian_of(model, torch.randn(20, 32))
    assert many.isometry_error is not None
    assert many.isometry_error < 1e-4
    assert many.lyapunov == pytest.approx(0.0, abs=1e-6)


def test_lanczos_run_to_its_end_gives_the_spectrum() -> None:
    torch.manual_seed(0)
    weights = gaussian(3, 40)
    values = torch.linalg.svdvals((weights[2] @ weights[1] @ weights[0]).double())
    few, many = (jacobian_of(chain(weights), torch.randn(1, 40), n_products=n) for n in (4, 40))
    assert_spectrum_is(many, values, FP32)
    assert not few.is_exact
    assert few.largest <= float(values[0]) * (1 + FP32)
    assert few.largest + few.largest_error >= float(values[0]) * 0.9
    assert few.smallest >= float(values[-1])
    assert "upper estimate" in (few.reason or "")


def test_gaussian_linear_nets_keep_the_mean_square() -> None:
    """Of σ: 1; of σ²: L + 1 (Fuss-Catalan), so that the relative isometry error is √L."""
    torch.manual_seed(0)
    found = [jacobian_of(chain(gaussian(10, 100)), torch.randn(2, 100), n_products=2) for _ in range(20)]
    squares = [f.mean_square or 0.0 for f in found]
    assert abs(fmean(squares) - 1) < 3 * stdev(squares) / math.sqrt(len(squares))
    unevenness = fmean((f.relative_isometry_error or 0.0) ** 2 for f in found)
    assert unevenness == pytest.approx(10, rel=0.25)


class Skip(nn.Module):
    def __init__(self, branch: nn.Module, scale: float) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.branch(x)


@pytest.mark.parametrize(("scale", "square_per_layer"), [(1.0, 2.0), (0.25, 1 + 1 / 16), (0.0, 1.0)])
def test_a_skip_adds_its_branch_to_one(scale: float, square_per_layer: float) -> None:
    torch.manual_seed(0)
    blocks = [Skip(layer, scale) for layer in chain(gaussian(16, 256))]
    found = jacobian_of(nn.Sequential(*blocks, nn.Tanh(), nn.Linear(256, 1)), 1e-3 * torch.randn(4, 256))
    assert found.lyapunov == pytest.approx(0.5 * math.log(square_per_layer), abs=0.01)


# Growth through depth


def half_log_slope(weight_variance: float, bias_variance: float) -> float:
    """½ ln χ₁ of a wide tanh net at its fixed point, by Gauss-Hermite quadrature."""
    x, w = np.polynomial.hermite_e.hermegauss(101)
    w = w / w.sum()
    q = 1.0
    for _ in range(2000):
        q = weight_variance * float(w @ np.tanh(math.sqrt(q) * x) ** 2) + bias_variance
    return 0.5 * math.log(weight_variance * float(w @ np.cosh(math.sqrt(q) * x) ** -4.0))


def tanh_net(weight_variance: float, n_layers: int = 50, width: int = 200) -> nn.Sequential:
    hidden = chain(gaussian(n_layers, width, weight_variance), nn.Tanh, math.sqrt(0.05))
    return nn.Sequential(*hidden, nn.Linear(width, 3))


CRITICAL = 1.76095  # σ_w² of tanh at σ_b² = 0.05


def test_the_lyapunov_exponent_changes_its_sign_at_the_critical_variance() -> None:
    torch.manual_seed(0)
    assert half_log_slope(CRITICAL, 0.05) == pytest.approx(0, abs=1e-5)
    for variance in (0.8, 1.4, CRITICAL, 2.2, 25 / 9, 9.0):
        found = jacobian_of(tanh_net(variance), torch.randn(8, 200), n_products=1)
        assert found.lyapunov is not None
        assert found.lyapunov_error is not None
        expected = half_log_slope(variance, 0.05)
        assert abs(found.lyapunov - expected) < 4 * found.lyapunov_error + 0.002, variance
        if variance != CRITICAL:
            assert (found.lyapunov > 0) == (variance > CRITICAL)
        assert found.n_weight_layers == 50
        assert found.log_gain == pytest.approx(49 * found.lyapunov)


def test_a_gain_below_the_range_of_numbers_is_still_measured() -> None:
    """0.25 per layer from sigmoids at 0: 80 of them are e^-111, fp32 ends at e^-87."""
    half = 2 * torch.eye(8)
    found = jacobian_of(nn.Sequential(*chain([half] * 80, nn.Sigmoid), nn.Linear(8, 1)), torch.zeros(2, 8) - 1.5)
    assert found.lyapunov is not None
    assert found.largest is not None
    assert math.isfinite(found.log_gain or math.nan)
    assert math.log(found.largest) == pytest.approx(found.entry_log_gain, abs=1e-3)
    assert found.log_gain < -60


def test_a_dead_network_has_no_growth() -> None:
    model = chain([torch.eye(4)] * 3, nn.ReLU)
    model[2].bias.data.fill_(-100.0)
    found = jacobian_of(nn.Sequential(*model, nn.Linear(4, 1)), torch.rand(2, 4))
    assert found.log_gain == -math.inf
    assert found.largest == 0
    assert "no disturbance" in (found.reason or "")


def test_a_network_beyond_all_numbers_says_so() -> None:
    model = nn.Sequential(*chain([1e4 * torch.eye(4)] * 12), nn.Sigmoid(), nn.Linear(4, 1))
    found = jacobian_of(model, torch.rand(2, 4))
    assert found.largest is None
    assert "beyond all numbers" in (found.reason or "")


def test_where_nothing_real_enters_the_reason_is_told() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, batch: Any) -> Tensor:
            return self.weight

    found = jacobian_of(Constant(), {"ids": torch.arange(3)})
    assert found.largest is None
    assert found.reason
