"""Forward: sizes, dead and saturated units, merging inputs, rank, against nets whose answer is known."""

import math
from functools import partial

import pytest
import torch
from isometry.blocks import mlp
from isometry.doctor.forward import measure_forward, share_at_limits
from isometry.doctor.records import by_record, count_records, spread
from isometry.doctor.subject import Subject
from isometry.initialise import initialise
from torch import nn

EXACT = 1e-12
SINGLE = 1e-5  # float32 against a closed form
STANDARD_ERRORS = 3


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def squared(model, batch):
    return model(batch).square().mean()


def forward_of(model, batch, loss=squared):
    with Subject.of(model, batch, loss) as subject:
        return measure_forward(subject)


def rows_of(found):
    return {row.name: row for row in found.rows}


def relu_chain(width, n_layers, variance, generator):
    """Linear and ReLU in turn, a linear layer last: n_layers + 1 weight layers of variance `variance` / fan-in."""
    linear = partial(nn.utils.skip_init, nn.Linear, width, width, bias=False)
    net = nn.Sequential(*(m for _ in range(n_layers) for m in (linear(), nn.ReLU())), linear())
    for layer in net[::2]:
        layer.weight.data.normal_(0, math.sqrt(variance / width), generator=generator)
    return net


@pytest.mark.parametrize("a", [0.9, 1.1])
def test_second_moment_of_a_linear_chain_is_a_power(a):
    net = nn.Sequential(*(nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(51)))
    for layer in net:
        nn.init.constant_(layer.weight, a)
    found = forward_of(net, torch.tensor([[1.0], [-2.0]], dtype=torch.float64))
    assert found.growth == pytest.approx(50 * 2 * math.log(a), rel=EXACT)
    assert found.rows[0].moment_in == pytest.approx(2.5, rel=EXACT)
    assert [row.growth for row in found.rows[1:]] == pytest.approx([2 * math.log(a)] * 50, rel=1e-9)


@pytest.mark.parametrize(("variance", "per_layer"), [(2.0, 0.0), (1.0, -math.log(2))])
def test_relu_nets_scatter_as_hanin_and_nica_say(variance, per_layer):
    """Width 128, 50 layers, one input: ln of the second moment has mean -2.5 L / N and variance 5 L / N beyond He's
    (under Xavier's variance also -L ln 2; -51.4 in base 2). Hanin & Nica 2018, arXiv:1812.05994."""
    width, n_layers, n_nets = 128, 50, 16
    generator = torch.Generator().manual_seed(1)
    logs = []
    for _ in range(n_nets):
        net = relu_chain(width, n_layers, variance, generator)
        logs.append(forward_of(net, torch.randn(1, width, generator=generator), lambda m, b: m(b).mean()).growth)
    sd = math.sqrt(5 * n_layers / width)
    expected = n_layers * per_layer - 2.5 * n_layers / width
    assert torch.tensor(logs).mean().item() == pytest.approx(expected, abs=STANDARD_ERRORS * sd / math.sqrt(n_nets))
    assert torch.tensor(logs).std().item() == pytest.approx(sd, rel=STANDARD_ERRORS / math.sqrt(2 * n_nets))


def test_inputs_merge_in_a_relu_net_and_keep_apart_in_an_orthogonal_one():
    """The arc-cosine map (Cho & Saul 2009) sends correlation 0 to 1/π after one ReLU and to 1 with depth."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator)
    found = forward_of(relu_chain(256, 40, 2.0, generator), x)
    assert abs(found.entry_correlation) < 0.02
    assert found.rows[1].correlation == pytest.approx(1 / math.pi, abs=0.02)
    assert found.rows[-1].correlation > 0.95
    assert found.rows[-1].rank < 1.2
    net = mlp([256] * 20, "linear", method="orthogonal")
    kept = forward_of(net, x)
    assert kept.rows[-1].correlation == pytest.approx(kept.entry_correlation, abs=SINGLE)
    assert kept.rows[-1].rank == pytest.approx(kept.entry_rank, rel=1e-4)


def test_dead_units_are_counted_in_modules_and_between_them():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 1)
            self.first.bias.data.zero_()[:2] = -100.0

        def forward(self, x):
            return self.last(torch.relu(self.first(x)))

    x = torch.randn(64, 4)
    rows = rows_of(forward_of(Functional(), x))
    assert rows["last"].dead_in == pytest.approx(0.25)
    assert rows["first"].dead == 0.0
    module = Functional()
    rows = rows_of(forward_of(nn.Sequential(module.first, nn.ReLU(), module.last), x))
    assert rows["1"].dead == pytest.approx(0.25)


def test_channels_of_a_convolution_are_its_units():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 1))
    net[1].bias.data[0] = -100.0
    rows = rows_of(forward_of(net, torch.randn(64, 1, 8, 8)))
    assert [rows[name].dead for name in "0123"] == [0.0, 0.0, 0.25, 0.25]


def test_a_leaky_unit_never_dies():
    net = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 1))
    nn.init.constant_(net[0].bias, -10.0)
    assert max(row.dead for row in forward_of(net, torch.randn(32, 4)).rows) == 0.0


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Tanh, nn.Hardtanh])
def test_saturation_is_where_the_slope_is_below_a_hundredth(kind):
    z = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None].requires_grad_()
    (slope,) = torch.autograd.grad(kind()(z).sum(), z)
    expected = (slope < 0.01 * slope.max()).double().mean().item()
    net = nn.Sequential(nn.Linear(1, 1, dtype=torch.float64), kind())
    nn.init.ones_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    assert forward_of(net, z.detach()).rows[1].saturated == pytest.approx(expected, abs=1e-3)


def test_saturation_between_layers_is_seen_but_pictures_and_rectified_numbers_are_not():
    class Functional(nn.Module):
        def __init__(self, function, scale):
            super().__init__()
            self.first, self.last, self.function = nn.Linear(8, 64), nn.Linear(64, 1), function
            self.first.weight.data *= scale

        def forward(self, x):
            return self.last(self.function(self.first(x)))

    x = torch.rand(32, 8).round()
    for function in (torch.tanh, torch.sigmoid):
        rows = forward_of(Functional(function, 50.0), x).rows
        assert rows[1].saturated_in > 0.5
        assert rows[0].saturated_in is None
    assert not forward_of(Functional(torch.tanh, 0.1), x).rows[1].saturated_in
    assert share_at_limits(torch.relu(torch.randn(100)).clamp(max=1)) is None


def test_spread_of_known_sets():
    assert spread(torch.eye(5)) == pytest.approx((0.0, 5.0, 1.0))
    assert spread(torch.ones(5, 7)) == pytest.approx((1.0, 1.0, 0.2))
    assert spread(torch.tensor([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx((-1.0, 1.0, 0.5))
    assert spread(torch.tensor([[1.0, 0.0], [0.0, 0.0], [math.nan, 1.0]])) == (None, None, None)


def test_records_are_found_along_either_dimension():
    batch = {"x": torch.zeros(7, 5, 3), "y": torch.zeros(5)}
    assert count_records(batch) == 5
    assert by_record(torch.zeros(7, 5, 3), 5).shape == (5, 21)
    assert by_record(torch.zeros(5, 7, 3), 5).shape == (5, 21)
    assert by_record(torch.zeros(40, 3), 5).shape == (40, 3)
    assert by_record(torch.zeros(3, dtype=torch.complex64), None).shape == (3, 2)
    rows, columns = by_record(torch.zeros(500, 16, 64, 64), 500).shape
    assert rows <= 64
    assert columns <= 1024


def test_component_normalised_irreps_have_unit_second_moment():
    o3 = pytest.importorskip("e3nn.o3")
    torch.manual_seed(0)
    irreps = o3.Irreps("64x0e + 64x1o + 32x2e")
    net = o3.Linear(irreps, irreps)
    (row,) = forward_of(net, irreps.randn(256, -1)).rows
    assert set(row.per_irrep) == {"0e", "1o", "2e"}
    assert list(row.per_irrep.values()) == pytest.approx([1.0] * 3, abs=0.15)
    assert row.has_weight


def test_dropout_counts_as_in_training():
    net = nn.Sequential(nn.Linear(512, 512), nn.Dropout(0.5))
    initialise(net, "linear")
    rows = forward_of(net, torch.randn(64, 512)).rows
    assert rows[1].moment / rows[0].moment == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan, 1e30, 1e-30])
def test_broken_nets_are_described(value):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    nn.init.constant_(net[2].weight, value)
    found = forward_of(net, torch.randn(8, 4), lambda m, b: torch.nan_to_num(m(b)).mean())
    assert found.rows[0].non_finite == 0
    assert math.isfinite(found.rows[0].moment)
    assert (found.rows[2].non_finite > 0) == (not math.isfinite(value))
    assert found.growth is not None or found.reason


def test_recurrent_attentive_and_embedding_nets_are_described():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Embedding(9, 8), nn.LSTM(8, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, tokens):
            return self.head(self.lstm(self.embed(tokens))[0][-1])

    found = forward_of(Recurrent(), torch.randint(0, 9, (5, 6)))
    assert [row.name for row in found.rows] == ["embed", "lstm", "head"]
    assert found.rows[0].moment_in is None
    assert found.entry_correlation is not None
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    found = forward_of(encoder, torch.randn(4, 5, 8))
    assert all(math.isfinite(row.moment) for row in found.rows)
    assert all(-1 <= row.correlation <= 1 + EXACT for row in found.rows)


def test_complex_signals_count_by_their_size():
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.turn = nn.Linear(3, 3, bias=False, dtype=torch.complex64)

        def forward(self, x):
            return self.turn(x).abs()

    net = Waves()
    net.turn.weight.data.copy_(2j * torch.eye(3))
    x = torch.randn(8, 3, dtype=torch.complex64)
    (row,) = forward_of(net, x).rows
    assert row.moment == pytest.approx(4 * x.abs().square().mean().item(), rel=SINGLE)
    assert row.correlation == pytest.approx(spread(by_record(x, 8)).correlation, abs=SINGLE)
