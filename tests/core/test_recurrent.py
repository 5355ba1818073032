"""Recurrent nets read what is there: padding, neighbours and chunks change nothing, in one or both directions."""

import math
from itertools import product

import pytest
import torch
from isometry.initialise import initialise
from isometry.recurrent import Recurrent, turned_round
from torch import nn

KINDS = ["lstm", "gru", "tanh"]
EXACT = {"rtol": 1e-10, "atol": 1e-12}  # sums in another order, float64
HALF = {torch.bfloat16: 0.03, torch.float16: 0.005}

torch.set_num_threads(1)


def made(kind="lstm", **options):
    torch.manual_seed(0)
    return Recurrent(4, 6, 2, kind, **options).double().eval()


def sequences(n=3, length=9, dtype=torch.float64):
    return torch.randn(n, length, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize(("kind", "is_bidirectional"), [*product(KINDS, [False, True])])
def test_padding_and_neighbours_in_the_batch_change_nothing(kind, is_bidirectional):
    net, x = made(kind, is_bidirectional=is_bidirectional, is_normed=True, is_residual=True), sequences()
    x[1, 5:] = math.nan
    x.requires_grad_()
    out = net(x, torch.tensor([9, 5, 1]))
    out.sum().backward()
    assert x.grad.isfinite().all()
    for row, length in enumerate((9, 5, 1)):
        torch.testing.assert_close(out[row, :length], net(x[row : row + 1, :length])[0], **EXACT)
        assert out[row, length:].eq(0).all()
        assert x.grad[row, length:].eq(0).all()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_both_directions_are_torch_packed_sequences(kind):
    ours = Recurrent(4, 6, 1, kind, is_bidirectional=True).double()
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](4, 6, batch_first=True, bidirectional=True).double()
    (layer,) = ours.layers
    theirs.load_state_dict(
        layer.onward.state_dict() | {f"{k}_reverse": v for k, v in layer.backward_net.state_dict().items()}
    )
    x, lengths = sequences(), torch.tensor([9, 5, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(x, lengths), expected, **EXACT)


def test_sequence_of_no_steps_gives_zeros():
    out = made(is_bidirectional=True)(sequences(), torch.tensor([9, 0, 3]))
    assert out[1].eq(0).all()
    assert out[0].ne(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_give_what_the_whole_gives(kind):
    net, x = made(kind, is_normed=True, is_residual=True), sequences()
    state, parts = None, []
    for chunk in x.split(4, dim=1):
        out, state = net.advance(chunk, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), net(x), **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_comes_from_later_steps_of_one_direction(kind):
    x = sequences().requires_grad_()
    (gradient,) = torch.autograd.grad(made(kind)(x)[:, 3].sum(), x)
    assert gradient[:, 4:].eq(0).all()
    assert gradient[:, :4].ne(0).any()


def test_each_sequence_is_turned_round_in_its_place():
    x = torch.arange(8).reshape(2, 4)
    assert turned_round(x, torch.tensor([3, 1])).tolist() == [[2, 1, 0, 3], [4, 5, 6, 7]]
    assert torch.equal(turned_round(x), x.flip(1))


def test_dropout_is_the_same_at_all_steps_and_off_in_evaluation():
    torch.manual_seed(0)
    net = Recurrent(4, 6, dropout=0.5)
    seen = []
    net.layers[0].onward.register_forward_pre_hook(lambda _net, args: seen.append(args[0]))
    x = torch.ones(500, 9, 4)
    net.train()(x)
    assert torch.equal(seen[0], seen[0][:, :1].expand_as(x))
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert seen[0].mean().item() == pytest.approx(1, abs=4 / math.sqrt(2000))
    assert torch.equal(net.eval()(x), net(x))


def test_another_initialisation_keeps_the_memory_asked_for():
    for t_max, above in ((50, math.log(49)), (None, 1.0)):
        net = Recurrent(4, 256, t_max=t_max)
        initialise(nn.Sequential(net), "relu")
        bias = net.layers[0].onward.bias_ih_l0.chunk(4)[1]
        assert 0.9 * above < bias.max().item() <= above


@pytest.mark.parametrize(("kind", "dtype"), [*product(KINDS, [torch.float32, torch.float64])])
def test_forward_products_agree_with_reverse_products(kind, dtype):
    net = made(kind, is_bidirectional=True, is_normed=True).to(dtype)
    x, v = sequences(dtype=dtype), sequences(dtype=dtype).flip(0)
    out, along = torch.func.jvp(net, (x,), (v,))
    u = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    (back,) = torch.func.vjp(net, x)[1](u)
    rel = 1e-10 if dtype == torch.float64 else 1e-3
    assert (u * along).sum().item() == pytest.approx((v * back).sum().item(), rel=rel)
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize(("kind", "dtype"), [*product(KINDS, HALF)])
def test_autocast_stays_near_full_precision(kind, dtype):
    net, x = made(kind, is_bidirectional=True).float(), sequences(dtype=torch.float32)
    expected = net(x, torch.tensor([9, 5, 1]))
    with torch.autocast("cpu", dtype=dtype):
        out = net(x, torch.tensor([9, 5, 1]))
    out.float().sum().backward()
    assert (out.float() - expected).abs().max().item() < HALF[dtype]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Recurrent(4, 6, kind="rnn"), "kind 'rnn'; expected one of lstm, gru, tanh"),
        (lambda: Recurrent(4, 6, 0), "expected positive numbers"),
        (lambda: Recurrent(4, 6, dropout=1.0), "0 <= dropout < 1"),
        (lambda: Recurrent(4, 6)(torch.ones(9, 4)), r"shape \(9, 4\); expected \[n, length ≥ 1, 4\]"),
        (lambda: Recurrent(4, 6)(torch.ones(2, 9, 4), torch.tensor([9.0, 1.0])), "expected 2 whole numbers"),
        (lambda: Recurrent(4, 6)(torch.ones(2, 9, 4), torch.tensor([10, 1])), r"lengths are \[10, 1\]; expected 0 … 9"),
        (lambda: Recurrent(4, 6, is_bidirectional=True).advance(torch.ones(2, 9, 4)), "cannot read on in chunks"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "is_bidirectional"), [*product(KINDS, [False, True])])
@pytest.mark.parametrize("size", [1, 4, 9, 100])
def test_chunks_of_a_whole_sequence_change_nothing_in_either_direction(kind, is_bidirectional, size):
    net, x = made(kind, is_bidirectional=is_bidirectional, is_normed=True, is_residual=True), sequences()
    torch.testing.assert_close(net.read_in_chunks(x, size), net(x), **EXACT)


def test_chunks_of_no_steps_are_refused():
    with pytest.raises(ValueError, match="chunks of 0 steps"):
        made().read_in_chunks(sequences(), 0)
