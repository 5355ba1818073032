"""What activations do to a signal: science rows A1, A4, A5, B1, and the edge of chaos."""

import math

import numpy as np
import pytest
import torch
from isometry.activations import steepest
from isometry.initialise import ACTIVATIONS, activation_named, critical, gain, initialise
from torch import nn

EXACT = 1e-10  # quadrature against closed forms
PUBLISHED = 6e-6  # published numbers are given to five digits after the point


def test_a1_gains_match_closed_forms():
    assert gain("linear") == pytest.approx(1, abs=EXACT)
    assert gain("relu") == pytest.approx(math.sqrt(2), abs=EXACT)
    assert gain("leaky_relu", slope=0.2) == pytest.approx(math.sqrt(2 / (1 + 0.2**2)), abs=EXACT)
    assert gain("selu") == pytest.approx(1, abs=1e-6)  # λ and α are published rounded
    # E[(z Φ(z))²] = 1/3 + 1/(2π√3), by Stein's lemma and the arcsine law
    assert gain("gelu") == pytest.approx((1 / 3 + 1 / (2 * math.pi * math.sqrt(3))) ** -0.5, abs=EXACT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a1_gains_agree_with_a_million_samples(name):
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    squares = activation_named(name)(z).square()
    standard_error = (squares.std() / math.sqrt(len(z))).item()
    assert gain(name) ** -2 == pytest.approx(squares.mean().item(), abs=4 * standard_error + 1e-12)


@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a3_both_kinds_of_dropout_are_compensated(keep):
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = (torch.rand(z.shape, generator=torch.Generator().manual_seed(3)) < keep).double()
    for scale, is_inverted in ((1 / keep, True), (1.0, False)):
        out = gain("relu", keep, is_inverted=is_inverted) * z.relu() * mask * scale
        assert out.square().mean().item() == pytest.approx(1, abs=0.02)


def test_a4_relu_units_die_and_leaky_units_do_not():
    torch.manual_seed(0)
    x = torch.randn(256, 64)

    def dead_fraction(name):
        layer = nn.Linear(64, 128)
        initialise(layer, "linear")
        nn.init.constant_(layer.bias, -10.0)
        activation_named(name)(layer(x)).sum().backward()
        return (layer.weight.grad == 0).all(dim=1).double().mean().item()

    assert dead_fraction("relu") == 1.0
    assert dead_fraction("leaky_relu") == 0.0


def test_a4_sigmoid_slope_is_at_most_a_quarter():
    z = torch.linspace(-20, 20, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(activation_named("sigmoid")(z).sum(), z)
    assert slope.max().item() == 0.25
    assert z[slope.argmax()].item() == pytest.approx(0, abs=1e-12)


def hat():
    """The hat on [0, 1] as a ReLU layer: 2 relu(x) - 4 relu(x - 1/2)."""
    up, down = nn.Linear(1, 2, dtype=torch.float64), nn.Linear(2, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        up.weight.fill_(1.0)
        up.bias.copy_(torch.tensor([0.0, -0.5]))
        down.weight.copy_(torch.tensor([[2.0, -4.0]]))
    return nn.Sequential(up, nn.ReLU(), down)


@pytest.mark.parametrize("n_layers", range(1, 11))
def test_a5_hat_composed_has_two_to_the_depth_peaks(n_layers):
    net = nn.Sequential(*(hat() for _ in range(n_layers)))
    x = torch.linspace(0, 1, 2**13 + 1, dtype=torch.float64)[:, None]
    y = net(x).detach().flatten()
    peaks = (y[1:-1] > y[:-2]) & (y[1:-1] > y[2:])
    assert peaks.sum().item() == 2 ** (n_layers - 1)
    assert y[1:-1][peaks].min().item() == 1.0


def test_b1_sigmoid_chain_shrinks_a_quarter_per_layer():
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    x, slopes = torch.tensor(0.7, dtype=torch.float64), []
    h = w * x
    for _ in range(20):
        s = torch.sigmoid(h)
        slopes.append((s * (1 - s)).item())
        h = activation_named("sigmoid")(h)
    h.backward()
    assert abs(w.grad.item()) <= 0.25**20
    assert w.grad.item() == pytest.approx(0.7 * math.prod(slopes), rel=1e-12)


@pytest.mark.parametrize(("n_layers", "factor"), [(10, 57.7), (20, 3325.3)])
def test_b1_linear_chain_of_slope_three_halves_grows_exactly(n_layers, factor):
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(n_layers)))
    for layer in net:
        nn.init.constant_(layer.weight, 1.5)
    x = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    net(x).backward()
    assert x.grad.item() == 1.5**n_layers
    assert x.grad.item() == pytest.approx(factor, rel=1e-3)


def test_steepest_slopes_match_closed_forms():
    density = math.exp(-1) / math.sqrt(2 * math.pi)
    assert steepest("sigmoid") == 0.25
    assert steepest("linear") == steepest("tanh") == steepest("relu") == steepest("leaky_relu") == 1
    assert steepest("leaky_relu", slope=1.5) == 1.5
    assert steepest("selu") == pytest.approx(1.0507009873554805 * 1.6732632423543772, abs=1e-8)
    assert steepest("gelu") == pytest.approx(0.5 * (1 + math.erf(1)) + math.sqrt(2) * density, abs=EXACT)  # at x = √2
    assert steepest("silu") == pytest.approx(1.09984, abs=PUBLISHED)
    assert steepest("mish") == pytest.approx(1.08850, abs=PUBLISHED)


def test_steepest_slope_of_a_function_of_ones_own():
    assert steepest(lambda x: 3 * x.sin()) == pytest.approx(3, abs=EXACT)
    assert steepest(nn.PReLU(init=2.5)) == 2.5
    assert steepest(torch.square) == math.inf


def test_tanh_edge_of_chaos_matches_published_variances():
    for bias_variance, weight_variance in ((0.05, 1.76095), (0.1, 1.98607), (0.3, 2.50513)):
        assert critical("tanh", bias_variance).weight_variance == pytest.approx(weight_variance, abs=PUBLISHED)


def test_gelu_and_silu_edges_match_roberts_yaida_and_hanin():
    assert critical("gelu")[:2] == pytest.approx((1.98306, 0.17292), abs=PUBLISHED)
    assert critical("gelu").second_moment == pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-9)
    assert critical("silu")[:2] == pytest.approx((1.98800, 0.55514), abs=PUBLISHED)


def test_scale_free_edges_are_exact():
    assert critical("relu")[:2] == pytest.approx((2, 0), abs=EXACT)
    assert critical("tanh")[:2] == pytest.approx((1, 0), abs=1e-9)
    with pytest.raises(ValueError, match="sigmoid has no scale"):
        critical("sigmoid")


def test_tanh_lyapunov_exponent_changes_sign_at_the_critical_variance():
    """log growth of a tangent vector per layer, σ_b² = 0.05: below, at and above the critical weight variance."""
    edge = critical("tanh", 0.05).weight_variance

    def exponent(weight_variance, width=512, n_layers=60):
        generator = torch.Generator().manual_seed(0)
        h, v = torch.randn(width, generator=generator), torch.randn(width, generator=generator)
        logs = []
        for _ in range(n_layers):
            w = torch.randn(width, width, generator=generator) * math.sqrt(weight_variance / width)
            z = w @ h + math.sqrt(0.05) * torch.randn(width, generator=generator)
            h = z.tanh()
            v = (1 - h**2) * (w @ v)
            logs.append(v.norm().log().item())
            v = v / v.norm()
        return float(np.mean(logs[10:]))

    assert exponent(0.7 * edge) < -0.05
    assert abs(exponent(edge)) < 0.02
    assert exponent(1.6 * edge) > 0.03
