"""What activations do to a signal: gains, steepest slopes, and the edge of chaos."""

import math

import pytest
import torch
from isometry.activations import steepest
from isometry.initialise import ACTIVATIONS, activation_named, critical, gain
from torch import nn

EXACT = 1e-10  # quadrature against closed forms
PUBLISHED = 6e-6  # published numbers are given to five digits after the point


def test_gains_match_closed_forms():
    assert gain("linear") == pytest.approx(1, abs=EXACT)
    assert gain("relu") == pytest.approx(math.sqrt(2), abs=EXACT)
    assert gain("leaky_relu", slope=0.2) == pytest.approx(math.sqrt(2 / (1 + 0.2**2)), abs=EXACT)
    assert gain("selu") == pytest.approx(1, abs=1e-6)  # λ and α are published rounded
    # E[(z Φ(z))²] = 1/3 + 1/(2π√3), by Stein's lemma and the arcsine law
    assert gain("gelu") == pytest.approx((1 / 3 + 1 / (2 * math.pi * math.sqrt(3))) ** -0.5, abs=EXACT)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gains_agree_with_a_million_samples(name):
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    squares = activation_named(name)(z).square()
    standard_error = (squares.std() / math.sqrt(len(z))).item()
    assert gain(name) ** -2 == pytest.approx(squares.mean().item(), abs=4 * standard_error + 1e-12)


@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_both_kinds_of_dropout_are_compensated(keep):
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mask = (torch.rand(z.shape, generator=torch.Generator().manual_seed(3)) < keep).double()
    for scale, is_inverted in ((1 / keep, True), (1.0, False)):
        out = gain("relu", keep, is_inverted=is_inverted) * z.relu() * mask * scale
        assert out.square().mean().item() == pytest.approx(1, abs=0.02)


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
