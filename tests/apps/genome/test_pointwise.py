"""A convolution of one position is the linear map that it stands for, and a network hides that it has any."""

import pytest
import torch
from isometry.initialise import Projection
from isometry_genome.model import GenomeModel, ModelSettings
from isometry_genome.pointwise import Pointwise, PointwiseProjection, is_quick, linear, quicken
from torch import nn
from torch.nn import functional

ROUNDING = 1e-5  # of sums of some hundred products of unit size, relative to their size


def test_values_and_all_gradients_are_those_of_the_linear_map():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 512, 48, requires_grad=True), torch.randn(32, 48, requires_grad=True)
    bias = torch.randn(32, requires_grad=True)
    assert is_quick(x, weight)
    expected, got = functional.linear(x, weight, bias), linear(x, weight, bias)
    torch.testing.assert_close(got, expected, rtol=ROUNDING, atol=10 * ROUNDING)
    slope = torch.randn_like(got)
    for one, other in zip(*(torch.autograd.grad(y, (x, weight, bias), slope) for y in (got, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=ROUNDING, atol=ROUNDING * float(other.abs().max()))


@pytest.mark.parametrize("shape", [(1, 100, 48), (1, 1030, 48), (1, 1024, 8), (0, 48)])
def test_few_or_odd_positions_and_narrow_maps_go_the_plain_way(shape):
    weight = torch.randn(32, shape[-1])
    x = torch.randn(shape)
    assert not is_quick(x, weight)
    assert torch.equal(linear(x, weight, None), functional.linear(x, weight))


def test_double_precision_goes_the_plain_way():
    assert not is_quick(torch.zeros(1024, 48, dtype=torch.float64), torch.zeros(32, 48, dtype=torch.float64))


def test_layers_are_replaced_in_place_with_the_very_same_weights_under_the_same_names():
    inner = nn.Sequential(Projection(16, 16, bias=False))
    net = nn.Sequential(nn.Linear(32, 16), inner)
    before = dict(net.named_parameters())
    quicken(net)
    assert isinstance(net[0], Pointwise)
    assert isinstance(inner[0], PointwiseProjection)
    assert dict(net.named_parameters()) == before
    assert all(parameter is before[name] for name, parameter in net.named_parameters())


def test_a_network_of_many_bins_says_what_it_said_by_matrix_products(monkeypatch):
    torch.manual_seed(0)
    s = ModelSettings(heads=("profile",), n_tracks=1, bin=16, resolution=16, width=32, stem=16, n_layers=1, n_heads=2)
    net = GenomeModel(s).eval()
    for name, gate in net.named_parameters():  # gates start at 0, which would hide the layers behind them
        if name.endswith("gate"):
            nn.init.constant_(gate, 0.5)
    x = functional.one_hot(torch.randint(4, (1, 512 * 16)), 4).float()
    quick = net(x)["profile"]
    monkeypatch.setattr("isometry_genome.pointwise.is_quick", lambda x, weight: False)
    torch.testing.assert_close(quick, net(x)["profile"], rtol=ROUNDING, atol=ROUNDING)
