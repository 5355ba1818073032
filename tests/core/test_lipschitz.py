"""Certified slopes: every layer's norm against its dense matrix, every bound against measured slopes; the attack."""

import copy
import math

import pytest
import torch
from isometry.attack import fast_gradient_sign, robustness
from isometry.blocks import GatedResidual, PreNorm, Residual, StochasticDepth, mlp
from isometry.initialise import Projection, initialise
from isometry.lipschitz import certify, lipschitz_bound, operator_norm, spectrally_normalised
from torch import nn

ROUNDING = 1 + 1e-9  # float64
BETWEEN_SAMPLES = 1.005  # how far a convolution's bound may lie above its norm, per dimension

LAYERS = [
    (nn.Linear(7, 5), (7,)),
    (nn.Conv1d(3, 4, 5, padding=2), (3, 60)),
    (nn.Conv1d(3, 4, 4), (3, 60)),
    (nn.Conv1d(4, 6, 3, dilation=3, groups=2), (4, 80)),
    (nn.Conv1d(3, 4, 1), (3, 5)),
    (nn.Conv2d(2, 3, 3, padding=1), (2, 14, 14)),
    (nn.ConvTranspose1d(3, 4, 5), (3, 60)),
    (nn.Conv1d(3, 4, 4, stride=2), (3, 40)),
    (nn.ConvTranspose2d(2, 2, (2, 3), stride=2, output_padding=1, dilation=2, groups=2), (2, 6, 6)),
]


def names(value):
    return f"{type(value).__name__}{getattr(value, 'kernel_size', '')}" if isinstance(value, nn.Module) else ""


def matrix(layer, shape):
    """The linear map as a dense matrix, column by column."""
    unit = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    return (layer(unit) - layer(torch.zeros_like(unit))).flatten(1).T


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=names)
def test_norm_of_a_layer_is_at_least_that_of_its_matrix_and_hardly_more(layer, shape):
    torch.manual_seed(0)
    layer = copy.deepcopy(layer).double()
    initialise(layer, "linear")
    measured, bound = torch.linalg.matrix_norm(matrix(layer, shape), 2).item(), operator_norm(layer)
    assert measured <= bound * ROUNDING
    if max(getattr(layer, "stride", (1,))) == 1:
        assert bound < measured * 1.03  # what a finite length lacks of an endless one, and the samples
    if isinstance(layer, nn.Linear):
        assert bound == pytest.approx(measured, rel=1e-12)


def test_norm_of_a_sum_over_positions_is_known():
    conv = nn.Conv1d(1, 1, 5, bias=False).double()
    nn.init.ones_(conv.weight)
    assert 5 <= operator_norm(conv) <= 5 * BETWEEN_SAMPLES
    plane = nn.Conv2d(1, 1, 3, bias=False).double()
    nn.init.ones_(plane.weight)
    assert 9 <= operator_norm(plane) <= 9 * BETWEEN_SAMPLES**2


@pytest.mark.parametrize("kernel", [2, 3, 6, 9])
def test_norm_holds_between_the_frequencies_it_was_sampled_at(kernel):
    conv, position = nn.Conv1d(1, 1, kernel, bias=False).double(), torch.arange(kernel, dtype=torch.float64)
    for peak in torch.linspace(0, math.pi, 97, dtype=torch.float64):
        with torch.no_grad():
            conv.weight.copy_((peak * (position - (kernel - 1) / 2)).cos()[None, None])
        frequencies = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
        response = torch.exp(-1j * frequencies[:, None] * position) @ conv.weight[0, 0].to(torch.complex128)
        norm = response.abs().max().item()
        assert norm <= operator_norm(conv) <= norm * BETWEEN_SAMPLES


def measured_slope(net, shape, n_pairs=300):
    """The steepest among random pairs, near pairs, and the norm of the Jacobian at a few points."""
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(n_pairs, *shape, generator=generator, dtype=torch.float64) for _ in range(2))
    y[: n_pairs // 2] = x[: n_pairs // 2] + 1e-5 * y[: n_pairs // 2]
    with torch.no_grad():
        slopes = (net(x) - net(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    flat = [torch.func.jacrev(lambda z: net(z[None])[0])(z).reshape(-1, z.numel()) for z in 0.1 * x[:5]]
    return max(slopes.max().item(), *(torch.linalg.matrix_norm(j, 2).item() for j in flat))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "silu", "mish", "selu", "sigmoid", "leaky_relu"])
def test_no_measured_slope_is_above_the_bound(activation):
    torch.manual_seed(0)
    net = mlp([6, 12, 12, 4], activation).double().eval()
    assert measured_slope(net, (6,)) <= lipschitz_bound(net).total * ROUNDING


def test_bound_goes_through_blocks_and_counts_a_shared_layer_twice():
    linear = Projection(3, 3, bias=False).double()
    with torch.no_grad():
        linear.weight.copy_(2 * torch.eye(3))
    net = nn.Sequential(
        linear,
        nn.ReLU(),
        linear,
        Residual(nn.Sequential(linear, nn.Tanh()), 0.5),
        GatedResidual(linear, -0.25),
        StochasticDepth(linear, 0.5, "inference"),
        nn.Dropout(0.5),
        nn.PReLU(init=3.0),
    )
    bound = lipschitz_bound(net)
    assert bound.total == pytest.approx(2 * 2 * (1 + 0.5 * 2) * (1 + 0.25 * 2) * (0.5 * 2) * 3)
    assert bound.layers["3.branch.0"] == pytest.approx(2)
    assert lipschitz_bound(nn.Sequential(nn.Linear(2, 2), nn.Sequential())).total > 0


def test_batch_norm_in_evaluation_is_bounded_by_its_scales():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        net[1].weight.uniform_(-3, 3)
    net(0.3 * torch.randn(64, 5, dtype=torch.float64))
    assert measured_slope(net.eval(), (5,)) <= lipschitz_bound(net).total * ROUNDING


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=names)
def test_normalised_layer_has_the_norm_asked_for(layer, shape):
    torch.manual_seed(0)
    net = spectrally_normalised(nn.Sequential(copy.deepcopy(layer).double()), 0.7).eval()
    assert certify(net).total == pytest.approx(0.7, rel=1e-9)
    assert torch.linalg.matrix_norm(matrix(net, shape), 2).item() <= 0.7 * ROUNDING


def small_conv_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(2, 6, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(60, 2),
    )
    initialise(net, "relu")
    return spectrally_normalised(net)


def test_norm_is_followed_in_training_and_certified_after_it():
    net = small_conv_net()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    x, y = torch.randn(32, 2, 10), torch.randint(2, (32,))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert lipschitz_bound(net).total == pytest.approx(1, rel=0.05)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert certify(net).total == pytest.approx(1, rel=1e-5)


def test_gradient_through_the_norm_is_right():
    net = small_conv_net().double().eval()
    certify(net)
    x = torch.randn(4, 2, 10, dtype=torch.float64)
    original = net[0].parametrizations.weight.original
    step = torch.randn_like(original)
    (gradient,) = torch.autograd.grad(net(x).square().sum(), original)

    def at(h):
        with torch.no_grad():
            original.add_(h * step)
            certify(net)
            value = net(x).square().sum().item()
            original.sub_(h * step)
        return value

    assert (gradient * step).sum().item() == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_normalised_net_runs_under_autocast_and_survives_copy_and_state(dtype):
    net, x = small_conv_net(), torch.randn(3, 2, 10)
    with torch.autocast("cpu", dtype=dtype):
        net(x).float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    other = small_conv_net()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(x), copy.deepcopy(net).eval()(x))


def test_attack_moves_every_input_by_epsilon_uphill_and_nothing_else():
    net = nn.Sequential(nn.Linear(3, 1), nn.Dropout(0.5)).train()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, -2.0, 0.0]]))
    batch = {"x": torch.randn(5, 3), "label": torch.randn(5, 1), "n": 3}
    state = torch.random.get_rng_state()
    loss = lambda model, batch: (model(batch["x"]) - 0 * batch["label"]).sum()  # noqa: E731
    pushed = fast_gradient_sign(net, batch, loss, 0.1, paths=[("x",)])
    torch.testing.assert_close(pushed["x"] - batch["x"], torch.tensor([0.1, -0.1, 0.0]).expand(5, 3))
    assert torch.equal(pushed["label"], batch["label"])
    assert net.training
    assert net[0].weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), state)


def test_robustness_never_moves_the_labels_and_counts_flips():
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    x = torch.tensor([[-0.05], [0.15], [0.25], [0.9]])
    batch = {"x": x, "label": (x > 0).float()}

    def loss(model, batch):
        return nn.functional.binary_cross_entropy_with_logits(model(batch["x"]), batch["label"])

    rows = robustness(net, batch, loss, [0.1, 0.2, 0.0, 1.0], outputs=lambda model, batch: model(batch["x"]))
    assert [row.epsilon for row in rows] == [0, 0.1, 0.2, 1.0]
    assert [row.flipped for row in rows] == [0, 0.25, 0.5, 1.0]
    assert [row.loss for row in rows] == sorted(row.loss for row in rows)
    dropped = nn.Sequential(net, nn.Dropout(0.5)).train()
    (clean, pushed) = robustness(dropped, x, lambda model, x: model(x).sum(), [0.1], is_classifier=False)
    assert pushed.flipped is None
    assert clean.loss == pytest.approx(x.sum().item())
    assert dropped.training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: lipschitz_bound(nn.Sequential(nn.Linear(2, 2), PreNorm(nn.Identity(), nn.LayerNorm(2)))),
            r"'1' \(PreNorm\)",
        ),
        (lambda: lipschitz_bound(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2))), r"'1' \(LSTM\) is unknown"),
        (lambda: operator_norm(nn.ReLU()), "is a ReLU; expected a linear or convolution layer"),
        (lambda: operator_norm(nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect")), "pads by 'reflect'"),
        (lambda: spectrally_normalised(nn.Linear(2, 2), 0.0), "bound is 0.0; expected a positive number"),
        (lambda: spectrally_normalised(nn.ReLU()), "holds no linear or convolution layer"),
        (lambda: fast_gradient_sign(nn.ReLU(), torch.ones(2), lambda m, x: m(x).sum(), -1.0), "epsilon is -1.0"),
        (
            lambda: fast_gradient_sign(nn.Embedding(3, 2), torch.ones(2).long(), lambda m, x: m(x).sum(), 0.1),
            "nothing to",
        ),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_descendants_with_a_mind_of_their_own_are_not_certified():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    with pytest.raises(ValueError, match=r"\(Doubled\) is unknown"):
        lipschitz_bound(nn.Sequential(Doubled(2, 2)))
