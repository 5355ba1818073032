"""Dilated convolutions beside the recurrent net: as many weights, a view that ends where it is said to, and healthy."""

import pytest
import torch
from isometry.app import load_app
from isometry.doctor.visit import examine_app
from isometry_protein.convolution import Dilated
from isometry_protein.model import ModelSettings, ProteinModel

APP = load_app("protein")


def n_weights(module):
    """Of matrices and kernels; biases and norms are left out."""
    return sum(p.numel() for p in module.parameters() if p.ndim > 1)


@pytest.mark.parametrize(("width", "n_layers"), [(8, 1), (64, 3)])
def test_it_has_as_many_weights_as_the_lstm(width, n_layers):
    nets = {
        kind: ProteinModel(ModelSettings(kind=kind, width=width, n_layers=n_layers, stem=32))
        for kind in ("lstm", "conv")
    }
    assert nets["conv"].n_features == nets["lstm"].n_features
    assert n_weights(nets["conv"]) == n_weights(nets["lstm"])


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_a_residue_sees_as_far_as_it_is_said_and_no_further(is_causal, n_layers):
    torch.manual_seed(0)
    net, middle = Dilated(5, 6, n_layers, is_causal=is_causal).double().eval(), 200
    x = torch.randn(1, 2 * middle + 1, 5, dtype=torch.float64, requires_grad=True)
    net(x)[0, middle].square().sum().backward()
    felt = x.grad[0].abs().sum(-1).nonzero().squeeze(-1).tolist()
    assert (felt[0], felt[-1]) == (middle - net.reach, middle if is_causal else middle + net.reach)
    assert len(felt) == felt[-1] - felt[0] + 1, "no gap"


def test_what_lies_beyond_the_end_changes_nothing():
    torch.manual_seed(0)
    net, lengths = Dilated(5, 6, 2).double().eval(), torch.tensor([9, 30])
    x = torch.randn(2, 30, 5, dtype=torch.float64)
    x[0, 9:] = 0
    other = torch.cat([x, torch.zeros(2, 11, 5, dtype=torch.float64)], 1)
    torch.testing.assert_close(net(other, lengths)[:, :30], net(x, lengths))
    torch.testing.assert_close(net(x[:1, :9])[0], net(x, lengths)[0, :9])
    assert not net(x, lengths)[0, 9:].any()


def test_one_mask_is_dropped_for_all_residues():
    torch.manual_seed(0)
    net = Dilated(12, 6, 1, dropout=0.5).train()
    for layer in net.layers:
        torch.nn.init.dirac_(layer.first.weight)
        torch.nn.init.dirac_(layer.second.weight)
    x = torch.rand(3, 20, 12) + 1
    is_dropped = net(x) == x
    assert is_dropped.any()
    assert bool((is_dropped == is_dropped[:, :1]).all())
    assert not bool((is_dropped == is_dropped[:1]).all()), "each protein has its own"


def test_the_doctor_finds_nothing_wrong_with_it():
    small = {"model": {"kind": "conv", "width": 16, "n_layers": 2}, "data": {"n_train": 20}, "fit": {"tokens": 500}}
    found = examine_app(APP, APP.presets["tiny"].changed(**small))
    assert found.findings == ()
    assert {row.name for row in found.forward.rows} >= {
        f"recurrent.layers.{i}.{of}" for i in (0, 1) for of in ("first", "second")
    }
