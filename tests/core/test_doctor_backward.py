"""Backward and predicted: the gradient's way against closed forms, its bound, and mean-field theory."""

import math
from itertools import pairwise

import pytest
import torch
from isometry.activations import ACTIVATIONS, activation_named, critical
from isometry.blocks import GatedResidual, PreNorm, Residual, mlp
from isometry.doctor.backward import measure_backward
from isometry.doctor.bound import largest_singular_value
from isometry.doctor.predicted import correlation_after, edge, predict
from isometry.doctor.subject import Subject
from torch import nn

EXACT = 1e-9
SINGLE = 1e-5
KINK = 5e-3  # of Gauss–Hermite quadrature across a kink


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def squared(model, batch):
    return model(batch).square().mean()


def alternating(model, batch):
    """A loss whose gradient knows nothing of the output, as theory takes for granted."""
    out = model(batch).flatten()
    return (out * torch.randn(len(out), generator=torch.Generator().manual_seed(5))).sum()


def backward_of(model, batch, loss=squared):
    with Subject.of(model, batch, loss) as subject:
        return measure_backward(subject)


def predicted_of(model, batch, loss=squared):
    with Subject.of(model, batch, loss) as subject:
        return predict(subject), measure_backward(subject)


def chain(activation, widths, weight_variance, bias_variance=0.0):
    net = nn.Sequential()
    for n_in, n_out in pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
        layer.weight.data.normal_(0, math.sqrt(weight_variance / n_in))
        layer.bias.data.normal_(0, math.sqrt(bias_variance))
        net.extend([layer, activation_named(activation)])
    return net[:-1]


# The gradient itself


@pytest.mark.parametrize("a", [0.9, 1.1])
def test_log_gain_of_a_linear_chain_is_its_power(a):
    """Fifty factors lie between the first of 52 layers and the last."""
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(52)))
    for layer in net:
        nn.init.constant_(layer.weight, a)
    found = backward_of(net, torch.tensor([[1.0], [-2.0]], dtype=torch.float64))
    assert found.n_between == 50
    assert found.log_gain == pytest.approx(50 * math.log(a), rel=EXACT)
    assert found.bound == pytest.approx(50 * math.log(a), abs=50 * 2e-5)
    assert [row.gain for row in found.rows[:-1]] == pytest.approx([math.log(a)] * 51, rel=EXACT)


def test_rows_and_weights_tell_what_autograd_says():
    net = mlp([6, 12, 12, 1], "tanh")
    x = torch.randn(16, 6)
    found = backward_of(net, x)
    hidden = net[:3](x).detach().requires_grad_()
    net[3:](hidden).square().mean().backward()
    row = next(row for row in found.rows if row.name == "2")
    assert row.norm == pytest.approx(hidden.grad.norm().item(), rel=SINGLE)
    assert row.rms == pytest.approx(hidden.grad.square().mean().sqrt().item(), rel=SINGLE)
    weight = next(weight for weight in found.weights if weight.name == "4.weight")
    assert weight.norm == pytest.approx(net[4].weight.grad.norm().item(), rel=SINGLE)


def test_exact_zeros_are_counted_and_are_those_of_the_activation():
    net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 1))
    net[0].weight.data.zero_()
    net[0].bias.data.copy_(torch.tensor([-1.0] * 3 + [1.0] * 7))
    found = backward_of(net, torch.randn(8, 4))
    assert found.rows[0].zero_share == pytest.approx(0.3)
    assert found.rows[1].zero_share == 0.0
    assert next(w for w in found.weights if w.name == "0.bias").zero_share == pytest.approx(0.3)


def test_a_dead_net_a_head_of_zeros_and_a_broken_one_are_told_apart():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1))
    nn.init.constant_(net[0].bias, -100.0)
    assert backward_of(net, torch.randn(8, 4)).log_gain == -math.inf
    net = mlp([4, 8, 8, 1])
    nn.init.zeros_(net[-1].weight)
    found = backward_of(net, torch.randn(8, 4))
    assert found.log_gain is None
    assert "exactly 0" in found.reason
    nn.init.constant_(net[2].weight, math.nan)
    found = backward_of(net, torch.randn(8, 4), lambda m, b: m(b).sum())
    assert found.rows[0].non_finite > 0
    assert found.log_gain is None
    assert found.bound is None


def test_unused_weights_have_no_gradient():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 1), nn.Linear(4, 1)

        def forward(self, x):
            return self.used(x) + 0 * self.unused(x.detach()).detach()

    found = backward_of(Half(), torch.randn(8, 4))
    assert next(w for w in found.weights if w.name == "unused.weight").norm is None
    assert next(row for row in found.rows if row.name == "unused").norm is None


# The bound


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (64, 64), (200, 90)])
def test_largest_singular_value_is_bounded_closely_from_above(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.matrix_norm(weight.double(), 2).item()
    assert exact <= largest_singular_value(weight, 1000) <= 1.06 * exact
    assert exact <= largest_singular_value(weight, 0)
    q = torch.linalg.qr(torch.randn(64, 64)).Q
    assert largest_singular_value(1e-30 * q, 64) == pytest.approx(1e-30, rel=1e-3)
    assert largest_singular_value(torch.zeros(shape), 1) == 0.0


def nets():
    def functional(depth, width):
        class Functional(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

            def forward(self, x):
                for layer in self.layers[:-1]:
                    x = x + 0.5 * torch.nn.functional.silu(layer(x))
                return self.layers[-1](x)

        return Functional()

    blocks = [Residual(PreNorm(mlp([16, 32, 16]), nn.LayerNorm(16)), 0.3) for _ in range(4)]
    gates = [GatedResidual(mlp([16, 16, 16], "tanh"), 0.7) for _ in range(4)]
    yield "residual", nn.Sequential(nn.Linear(16, 16), *blocks, nn.LayerNorm(16), nn.Linear(16, 2)), (16, 16)
    yield "gated", nn.Sequential(nn.Linear(16, 16), *gates, nn.Linear(16, 2)), (16, 16)
    yield "functional", functional(6, 16), (16, 16)
    yield "dropout", mlp([16, 64, 64, 64, 1], "gelu", dropout=0.3), (16, 16)
    convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    convolutions += [nn.Conv2d(8, 8, 3, stride=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)]
    yield "convolutions", nn.Sequential(*convolutions), (8, 3, 14, 14)
    yield "collapsed", chain("sigmoid", [16] * 12, 1.0), (16, 16)
    for name in ACTIVATIONS:
        yield name, chain(name, [16, 24, 8, 24, 16, 1], 3.0, 0.1), (16, 16)


@pytest.mark.parametrize("seed", range(3))
def test_no_gradient_grows_beyond_its_bound(seed):
    torch.manual_seed(seed)
    for name, net, shape in nets():
        for scale in (0.1, 3.0):
            found = backward_of(net, scale * torch.randn(shape))
            assert found.bound is not None, (name, found.bound_reason)
            assert found.log_gain <= found.bound + 1e-4, name


def test_the_bound_of_a_residual_chain_adds_its_paths():
    """Linear blocks x + s W x with W = q orthogonal: the worst case is (1 + s)^L, that of the branch alone s^L."""
    blocks = [Residual(nn.Linear(8, 8, bias=False), 0.25) for _ in range(10)]
    for block in blocks:
        nn.init.orthogonal_(block.branch.weight)
    found = backward_of(nn.Sequential(nn.Linear(8, 8), *blocks, nn.Linear(8, 1)), torch.randn(16, 8))
    assert found.bound == pytest.approx(10 * math.log(1.25), abs=1e-3)


def test_where_the_structure_is_unknown_the_bound_says_so():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.last(self.second(torch.sin(self.first(x)) * x))

    found = backward_of(Doubled(), torch.randn(8, 4))
    assert found.bound is None
    assert "second" in found.bound_reason
    attention = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    found = backward_of(attention, torch.randn(4, 5, 8))
    assert "MultiheadAttention" in found.bound_reason
    assert math.isfinite(found.log_gain)


def test_a_way_past_the_last_layer_leaves_no_bound():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.early = nn.Linear(4, 4), nn.Linear(4, 1)
            self.hidden, self.late = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            x = self.first(x)
            return self.early(x) + self.late(self.hidden(x))

    found = backward_of(Two(), torch.randn(8, 4))
    assert found.bound is None
    assert found.bound_reason.endswith("another way as well, by early")


# Predicted beside measured

WITHIN = 0.2  # of the mean over N_NETS nets, layer by layer
N_NETS = 2


@pytest.mark.parametrize("start", ["Xavier", "He", "critical"])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_wide_nets_do_what_mean_field_theory_predicts(name, start):
    if start == "critical" and name == "sigmoid":
        pytest.skip("sigmoid has no critical point without biases")
    edge_of = critical(name) if start == "critical" else None
    variances = {"Xavier": (1.0, 0.0), "He": (2.0, 0.0)}.get(start) or edge_of[:2]
    torch.manual_seed(0)
    moments, gains = [], []
    for _ in range(N_NETS):
        net = chain(name, [448] * 6, *variances)
        found, measured = predicted_of(net, torch.randn(16, 448), alternating)
        of = {row.name: row for row in measured.rows}
        moments.append([row.moment_measured / row.moment for row in found.rows])
        gains.append([of[row.name].gain - row.gain for row in found.rows if row.gain is not None])
        assert found.log_gain is not None
    assert torch.tensor(moments).mean(0).tolist() == pytest.approx([1.0] * 5, abs=WITHIN)
    assert torch.tensor(gains).mean(0).exp().tolist() == pytest.approx([1.0] * len(gains[0]), abs=WITHIN)


def test_dropout_skips_norms_and_convolutions_are_predicted_too():
    torch.manual_seed(0)
    blocks = [Residual(PreNorm(mlp([256, 256, 256]), nn.LayerNorm(256)), 0.5) for _ in range(4)]
    convolutions = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=2, stride=2), nn.ReLU()]
    for net, shape in (
        (mlp([256] * 8, "tanh", dropout=0.3), (64, 256)),
        (nn.Sequential(nn.Linear(256, 256), *blocks, nn.Linear(256, 256)), (64, 256)),
        (nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * 36, 64)), (16, 3, 10, 10)),
    ):
        found, measured = predicted_of(net, torch.randn(shape), alternating)
        for row in found.rows:
            assert row.moment_measured == pytest.approx(row.moment, rel=WITHIN)
        assert found.log_gain == pytest.approx(measured.log_gain, abs=WITHIN)


def test_torchs_gain_for_tanh_is_chaotic():
    """λ = ½ ln χ₁ = 0.0952 per layer at σ_w = 5/3."""
    found = edge("tanh", (5 / 3) ** 2, 0.0)
    assert math.log(found.chi) / 2 == pytest.approx(0.0952, abs=1e-4)
    assert found.correlation == pytest.approx(0.0, abs=1e-3)
    assert edge("tanh", 0.8, 0.0).chi < 1


@pytest.mark.parametrize(("name", "bias_variance"), [("tanh", 0.05), ("tanh", 0.3), ("gelu", None), ("silu", None)])
def test_critical_pairs_have_chi_one(name, bias_variance):
    assert edge(name, *critical(name, bias_variance)).chi == pytest.approx(1, abs=1e-6)


def test_correlation_map_of_relu_is_the_arc_cosine_kernel():
    """Cho & Saul 2009, eq. 6: c' = (sin θ + (π - θ) cos θ) / π."""
    for c in (-0.5, 0.0, 0.5, 0.9):
        angle = math.acos(c)
        expected = (math.sin(angle) + (math.pi - angle) * c) / math.pi
        assert correlation_after("relu", 1.7, c, 2.0, 0.0) == pytest.approx(expected, abs=KINK)
    assert correlation_after("relu", 1.7, 1.0, 2.0, 0.0) == pytest.approx(1.0, abs=EXACT)


def test_predicted_correlation_follows_the_measured_one():
    torch.manual_seed(0)
    net = chain("tanh", [512] * 10, 1.0, 0.05)
    found, _ = predicted_of(net, torch.randn(32, 512))
    assert found.lyapunov < 0
    for row in found.rows:
        assert row.correlation_measured == pytest.approx(row.correlation, abs=0.05)


def test_theory_is_silent_where_it_knows_nothing():
    found, _ = predicted_of(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(4, 5, 8))
    assert found.edge is None
    assert found.lyapunov is None
    assert all(math.isfinite(row.moment) for row in found.rows)
