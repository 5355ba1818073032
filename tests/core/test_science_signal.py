"""Statements of science on the signal: forward (A1-A7), backward (B1-B15), and two that any dynamics obeys (E5, E6).

Each test is named after its statement and asserts the number that the statement is held to.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from isometry.activations import steepest
from isometry.attention import Attention, recentred, sinusoidal
from isometry.blocks import GatedResidual, Residual, StochasticDepth, effective_depth, mlp, residual_scale
from isometry.doctor.jacobian import measure_jacobian
from isometry.doctor.predicted import edge, predict
from isometry.doctor.recurrence import measure_recurrence
from isometry.doctor.subject import Subject
from isometry.initialise import ACTIVATIONS, activation_named, critical, gain, growth, initialise, orthogonal_
from isometry.lipschitz import lipschitz_bound
from isometry.recurrent import Recurrent
from isometry.skips import Dense, UNet
from torch import nn
from torch.nn import functional

DOUBLE = torch.float64
EXACT = 1e-10  # closed forms in float64
MATCHED = 1e-6  # A4: second moment after an activation times its gain; SELU's constants are rounded

torch.set_num_threads(1)


def seeded(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def jacobian_of(net, x):
    """What the doctor says of the Jacobian of a net on a batch."""
    with Subject.of(net, x, lambda net, x: net(x).square().mean()) as subject:
        return measure_jacobian(subject)


# A. The signal must survive forward

N_LAYERS, WIDTH, N_SAMPLES = 50, 512, 16
SURVIVES = (0.5, 2.0)  # second moment after 50 layers, relative to what it should be


def is_stable(name):
    """Whether deviations of the scale under the matched gain do not grow; where they do, the edge of chaos is used."""
    return growth(name) <= 1 + 1e-9


def held(name):
    """The second moment that the layers hold, for inputs of 1: theirs, or at the edge of chaos the one fixed there."""
    return 1.0 if is_stable(name) else critical(name).second_moment


def survival(name, n_nets, *, keep=1.0, method=None, n_layers=N_LAYERS):
    """The last layer's second moment over the input's, in training mode, averaged over nets of different seeds.

    Where the scale heals itself (sigmoid, tanh, SELU) one net tells; elsewhere a single net wanders by chance alone:
    for ReLU nets of this shape log q ~ N(-0.24, 0.49) (Hanin & Nica 2018).
    """
    method = method or ("normal" if is_stable(name) else "critical")
    ratios = []
    for seed in range(1 if growth(name) < 0.9 else n_nets):
        torch.manual_seed(seed)
        layers = [nn.utils.skip_init(nn.Linear, WIDTH, WIDTH) for _ in range(n_layers)]
        dropout = [nn.Dropout(1 - keep)] if keep < 1 else []
        stages = [[layer, activation_named(name), *dropout] for layer in layers[:-1]]
        net = nn.Sequential(*(module for stage in stages for module in stage), layers[-1])
        initialise(net, name, keep=keep, method=method, first="linear")
        with torch.no_grad():
            x = torch.randn(N_SAMPLES, WIDTH)
            ratios.append((net(x).square().mean() / x.square().mean()).item())
    return float(np.mean(ratios))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a1_second_moment_survives_fifty_layers(name):
    assert SURVIVES[0] < survival(name, n_nets=4) / held(name) < SURVIVES[1]


@pytest.mark.parametrize("method", ["uniform", "orthogonal", "truncated"])
def test_every_distribution_carries_the_signal(method):
    assert SURVIVES[0] < survival("relu", n_nets=1, method=method, n_layers=10) < SURVIVES[1]


@pytest.mark.parametrize("kernel", [3, 15, 51, 151, 301])
def test_a2_variance_times_fan_in_is_constant_over_kernels(kernel):
    torch.manual_seed(kernel)
    conv = nn.Conv1d(16, 64, kernel)
    (line, _) = initialise(conv, "relu")
    assert line.std**2 * 16 * kernel == pytest.approx(2, abs=EXACT)
    n = conv.weight.numel()
    assert conv.weight.var().item() * 16 * kernel == pytest.approx(2, rel=5 * math.sqrt(2 / n))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])  # which is linear's other name
def test_a3_dropout_aware_gain_carries_the_signal(name, p):
    assert SURVIVES[0] < survival(name, n_nets=2, keep=1 - p) / held(name) < SURVIVES[1]


def test_a4_relu_units_die_leaky_units_do_not_and_a_sigmoid_is_never_steeper_than_a_quarter():
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
    assert steepest("sigmoid") == 0.25
    z = torch.linspace(-12, 12, 100_001, dtype=DOUBLE)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    for name in ("sigmoid", "tanh", "relu", "leaky_relu", "selu", "mish", "gelu", "silu"):
        kept = torch.trapezoid((gain(name) * activation_named(name)(z)) ** 2 * density, z)
        assert kept.item() == pytest.approx(1, rel=MATCHED), name


def hat():
    """The hat on [0, 1] as a ReLU layer: 2 relu(x) - 4 relu(x - 1/2)."""
    up, down = nn.Linear(1, 2, dtype=DOUBLE), nn.Linear(2, 1, bias=False, dtype=DOUBLE)
    with torch.no_grad():
        up.weight.fill_(1.0)
        up.bias.copy_(torch.tensor([0.0, -0.5]))
        down.weight.copy_(torch.tensor([[2.0, -4.0]]))
    return nn.Sequential(up, nn.ReLU(), down)


@pytest.mark.parametrize("n_layers", range(1, 11))
def test_a5_hat_composed_has_two_to_the_depth_peaks(n_layers):
    net = nn.Sequential(*(hat() for _ in range(n_layers)))
    x = torch.linspace(0, 1, 2**13 + 1, dtype=DOUBLE)[:, None]
    y = net(x).detach().flatten()
    peaks = (y[1:-1] > y[:-2]) & (y[1:-1] > y[2:])
    assert peaks.sum().item() == 2 ** (n_layers - 1)
    assert y[1:-1][peaks].min().item() == 1.0


def test_a6_recentred_positions_shift_no_mean():
    tokens = functional.layer_norm(seeded(100, 64, dtype=torch.float32), (64,))
    positions = sinusoidal(100, 64)
    shift = (tokens + positions).mean(-1).abs().max().item()
    recentred_shift = (tokens + recentred(positions)).mean(-1).abs().max().item()
    assert shift > 0.1
    assert recentred_shift <= 1e-6


def test_a7_loss_ignores_a_shift_of_all_logits_and_stays_finite():
    logits = (seeded(64, 10) * 256).round().float() / 256  # so that adding 1e4 is exact in fp32
    labels = torch.arange(64) % 10
    loss = functional.cross_entropy(logits, labels).item()
    assert torch.exp(logits + 1e4).isinf().all()
    for shift in (1e4, -1e4):
        assert functional.cross_entropy(logits + shift, labels).item() == pytest.approx(loss, rel=1e-6)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype):
            half = functional.linear(logits, 1000 * torch.eye(10))
            computed = functional.cross_entropy(half, labels)
        assert half.dtype == dtype
        assert computed.dtype == torch.float32
        assert computed.item() == functional.cross_entropy(half.float(), labels).item()


# B. The gradient must survive backward


def test_b1_gradient_of_a_chain_is_the_product_of_its_slopes():
    w = torch.tensor(1.3, dtype=DOUBLE, requires_grad=True)
    h, slopes = 0.7 * w, []
    for _ in range(20):
        s = torch.sigmoid(h)
        slopes.append((s * (1 - s)).item())
        h = activation_named("sigmoid")(h)
    h.backward()
    assert abs(w.grad.item()) <= 0.25**20
    assert w.grad.item() == pytest.approx(0.7 * math.prod(slopes), rel=1e-12)
    for n_layers, factor in ((10, 57.7), (20, 3325)):
        net = nn.Sequential(*(nn.Linear(1, 1, bias=False, dtype=DOUBLE) for _ in range(n_layers)))
        for layer in net:
            nn.init.constant_(layer.weight, 1.5)
        x = torch.ones(1, 1, dtype=DOUBLE, requires_grad=True)
        net(x).backward()
        assert x.grad.item() == 1.5**n_layers
        assert x.grad.item() == pytest.approx(factor, rel=1e-3)


def test_b2_gradients_obey_the_bound_and_a_saturated_layer_contracts_though_its_weights_are_large():
    for name, seed in product(ACTIVATIONS, range(5)):
        torch.manual_seed(seed)
        net = mlp([8, 16, 16, 4], name).double()
        x = seeded(32, 8, seed=seed).requires_grad_()
        out = net(x)
        pulled = seeded(*out.shape, seed=seed + 9)
        (gradient,) = torch.autograd.grad(out, x, pulled)
        gains = gradient.norm(dim=1) / pulled.norm(dim=1)
        assert gains.max().item() <= lipschitz_bound(net).total * (1 + EXACT)
    layer = nn.Sequential(nn.Linear(16, 16, dtype=DOUBLE), nn.Tanh())
    initialise(layer, "linear", method="orthogonal", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer[0].weight.mul_(3)
        layer[0].bias.fill_(10)
    jacobian = torch.func.jacrev(layer)(0.1 * seeded(16))
    assert lipschitz_bound(layer).total == pytest.approx(3)
    assert torch.linalg.matrix_norm(jacobian, 2).item() < 1


def test_b3_one_net_explodes_along_one_axis_and_vanishes_along_another():
    n_layers = 6
    net = nn.Sequential(*(nn.Linear(2, 2, bias=False, dtype=DOUBLE) for _ in range(n_layers)))
    for layer in net:
        layer.weight.data = torch.diag(torch.tensor([10.0, 0.1], dtype=DOUBLE))
    grown = net(torch.eye(2, dtype=DOUBLE))
    assert grown[0, 0].item() == pytest.approx(10**n_layers, rel=1e-12)
    assert grown[1, 1].item() == pytest.approx(0.1**n_layers, rel=1e-12)
    said = jacobian_of(net, seeded(1, 2))
    assert said.condition == pytest.approx(100**n_layers, rel=1e-6)


def test_b4_deep_orthogonal_linear_net_is_an_isometry():
    net = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(100)))
    initialise(net, "linear", method="orthogonal", generator=torch.Generator().manual_seed(0))
    jacobian = net(torch.eye(64)).detach().double()
    assert (torch.linalg.svdvals(jacobian) - 1).abs().max().item() < 1e-4


def recurrence_of(net, x, scale=1.0):
    """What the doctor says of the only recurrent layer of a net."""
    with Subject.of(net, x, lambda net, x: (scale * net(x)).square().mean()) as subject:
        (said,) = measure_recurrence(subject)
    return said


class States(nn.RNN):
    def forward(self, x):
        return super().forward(x)[0]


@pytest.mark.parametrize("rho", [0.9, 1.0, 1.1])
def test_b5_spectral_radius_decides_over_two_hundred_steps(rho):
    """States so small that tanh is the identity: h_t = ρ Q h_{t-1} + x_t."""
    n_steps, width, tiny = 200, 16, 1e-12
    net = States(width, width, bias=False, batch_first=True)
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.eye(width))
        orthogonal_(net.weight_hh_l0, rho, generator=torch.Generator().manual_seed(0))
    x = tiny * seeded(4, n_steps + 1, width, dtype=torch.float32)
    said = recurrence_of(net, x, scale=1 / tiny)
    assert said.gates[0].spectral_radius == pytest.approx(rho, rel=1e-4)
    assert said.gates[0].norm == pytest.approx(rho, rel=1e-4)
    assert said.lyapunov == pytest.approx(math.log(rho), abs=1e-5)
    assert said.first_share == pytest.approx(rho**n_steps, rel=1e-3)
    for distance in (1, 10, 100, n_steps):
        assert share_at(said, distance) == pytest.approx(rho**distance, rel=1e-3)


def share_at(said, distance):
    (log10_share,) = [reached.log10_share for reached in said.shares if reached.distance == distance]
    return 10**log10_share


def random_tanh(weight_variance, bias_variance, width=256, n_layers=40):
    """Entered by numbers of the scale to which its layers tend."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, width) for _ in range(n_layers)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=math.sqrt(weight_variance / width))
        nn.init.normal_(layer.bias, std=math.sqrt(bias_variance))
    moment = edge("tanh", weight_variance, bias_variance).second_moment
    x = math.sqrt((moment - bias_variance) / weight_variance) * torch.randn(4, width)
    return nn.Sequential(*(module for layer in layers[:-1] for module in (layer, nn.Tanh())), layers[-1]), x


def test_b6_lyapunov_exponent_changes_sign_at_the_critical_variance():
    bias_variance = 0.05
    at_edge = critical("tanh", bias_variance).weight_variance
    measured = {}
    for factor in (0.7, 1.0, 1.6):
        net, x = random_tanh(factor * at_edge, bias_variance)
        with Subject.of(net, x, lambda net, x: net(x).square().mean()) as subject:
            measured[factor], theory = measure_jacobian(subject).lyapunov, predict(subject)
        chi = edge("tanh", factor * at_edge, bias_variance).chi
        assert theory.edge.chi == pytest.approx(chi, rel=0.05)  # its variances are those of the weights that were drawn
        assert measured[factor] == pytest.approx(math.log(chi) / 2, abs=0.03)
    assert measured[0.7] < -0.05
    assert abs(measured[1.0]) < 0.02
    assert measured[1.6] > 0.05
    assert edge("tanh", at_edge, bias_variance).chi == pytest.approx(1, abs=1e-6)
    orthogonal = nn.Sequential(*(nn.Linear(32, 32, bias=False, dtype=DOUBLE) for _ in range(20)))
    initialise(orthogonal, "linear", method="orthogonal", generator=torch.Generator().manual_seed(0))
    assert jacobian_of(orthogonal, seeded(4, 32)).lyapunov == pytest.approx(0, abs=EXACT)


class Halved(nn.Module):
    def forward(self, x):
        return 0.5 * x


def first_gradient(net, x):
    x = x.clone().requires_grad_()
    net(x).sum().backward()
    return x.grad.norm().item()


def test_b7_residual_gradient_survives_a_thousand_layers_where_the_plain_one_dies():
    n_blocks, width = 1000, 32
    plain = nn.Sequential(*(Halved() for _ in range(n_blocks)))
    residual = nn.Sequential(*(Residual(Halved(), 1 / n_blocks) for _ in range(n_blocks)))
    assert first_gradient(plain, torch.ones(1, 1)) == 0.0
    expected = (1 + 0.5 / n_blocks) ** n_blocks
    assert first_gradient(residual, torch.ones(1, 1)) == pytest.approx(expected, rel=1e-3)
    torch.manual_seed(0)
    layers = [nn.Linear(width, width) for _ in range(n_blocks)]
    for layer in layers:
        initialise(layer, "linear")
    scale = residual_scale(n_blocks)
    net = nn.Sequential(*(Residual(nn.Sequential(layer, nn.Tanh()), scale) for layer in layers))
    x = torch.randn(8, width, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x), x, torch.ones(8, width))
    assert 0.2 < gradient.square().mean().sqrt().item() < 5


def test_b8_closed_gates_are_the_identity_and_open_ones_add_up_to_the_effective_depth():
    torch.manual_seed(0)
    closed = nn.Sequential(*(GatedResidual(mlp([16, 32, 16])) for _ in range(20)))
    x = torch.randn(64, 16)
    assert torch.equal(closed(x), x)
    gates = [0.0, 0.5, 2.0]
    net = nn.Sequential(*(GatedResidual(nn.Identity(), gate) for gate in gates), Residual(Halved(), 0.5))
    depth = effective_depth(net, torch.randn(5, 3))
    expected = [g / (1 + g) for g in [*gates, 0.25]]
    assert list(depth.blocks.values()) == pytest.approx(expected, abs=1e-6)
    assert depth.total == pytest.approx(sum(expected), abs=1e-6)


N_PASSES, STANDARD_ERRORS = 4000, 3


@pytest.mark.parametrize("rescale", ["training", "inference"])
@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_b9_mean_of_training_passes_is_the_inference_output(rescale, keep):
    torch.manual_seed(2)
    block = Residual(StochasticDepth(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), keep, rescale)).double()
    x = torch.randn(1, 6, dtype=DOUBLE)
    with torch.no_grad():
        passes = block.train()(x.expand(N_PASSES, 6))  # each row drops by itself: 4000 passes
        expected = block.eval()(x)[0]
    standard_error = passes.std(dim=0) / math.sqrt(N_PASSES)
    assert ((passes.mean(dim=0) - expected).abs() < STANDARD_ERRORS * standard_error).all()


def test_b10_skips_bring_the_first_layer_its_gradient_at_depth_fifty():
    """Tanh layers at a quarter of the gain that would hold the signal: what follows each other dies."""
    depth, width = 50, 16

    def layer(n_in):
        linear = nn.Linear(n_in, width)
        initialise(linear, "linear", generator=torch.Generator().manual_seed(n_in))
        with torch.no_grad():
            linear.weight.mul_(0.25)
        return nn.Sequential(linear, nn.Tanh())

    def of_first_layer(net, first, x):
        (gradient,) = torch.autograd.grad(net(x).sum(), first.weight)
        return gradient.norm().item()

    x = seeded(8, width, dtype=torch.float32)
    plain = nn.Sequential(*(layer(width) for _ in range(depth)))
    dense = Dense([layer(width * (k + 1)) for k in range(depth)])
    assert of_first_layer(plain, plain[0][0], x) < 1e-20
    assert of_first_layer(dense, dense.layers[0][0], x) > 1

    class Along(nn.Module):
        """A net of features, at every position of [n, width, length]."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.mT).mT

    middle = nn.Sequential(*(layer(width) for _ in range(depth - 2)))
    encode = Along(layer(width))
    unet = UNet(
        [encode], [nn.AvgPool1d(2)], Along(middle), [nn.Upsample(scale_factor=2)], [Along(layer(2 * width))], multiple=2
    )
    assert of_first_layer(unet, encode.net[0], x.T[None]) > 1e-2


def test_b11_an_lstm_carries_a_gradient_over_a_thousand_steps_and_a_tanh_net_does_not():
    n_steps = 1000

    def kept(kind, seed):
        torch.manual_seed(seed)
        net, x = Recurrent(8, 32, kind=kind), torch.randn(1, n_steps, 8, requires_grad=True)
        net(x)[:, -1].sum().backward()
        return (x.grad[0, 0].norm() / x.grad[0, -1].norm()).item()

    for seed in range(3):
        assert kept("lstm", seed) > 1e-3
        assert kept("tanh", seed) < 1e-12
    # A closed output gate still blocks what the cell carries.
    net, x = Recurrent(8, 32), torch.randn(1, 50, 8, requires_grad=True)
    (is_open,) = torch.autograd.grad(net(x)[:, -1].sum(), x)
    with torch.no_grad():
        net.layers[0].onward.bias_ih_l0.chunk(4)[3].fill_(-30.0)
    (is_closed,) = torch.autograd.grad(net(x)[:, -1].sum(), x)
    assert is_closed[0, 0].norm().item() < 1e-10 * is_open[0, 0].norm().item()


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_b12_attention_reaches_over_fifty_thousand_positions_as_to_the_neighbour(kind):
    torch.manual_seed(0)
    n_positions = 50_000
    net = Attention(16, 2, kind)
    x = torch.randn(1, n_positions, 16, requires_grad=True)
    out = net(x[:, -1:], context=x)
    (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out))
    far, near = gradient[0, 0].norm().item(), gradient[0, -2].norm().item()
    assert 0.1 < far / near < 10


@pytest.mark.parametrize("kind", ["dot", "cosine"])
def test_b13_no_gradient_comes_from_the_future(kind):
    torch.manual_seed(0)
    net, x = Attention(8, 2, kind, is_causal=True), torch.randn(2, 12, 8, requires_grad=True)
    for t in range(12):
        (gradient,) = torch.autograd.grad(net(x)[:, t].sum(), x)
        assert gradient[:, t + 1 :].eq(0).all()
        assert gradient[:, : t + 1].abs().sum(-1).min().item() > 0


def test_b14_cosine_attention_ignores_the_size_of_queries_and_keys():
    torch.manual_seed(0)
    cosine, dot, x = Attention(8, 2, "cosine").double(), Attention(8, 2).double(), seeded(3, 12, 8)
    before = cosine(x), dot(x)
    with torch.no_grad():
        for net in (cosine, dot):
            for part in (*net.query.parameters(), *net.key.parameters()):
                part.mul_(1000)
    torch.testing.assert_close(cosine(x), before[0], rtol=EXACT, atol=EXACT)
    assert (dot(x) - before[1]).abs().max().item() > 0.1
    (gradient,) = torch.autograd.grad(cosine(x).square().sum(), cosine.log_temperature)
    assert gradient.abs().min().item() > 0


def test_b15_norms_keep_the_scales_and_clipping_bounds_the_step():
    x = 1000 * seeded(256, 64) + 3
    for norm in (nn.LayerNorm(64), nn.BatchNorm1d(64), nn.RMSNorm(64)):
        assert norm.double()(x).square().mean().item() == pytest.approx(1, rel=1e-3)
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8, dtype=DOUBLE), n_power_iterations=200)
    assert torch.linalg.matrix_norm(spectral.weight, 2).item() == pytest.approx(1, rel=1e-6)
    weights = [nn.Parameter(torch.zeros(5, 4, dtype=DOUBLE)), nn.Parameter(torch.zeros(7, dtype=DOUBLE))]
    for limit in (0.1, 1e6):
        gradients = [seeded(*weight.shape, seed=i) for i, weight in enumerate(weights)]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        nn.utils.clip_grad_norm_(weights, limit)
        before, after = (torch.cat([g.flatten() for g in part]) for part in (gradients, [w.grad for w in weights]))
        assert after.norm().item() <= limit
        assert functional.cosine_similarity(before, after, dim=0).item() == pytest.approx(1, abs=1e-12)
        assert after.norm().item() == pytest.approx(min(limit, before.norm().item()), rel=1e-4)


# E. The same algebra elsewhere


@pytest.mark.parametrize("hk", [0.5, 1.9, 2.1, 3.0])
def test_e5_a_residual_net_diverges_as_the_euler_method_of_its_step_does(hk):
    """y' = -k y in steps of h: y and every error of it are multiplied by 1 - h k."""
    n_steps, h = 60, 0.5
    block = nn.Linear(1, 1, bias=False, dtype=DOUBLE)
    nn.init.constant_(block.weight, -hk / h)
    net = nn.Sequential(*(Residual(block, h) for _ in range(n_steps))).double()
    y, start = 1.0, torch.ones(1, 1, dtype=DOUBLE)
    for _ in range(n_steps):
        y = y - hk * y
    assert net(start).item() == pytest.approx(y, rel=EXACT)
    assert (abs(y) > 1) == (hk > 2)
    read_out = nn.Linear(1, 1, dtype=DOUBLE)
    nn.init.ones_(read_out.weight)
    said = jacobian_of(nn.Sequential(net, read_out), start)
    amplified = abs(1 - hk) ** n_steps
    assert said.largest == said.smallest == pytest.approx(amplified, rel=1e-6)
    assert said.entry_log_gain == pytest.approx(math.log(amplified), rel=1e-6)
    assert (said.growth[-1].layer, said.growth[-1].log_gain) == ("1", pytest.approx(said.entry_log_gain))


def adjoint_of(rnn, x, costate):
    """λ_t = (∂f/∂h)ᵀ λ_{t+1} by hand, for h_t = tanh(W h_{t-1} + U x_t + b).

    Args:
        x: [1, n_steps, n_in]
        costate: h_T -> λ_T
    Returns:
        dJ/dx, dJ/dW and dJ/dU
    """
    w, u, b = rnn.weight_hh_l0, rnn.weight_ih_l0, rnn.bias_hh_l0 + rnn.bias_ih_l0
    h = [torch.zeros(len(w), dtype=DOUBLE)]
    for step in range(x.shape[1]):
        h.append(torch.tanh(w @ h[-1] + u @ x[0, step] + b))
    adjoint = costate(h[-1])
    of_x, of_w, of_u = torch.zeros_like(x), torch.zeros_like(w), torch.zeros_like(u)
    for step in reversed(range(x.shape[1])):
        inner = (1 - h[step + 1] ** 2) * adjoint
        of_x[0, step] = u.T @ inner
        of_w += torch.outer(inner, h[step])
        of_u += torch.outer(inner, x[0, step])
        adjoint = w.T @ inner
    return of_x, of_w, of_u


def test_e6_the_adjoint_of_a_recurrence_is_its_gradient_and_what_the_doctor_measures():
    n_steps, width = 12, 6
    torch.manual_seed(0)
    net = Recurrent(3, width, kind="tanh").double()
    x = seeded(1, n_steps, 3).requires_grad_()
    loss = 0.5 * net(x)[:, -1].square().sum()
    rnn = net.layers[0].onward
    by_autograd = torch.autograd.grad(loss, [x, rnn.weight_hh_l0, rnn.weight_ih_l0])
    with torch.no_grad():
        by_hand = adjoint_of(rnn, x, lambda h: h)  # of |h_T|² / 2
        # The doctor's costate is a random direction, that of the subject's seed.
        norms = adjoint_of(rnn, x, lambda h: seeded(1, width)[0])[0][0].norm(dim=-1)
    for ours, theirs in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=EXACT, atol=EXACT)
    said = recurrence_of(net, x.detach())
    assert [reached.distance for reached in said.shares] == [1, 2, 5, 10, 11]
    for distance in (1, 2, 5, 10, 11):
        assert share_at(said, distance) == pytest.approx((norms[-1 - distance] / norms[-1]).item(), rel=1e-6)
    assert said.lyapunov == pytest.approx((norms[0] / norms[-1]).log().item() / (n_steps - 1), rel=1e-6)
