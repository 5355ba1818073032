"""Attention reads what is there and nothing else; rotary positions depend on distances; the block keeps the signal."""

import math
from itertools import product

import pytest
import torch
from isometry.attention import Attention, Rotary, TransformerBlock, recentred, sinusoidal
from isometry.blocks import residual_scale
from isometry.initialise import initialise
from torch import nn

KINDS = ["dot", "cosine"]
FP32 = 2e-6  # rounding of sums over a few dozen terms
HALF = {torch.bfloat16: 0.05, torch.float16: 0.01}


def sequences(n=3, length=7, width=8, dtype=torch.float64):
    return torch.randn(n, length, width, generator=torch.Generator().manual_seed(0), dtype=dtype)


def made(kind="dot", cls=Attention, **options):
    torch.manual_seed(1)
    return cls(8, 2, kind, position=Rotary(4), **options).double().eval()


def present_up_to(*lengths, length=7):
    return torch.arange(length) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("is_causal", [False, True])
def test_dot_attention_is_torch_multihead_attention(is_causal):
    ours = Attention(8, 2, is_causal=is_causal).double()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.out_proj.weight.copy_(ours.out.weight)
    x, mask = sequences(), torch.ones(7, 7).triu(1).bool() if is_causal else None
    torch.testing.assert_close(ours(x), theirs(x, x, x, attn_mask=mask)[0], rtol=1e-12, atol=1e-12)


def test_cosine_attention_is_softmax_of_cosines_over_temperature():
    net, x = Attention(8, 1, "cosine").double(), sequences()
    cosines = nn.functional.cosine_similarity(net.query(x)[:, :, None], net.key(x)[:, None], dim=-1)
    expected = net.out((cosines / net.log_temperature.exp()[0]).softmax(-1) @ net.value(x))
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


def test_temperature_is_learnt_by_each_head_and_has_a_floor():
    net = Attention(8, 2, "cosine").double()
    net(sequences()).square().sum().backward()
    assert net.log_temperature.shape == (2,)  # one-dimensional: no weight decay
    assert net.log_temperature.grad.abs().min().item() > 0
    nn.init.constant_(net.log_temperature, -50.0)
    coldest = net(sequences())
    nn.init.constant_(net.log_temperature, math.log(0.01))
    torch.testing.assert_close(coldest, net(sequences()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "is_causal", "cls"), [*product(KINDS, [False, True], [Attention, TransformerBlock])])
def test_padding_and_neighbours_in_the_batch_change_nothing(kind, is_causal, cls):
    net, x = made(kind, cls, is_causal=is_causal), sequences()
    x[1, 4:] = math.nan
    out = net(x, present_up_to(7, 4, 1))
    for row, length in enumerate((7, 4, 1)):
        torch.testing.assert_close(out[row, :length], net(x[row : row + 1, :length])[0], rtol=1e-10, atol=1e-10)
        assert out[row, length:].eq(0).all()


@pytest.mark.parametrize(("kind", "is_causal"), [*product(KINDS, [False, True])])
def test_sequence_of_nothing_but_padding_gives_zeros_and_finite_gradients(kind, is_causal):
    net, x = made(kind, is_causal=is_causal), sequences().requires_grad_()
    out = net(x, present_up_to(7, 0, 3))
    assert out[1].eq(0).all()
    out.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[1].eq(0).all()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_positions_before_the_sequence_may_be_padding_too(kind):
    net, x, present = made(kind, is_causal=True), sequences(), ~present_up_to(2, 0, 3)
    out = net(x, present)
    torch.testing.assert_close(out[0, 2:], net(x[:1, 2:])[0], rtol=1e-10, atol=1e-10)


def test_context_is_read_in_place_of_the_sequence():
    net, x = Attention(8, 2).double(), sequences()
    torch.testing.assert_close(net(x[:, 2:4], context=x), net(x)[:, 2:4], rtol=1e-10, atol=1e-10)
    nothing = net(x[:, :2], present_up_to(7, 0, 7), context=x)
    assert nothing[1].eq(0).all()
    assert nothing[0].ne(0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_attention_without_positions_does_not_see_the_order(kind):
    net, x = Attention(8, 2, kind).double(), sequences()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(net(x[:, order]), net(x)[:, order], rtol=1e-10, atol=1e-10)


def test_rotary_products_depend_on_the_distance_only():
    turn, x = Rotary(16), sequences(2, 9, 16)
    key = sequences(2, 9, 16).flip(0)
    near = turn(x) @ turn(key).mT
    far = turn(x, 50_000) @ turn(key, 50_000).mT
    torch.testing.assert_close(near, far, rtol=0, atol=1e-9)
    torch.testing.assert_close(turn(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0)
    assert (turn(x) @ turn(key).mT - x @ key.mT).abs().max().item() > 0.1


def test_stretched_positions_are_those_of_a_longer_sequence():
    turn, stretched, x = Rotary(16), Rotary(16), sequences(2, 9, 16)
    stretched.stretch = 4.0
    longer = torch.zeros(2, 33, 16, dtype=x.dtype)
    longer[:, ::4] = x
    torch.testing.assert_close(stretched(x), turn(longer)[:, ::4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_sharpened_attention_reads_one_of_many_positions_as_it_reads_one_of_few(kind):
    """All positions but one are alike, so odds, the share read of it over that of another, are the product's exp."""
    plain, sharp = made(kind).requires_grad_(False), made(kind, is_sharpened=True).requires_grad_(False)
    plain.position = sharp.position = None
    for n in (16, 1000):
        x = sequences(1, 2, 8)[:, [0] + [1] * (n - 1)]
        odds = [_odds(net, x) for net in (plain, sharp)]
        torch.testing.assert_close(odds[1], odds[0] * math.log(n + 1) / math.log(17), rtol=1e-9, atol=1e-9)


def _odds(net, x):
    """[n_heads] logarithm of how much more the last position reads of the first one than of the second."""
    shares = []
    for at in (0, 1):
        value = torch.zeros(1, 2, x.shape[1], 4, dtype=x.dtype)
        value[:, :, at] = 1
        query, key = net._heads(net.query(x)), net._heads(net.key(x))
        shares.append(net._mixed(query, key, value, None)[0, :, -1, 0])
    return (shares[0] / shares[1]).log()


@pytest.mark.parametrize(("kind", "cls"), [*product(KINDS, [Attention, TransformerBlock])])
def test_forward_products_agree_with_reverse_products(kind, cls):
    net, x = made(kind, cls, is_causal=True), sequences()
    v, u = sequences().flip(0), sequences().flip(1)
    _, along = torch.func.jvp(net, (x,), (v,))
    _, back = torch.func.vjp(net, x)
    assert (u * along).sum().item() == pytest.approx((v * back(u)[0]).sum().item(), rel=1e-10)


@pytest.mark.parametrize(("kind", "dtype"), [*product(KINDS, HALF)])
def test_autocast_stays_near_full_precision(kind, dtype):
    net, x = made(kind).float(), sequences(dtype=torch.float32)
    expected = net(x, present_up_to(7, 3, 5))
    with torch.autocast("cpu", dtype=dtype):
        out = net(x, present_up_to(7, 3, 5))
    assert (out.float() - expected).abs().max().item() < HALF[dtype]


def test_cosine_attention_in_fp16_survives_directions_whose_squares_overflow():
    net, x = Attention(8, 2, "cosine"), sequences(dtype=torch.float32)
    with torch.no_grad():
        net.query.weight.mul_(2000)
    with torch.autocast("cpu", dtype=torch.float16):
        assert net(x).isfinite().all()


def test_sinusoidal_positions_are_the_published_ones():
    encoding = sinusoidal(60, 6).double()
    for k, rate in enumerate((1, 1e4 ** (-1 / 3), 1e4 ** (-2 / 3))):
        assert encoding[50, k].item() == pytest.approx(math.sin(50 * rate), abs=1e-6)
        assert encoding[50, 3 + k].item() == pytest.approx(math.cos(50 * rate), abs=1e-6)
    assert torch.equal(sinusoidal(60, 6)[50:], sinusoidal(10, 6, start=50))
    assert recentred(encoding).mean(-1).abs().max().item() < 1e-15


def test_deep_stack_of_blocks_keeps_the_signal_and_the_gradient():
    torch.manual_seed(0)
    n_blocks, width = 12, 64
    net = nn.Sequential(*(TransformerBlock(width, 4, scale=residual_scale(2 * n_blocks)) for _ in range(n_blocks)))
    x = torch.randn(8, 16, width, requires_grad=True)
    out = net(x)
    (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out))
    assert 1 < out.square().mean().item() < math.e
    assert 0.5 < gradient.square().mean().item() < 2 * math.e


def test_gated_block_starts_as_the_identity_and_dropped_branches_leave_a_sample_alone():
    torch.manual_seed(0)
    x = torch.randn(500, 3, 8)
    assert torch.equal(TransformerBlock(8, 2, is_gated=True)(x), x)
    untouched = (TransformerBlock(8, 2, keep=0.5).train()(x) == x).flatten(1).all(1)
    assert untouched.double().mean().item() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 500))


def test_initialise_gives_the_projections_no_gain_of_an_activation():
    torch.manual_seed(0)
    net = Attention(256, 4)
    report = {line.name: line.std for line in initialise(net, "relu")}
    assert report["query.weight"] == report["out.weight"] == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Attention(6, 4), "width 6 with 4 heads; expected a width that is a multiple"),
        (lambda: Attention(6, 2, "cos"), "kind 'cos'; expected 'dot' or 'cosine'"),
        (lambda: Attention(6, dropout=1.0), "0 <= dropout < 1"),
        (lambda: Attention(6)(torch.ones(3, 6)), r"shape \(3, 6\); expected \[n, length, 6\]"),
        (
            lambda: Attention(6)(torch.ones(1, 3, 6), torch.ones(1, 3)),
            r"`present` is torch.float32 .* expected torch.bool",
        ),
        (lambda: Attention(6, is_causal=True)(torch.ones(1, 3, 6), context=torch.ones(1, 3, 6)), "given a context"),
        (lambda: Rotary(5), "even number of features"),
        (lambda: Attention(12, 2, position=Rotary(4))(torch.ones(1, 3, 12)), "features per head are 6"),
        (lambda: sinusoidal(3, 5), "even width"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
