"""Every layer type hands on the size of its signal, and the report is complete."""

import math

import numpy as np
import pytest
import torch
from isometry.initialise import (
    fan_in,
    initialise,
)
from torch import nn

N_LAYERS, WIDTH, N_SAMPLES = 50, 512, 16
# A single ReLU net of this shape has log q ~ N(-0.24, 0.49) by chance alone (Hanin & Nica 2018): six are averaged.
N_NETS = 6
SURVIVES = (0.5, 2.0)  # science A1: second moment after 50 layers, relative to the input's
EXACT = 1e-10  # closed forms in float64


def test_torch_default_loses_the_signal_that_initialise_keeps():
    torch.manual_seed(0)
    net = nn.Sequential(*(m for _ in range(N_LAYERS) for m in (nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU())))
    x = torch.randn(N_SAMPLES, WIDTH)
    default = net(x).square().mean().item()
    assert default < 1e-30
    initialise(net, "relu", first="linear")
    assert net(x).square().mean().item() > 0.1


def test_log_second_moment_spreads_as_hanin_and_nica_say():
    """log q after L ReLU layers of width N has mean -2.5 L/N and variance 5 L/N (leading order in 1/N)."""
    width, n_layers, n_nets = 128, 20, 200
    logs = []
    for seed in range(n_nets):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(width, generator=generator)
        h, moments = x, []
        for layer in range(n_layers):
            weight = torch.randn(width, width, generator=generator) * math.sqrt((2 if layer else 1) / width)
            z = weight @ h
            h = z.relu()
            moments.append(z.square().mean().item())
        logs.append(math.log(moments[-1] / moments[0]))
    expected = 5 * (n_layers - 1) / width
    assert np.mean(logs) == pytest.approx(-expected / 2, abs=3 * math.sqrt(expected / n_nets))
    assert np.var(logs) == pytest.approx(expected, rel=3 * math.sqrt(2 / n_nets))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(200, 300), torch.randn(200, 200)),
        (nn.Conv2d(32, 64, 5), torch.randn(4, 32, 20, 20)),
        (nn.Conv2d(32, 64, 5, stride=2, dilation=2, groups=4), torch.randn(4, 32, 30, 30)),
        (nn.ConvTranspose1d(64, 48, 6, stride=2), torch.randn(8, 64, 300)),
        (nn.ConvTranspose2d(32, 32, 4, stride=2, groups=2), torch.randn(4, 32, 30, 30)),
        (nn.ConvTranspose1d(64, 48, 5, stride=3), torch.randn(8, 64, 300)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("method", ["normal", "uniform", "orthogonal", "truncated"])
def test_every_layer_type_keeps_unit_second_moment(layer, x, method):
    initialise(layer, "linear", method=method, generator=torch.Generator().manual_seed(3))
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert layer(x).square().mean().item() == pytest.approx(1, abs=0.1)


def test_fan_in_counts_what_adds_up():
    assert fan_in(nn.Linear(7, 3)) == 7
    assert fan_in(nn.Conv3d(8, 6, (3, 5, 7), groups=2)) == 4 * 105
    assert fan_in(nn.ConvTranspose1d(8, 6, 6, stride=3)) == 8 * 2


def test_unaware_gain_grows_by_one_over_keep_per_layer():
    p, n_layers = 0.5, 20
    torch.manual_seed(0)
    net = nn.Sequential(*(m for _ in range(n_layers) for m in (nn.Linear(512, 512), nn.ReLU(), nn.Dropout(p))))
    initialise(net, "relu", first="linear")
    x = torch.randn(64, 512)
    with torch.no_grad():
        grown = net(x).square().mean().item() / net[0](x).relu().square().mean().item()
    assert math.log2(grown) == pytest.approx(n_layers, abs=3)


def test_lstm_gates_are_orthogonal_and_the_forget_gate_is_open():
    lstm = nn.LSTM(24, 16, num_layers=2, bidirectional=True)
    initialise(lstm, "linear", forget=1.5)
    for name, weight in lstm.named_parameters():
        if "weight_hh" in name:
            for gate in weight.detach().chunk(4):
                torch.testing.assert_close(gate @ gate.T, torch.eye(16), atol=1e-5, rtol=0)
        if "bias_ih" in name:
            assert weight.detach().chunk(4)[1].eq(1.5).all()
        if "bias_hh" in name:
            assert weight.detach().eq(0).all()


def test_chrono_biases_carry_a_gradient_over_a_thousand_steps():
    n_steps = 1000
    torch.manual_seed(0)

    def kept(net):
        x = torch.randn(n_steps, 1, 8, requires_grad=True)
        net(x)[0][-1].sum().backward()
        return (x.grad[0].norm() / x.grad[-1].norm()).item()

    lstm, rnn = nn.LSTM(8, 32), nn.RNN(8, 32)
    initialise(lstm, "linear", t_max=n_steps)
    initialise(rnn, "linear")
    assert kept(lstm) > 1e-3
    assert kept(rnn) < 1e-12


def test_report_names_every_parameter_and_nothing_else_changes():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 6, padding_idx=0)
            self.norm = nn.LayerNorm(6)
            self.mixer = nn.MultiheadAttention(6, 2)
            self.own = nn.Parameter(torch.full((3,), 7.0))
            self.bounded = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
            self.head = nn.Linear(6, 10, bias=False)
            self.head.weight = self.table.weight

    model = Odd()
    bounded = model.bounded.parametrizations.weight.original.detach().clone()
    report = {line.name: line for line in initialise(model, "relu")}
    assert report.keys() == {name for name, _ in model.named_parameters()} | {"head.weight"}
    assert report["own"].what == "Odd, left as it is"
    assert math.isnan(report["own"].std)
    assert "tied" in report["head.weight"].what
    assert model.own.eq(7).all()
    assert model.table.weight[0].eq(0).all()
    assert model.table.weight[1:].std().item() == pytest.approx(1, abs=0.25)
    assert torch.equal(model.bounded.parametrizations.weight.original, bounded)


def test_same_generator_gives_the_same_weights_and_spares_the_global_state():
    nets = [nn.LSTM(4, 4), nn.LSTM(4, 4)]
    before = torch.random.get_rng_state()
    for net in nets:
        initialise(net, "linear", method="truncated", t_max=20, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "rleu"}, "no activation is called 'rleu'; expected one of"),
        ({"method": "he"}, "no initialisation is called 'he'; expected one of"),
        ({"keep": 0.0}, "expected 0 < keep <= 1"),
        ({"t_max": 1}, "at least 3"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        initialise(nn.Linear(2, 2), **arguments)
    assert "\n" not in str(caught.value)


def test_lazy_layers_are_refused():
    with pytest.raises(ValueError, match="still lazy: run the model on one batch"):
        initialise(nn.LazyLinear(3))
