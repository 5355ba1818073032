"""Dense and U-Net skips: what is read by whom, any length, and a signal of one size from end to end."""

import pytest
import torch
from isometry.skips import Dense, UNet, dense_mlp, unet_1d
from torch import nn


def test_every_dense_layer_reads_the_input_and_all_earlier_outputs():
    torch.manual_seed(0)
    layers = [nn.Linear(3 + 2 * k, 2) for k in range(3)]
    x = torch.randn(5, 3)
    seen = x
    for layer in layers:
        seen = torch.cat([seen, layer(seen)], -1)
    out = Dense(layers)(x)
    assert torch.equal(out, seen)
    assert torch.equal(out[:, :3], x)


def test_dense_features_of_convolutions_lie_along_their_channels():
    net = Dense([nn.Conv1d(3 + 2 * k, 2, 3, padding=1) for k in range(3)], dim=1)
    assert net(torch.randn(2, 3, 11)).shape == (2, 9, 11)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dense_mlp_adds_features_of_unit_second_moment(dropout):
    torch.manual_seed(0)
    out = dense_mlp(128, 128, 6, dropout=dropout)(torch.randn(64, 128))
    for part in out.split(128, -1):
        assert part.square().mean().item() == pytest.approx(1, rel=0.3)


def plain_unet(join="concatenate"):
    width = 1 if join == "add" else 2
    return UNet(
        [nn.Identity(), nn.Identity()],
        [nn.AvgPool1d(2), nn.AvgPool1d(3)],
        nn.Identity(),
        [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=3)],
        [nn.Conv1d(width, 1, 1) for _ in range(2)],
        multiple=6,
        join=join,
    )


@pytest.mark.parametrize("join", ["concatenate", "add"])
@pytest.mark.parametrize("length", [1, 6, 11, 12, 100])
def test_unet_takes_any_length(length, join):
    assert plain_unet(join)(torch.randn(2, 1, length)).shape == (2, 1, length)


def test_filling_up_is_what_zeros_at_the_end_do():
    net, x = plain_unet(), torch.randn(2, 1, 11)
    torch.testing.assert_close(net(x), net(nn.functional.pad(x, (0, 1)))[..., :11], rtol=0, atol=0)


def test_unet_in_two_dimensions_keeps_both():
    net = UNet(
        [nn.Identity()], [nn.AvgPool2d(2)], nn.Identity(), [nn.Upsample(scale_factor=2)], [nn.Identity()], multiple=2
    )
    assert net(torch.randn(2, 3, 7, 10)).shape == (2, 6, 7, 10)


def test_finest_encoding_reaches_its_decoder_untouched():
    net, x = plain_unet(), torch.randn(1, 1, 12)
    with torch.no_grad():
        for decode in net.decode:
            decode.weight.copy_(torch.tensor([0.0, 1.0])[None, :, None])
            decode.bias.zero_()
    assert torch.equal(net(x), x)


@pytest.mark.parametrize("length", [64, 61])
def test_unet_over_sequences_keeps_shape_and_order_of_size(length):
    torch.manual_seed(0)
    net, x = unet_1d([32, 48, 64], n_blocks=2), torch.randn(4, 32, length, requires_grad=True)
    out = net(x)
    assert out.shape == x.shape
    assert 0.3 < out.square().mean().item() < 4
    (gradient,) = torch.autograd.grad(out, x, torch.randn_like(out))
    assert 0.3 < gradient.square().mean().item() < 4


def test_unet_is_differentiable_forwards_and_computes_in_double_and_bf16():
    net, x = unet_1d([4, 6, 8]), torch.randn(2, 4, 13)
    expected = net(x)
    torch.testing.assert_close(net.double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)
    v, u = torch.randn_like(x).double(), torch.randn_like(x).double()
    _, along = torch.func.jvp(net, (x.double(),), (v,))
    (back,) = torch.func.vjp(net, x.double())[1](u)
    assert (u * along).sum().item() == pytest.approx((v * back).sum().item(), rel=1e-9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (net.float()(x).float() - expected).abs().max().item() < 0.1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: unet_1d([4]), "two or more widths"),
        (lambda: unet_1d([4, 8], n_blocks=0), "n_blocks 0; expected"),
        (lambda: unet_1d([4, 8], kernel=4), "an odd kernel"),
        (lambda: dense_mlp(3, 0, 2), "expected positive numbers"),
        (lambda: UNet([nn.Identity()], [], nn.Identity(), [], [], multiple=1), "1 encoders, 0 ways down"),
        (
            lambda: UNet(*[[nn.Identity()]] * 2, nn.Identity(), *[[nn.Identity()]] * 2, multiple=0),
            "the product of the levels' factors",
        ),
        (
            lambda: UNet(
                [nn.Identity()], [nn.AvgPool1d(2)], nn.Identity(), [nn.Identity()], [nn.Identity()], multiple=2
            )(torch.ones(1, 1, 8)),
            r"level 0: the way up gives shape \(1, 1, 4\), the encoder gave \(1, 1, 8\)",
        ),
    ],
)
def test_wrong_requests_are_refused_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
