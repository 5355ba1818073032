"""The direct path: scales, gates and dropped branches; and what a plain stack does."""

import math

import pytest
import torch
from isometry.blocks import (
    GatedResidual,
    PreNorm,
    Residual,
    StochasticDepth,
    effective_depth,
    keep_at,
    mlp,
    residual_scale,
)
from isometry.initialise import initialise
from torch import nn

N_PASSES = 4000  # science B9
STANDARD_ERRORS = 3


class Halved(nn.Module):
    def forward(self, x):
        return 0.5 * x


def test_second_moment_grows_below_e_when_scaled_and_doubles_per_block_when_not():
    n_blocks, width = 12, 512
    torch.manual_seed(1)
    x = torch.randn(32, width)

    def grown(scale):
        net = nn.Sequential(*(Residual(nn.Linear(width, width), scale) for _ in range(n_blocks)))
        initialise(net, "linear")
        return (net(x).square().mean() / x.square().mean()).item()

    with torch.no_grad():
        assert grown(residual_scale(n_blocks)) == pytest.approx((1 + 1 / n_blocks) ** n_blocks, rel=0.1)
        assert math.log2(grown(1.0)) == pytest.approx(n_blocks, abs=0.5)


def test_closed_gate_learns_though_its_branch_waits():
    torch.manual_seed(0)
    block = GatedResidual(nn.Linear(4, 4))
    block(torch.randn(8, 4)).square().sum().backward()
    assert block.gate.grad.abs().item() > 0
    assert block.branch.weight.grad.eq(0).all()


def test_effective_depth_refuses_a_plain_net():
    with pytest.raises(ValueError, match="reaches no Residual or GatedResidual"):
        effective_depth(nn.Linear(2, 2), torch.ones(1, 2))


def test_samples_drop_one_by_one_and_as_a_whole():
    torch.manual_seed(0)
    out = StochasticDepth(nn.Identity(), 0.5)(torch.ones(1000, 3, 4))
    is_kept = out.reshape(1000, -1) != 0
    assert (is_kept.all(1) | ~is_kept.any(1)).all()
    assert is_kept.any(1).double().mean().item() == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(1000))


def test_linear_decay_rule_ends_at_the_last_probability():
    assert [keep_at(b, 4, last=0.6) for b in (1, 2, 3, 4)] == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_branch_of_another_shape_is_refused_clearly():
    with pytest.raises(ValueError, match=r"Residual: the branch turns shape \(2, 3\) into \(2, 5\)"):
        Residual(nn.Linear(3, 5))(torch.ones(2, 3))
    with pytest.raises(ValueError, match="put a projection before the block"):
        GatedResidual(nn.Linear(3, 1))(torch.ones(2, 3))  # would broadcast silently


def test_pre_norm_leaves_the_direct_path_free_of_the_norm():
    x = 1000 * torch.randn(4, 8)
    block = Residual(PreNorm(nn.Identity(), nn.LayerNorm(8)))
    torch.testing.assert_close(block(x) - x, nn.functional.layer_norm(x, (8,)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu", "selu"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_mlp_hands_out_unit_second_moment(activation, dropout):
    torch.manual_seed(0)
    net = mlp([256, 512, 512, 256], activation, dropout=dropout)
    with torch.no_grad():
        assert net(torch.randn(200, 256)).square().mean().item() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("activation", ["gelu", "silu", "mish"])
def test_deep_critical_mlp_hands_out_unit_second_moment(activation):
    torch.manual_seed(0)
    net = mlp([512] * 15, activation, method="critical")
    with torch.no_grad():
        assert 0.5 < net(torch.randn(32, 512)).square().mean().item() < 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp([3]), "at least an input and an output width"),
        (lambda: mlp([3, 3], dropout=1.0), "0 <= dropout < 1"),
        (lambda: mlp([3, 3, 3], "gelu", method="critical", bias=False), "only with random biases"),
        (lambda: StochasticDepth(nn.Identity(), 0.0), "0 < keep <= 1"),
        (lambda: keep_at(0, 5), "blocks count from 1"),
        (lambda: residual_scale(0), "at least 1"),
    ],
)
def test_wrong_shapes_of_a_net_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_scale_of_a_branch_travels_with_the_weights():
    there, here = Residual(nn.Linear(3, 3), 0.25), Residual(nn.Linear(3, 3), 1.0)
    here.load_state_dict(there.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(here(x), there(x))
