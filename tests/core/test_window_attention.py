"""Window attention is dense attention under a band mask, reads no further, and never makes that mask."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from isometry.attention import Attention, Rotary, TransformerBlock
from isometry.window_attention import GlobalTokens, WindowAttention
from torch.utils._python_dispatch import TorchDispatchMode

FP32 = 1e-5
FP64 = 1e-10
LENGTHS = [1, 64, 130, 333]  # blocks of 64: one or several, whole or not
FORMS = [*product(["dot", "cosine"], [False, True], [0, 3], [False, True])]  # kind, rotary, n_global, is_causal


def made(kind="dot", window=7, n_global=0, is_causal=False, has_position=True, dtype=torch.float64):
    torch.manual_seed(1)
    position = Rotary(4) if has_position else None
    net = WindowAttention(8, 2, kind, window=window, n_global=n_global, is_causal=is_causal, position=position)
    return net.to(dtype).eval()


def sequences(length, n=2, dtype=torch.float64):
    return torch.randn(n, length, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)


def gaps(length, n=2):
    """Something missing here and there, and one sequence that ends at half its length."""
    present = torch.rand(n, length, generator=torch.Generator().manual_seed(2)) < 0.7
    present[-1] = torch.arange(length) < length // 2
    return present


def dense(net, x, present=None):
    """The same by a softmax over all pairs under a mask."""
    n = net.n_global
    x = x if present is None else x.masked_fill(~present[..., None], 0)
    query, key, value = net._heads(net.query(x)), net._heads(net.key(x)), net._heads(net.value(x))

    def logits(query, key):
        if net.kind == "cosine":
            normal = partial(torch.nn.functional.normalize, dim=-1)
            return normal(query) @ normal(key).mT / net.log_temperature.exp()[:, None, None]
        return query @ key.mT / math.sqrt(query.shape[-1])

    scores = logits(query, key)
    if net.position is not None:
        near = logits(net.position(query[:, :, n:]), net.position(key[:, :, n:]))
        top = torch.cat([scores[:, :, n:, :n], near], -1)
        scores = torch.cat([scores[:, :, :n], top], 2)
    t = torch.arange(x.shape[1])
    ahead = t - t[:, None]
    seen = (ahead.abs() <= net.window) & ((ahead <= 0) | (not net.is_causal)) | (t < n) | (t[:, None] < n)
    if present is not None:
        seen = seen & present[:, None, None, :]
    seen = seen | ~seen.any(-1, keepdim=True)
    mixed = scores.masked_fill(~seen, -math.inf).softmax(-1) @ value
    out = net.out(mixed.transpose(1, 2).flatten(2))
    return out if present is None else out.masked_fill(~present[..., None], 0)


@pytest.mark.parametrize(("kind", "has_position", "n_global", "is_causal"), FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, FP32), (torch.float64, FP64)])
def test_blocks_give_what_a_dense_band_mask_gives(kind, has_position, n_global, is_causal, dtype, tolerance):
    if n_global and is_causal:
        with pytest.raises(ValueError, match="read the future"):
            made(kind, 7, n_global, is_causal)
        return
    for length, window in product(LENGTHS, [1, 7, 100]):
        net = made(kind, window, n_global, is_causal, has_position, dtype)
        x = sequences(n_global + length, dtype=dtype)
        for present in (None, gaps(n_global + length)):
            torch.testing.assert_close(net(x, present), dense(net, x, present), rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_global", [0, 3])
def test_gradients_are_those_of_the_dense_form(n_global):
    net, x = made("cosine", 20, n_global), sequences(n_global + 330).requires_grad_()
    ours = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()])
    theirs = torch.autograd.grad(dense(net, x).square().sum(), [x, *net.parameters()])
    torch.testing.assert_close(ours, theirs, rtol=FP64, atol=FP64)


@pytest.mark.parametrize("is_causal", [False, True])
def test_window_as_wide_as_the_sequence_is_full_attention(is_causal):
    net, x = made(window=400, is_causal=is_causal), sequences(130)
    full = Attention(8, 2, is_causal=is_causal, position=Rotary(4)).double()
    full.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x), full(x), rtol=FP64, atol=FP64)
    endless = made(window=None, is_causal=is_causal)
    torch.testing.assert_close(endless(x), full(x), rtol=FP64, atol=FP64)


def blocks(n_layers, window, n_global=0, is_causal=False):
    torch.manual_seed(1)
    attention = partial(WindowAttention, window=window, n_global=n_global)
    options = {"is_causal": is_causal, "position": Rotary(4), "attention": attention}
    return torch.nn.Sequential(*(TransformerBlock(8, 2, **options) for _ in range(n_layers))).double()


@pytest.mark.parametrize(("window", "is_causal"), [(5, False), (5, True), (80, False)])
def test_gradient_is_exactly_zero_beyond_layers_times_window(window, is_causal):
    net, x = blocks(2, window, is_causal=is_causal), sequences(400, 1).requires_grad_()
    t, reach = 200, 2 * window
    net(x)[0, t].sum().backward()
    grad = x.grad[0].abs().sum(-1)
    last = t if is_causal else t + reach
    assert grad[: t - reach].eq(0).all()
    assert grad[last + 1 :].eq(0).all()
    assert grad[t - reach : last + 1].gt(0).all()


def test_global_tokens_carry_a_signal_from_end_to_end():
    tokens, net, x = GlobalTokens(2, 8).double(), blocks(2, 5, n_global=2), sequences(400, 1).requires_grad_()
    out = net(tokens(x))
    assert out.shape == (1, 402, 8)
    out[0, -1].sum().backward()
    assert x.grad[0, 0].abs().sum().item() > 0
    assert tokens.tokens.grad.abs().min().item() > 0


@pytest.mark.parametrize("n_global", [0, 2])
def test_what_stands_at_absent_positions_changes_nothing(n_global):
    net, x, present = made(window=9, n_global=n_global), sequences(200), gaps(200)
    present[:, :n_global] = True
    other = x.masked_fill(~present[..., None], math.nan)
    torch.testing.assert_close(net(other, present), net(x, present), rtol=0, atol=0)
    assert net(other, present)[~present].eq(0).all()


def test_products_depend_on_distances_only():
    net, x = made(window=6), sequences(300, 1)
    torch.testing.assert_close(net(x)[:, 50:290], net(x[:, 40:])[:, 10:250], rtol=FP64, atol=FP64)


def test_forward_products_agree_with_reverse_products():
    net, x = made("cosine", 6, 2), sequences(140, 1)
    v, u = sequences(140, 2)[1:], sequences(140, 3)[2:]
    _, along = torch.func.jvp(net, (x,), (v,))
    _, back = torch.func.vjp(net, x)
    assert (u * along).sum().item() == pytest.approx((v * back(u)[0]).sum().item(), rel=1e-10)


class LargestTensor(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.size = max(self.size, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("n_global", [0, 2])
def test_no_tensor_grows_faster_than_the_length(n_global):
    net, sizes = made(window=16, n_global=n_global, dtype=torch.float32), []
    for length in (1024, 4096):
        x = sequences(n_global + length, 1, torch.float32).requires_grad_()
        with LargestTensor() as largest:
            net(x).sum().backward()
        sizes.append(largest.size)
    assert sizes[1] < 4.2 * sizes[0]


def test_wrong_settings_are_refused_in_one_line():
    with pytest.raises(ValueError, match="window 0"):
        WindowAttention(8, 2, window=0)
    with pytest.raises(ValueError, match="without a window"):
        WindowAttention(8, 2, window=None, n_global=2)
    with pytest.raises(ValueError, match="one of each"):
        GlobalTokens(0, 8)
    net = made(n_global=3)
    with pytest.raises(ValueError, match="got a context"):
        net(sequences(9), context=sequences(9))
    with pytest.raises(ValueError, match="3 of them global"):
        net(sequences(3))
