"""The network takes any length, sees what it should and nothing else, and costs what its length asks for."""

from itertools import product

import pytest
import torch
from isometry_genome.letters import codes_of, one_hot
from isometry_genome.levels import levels_of
from isometry_genome.model import GenomeModel, ModelSettings

TOLERANCE = 1e-10
TRUNKS = ["attention", "lstm", "conv", "none"]
NUMBERS = {"n_classes": 3, "n_tracks": 2, "n_segments": 5}
ALL = ("classes", "profile", "segments", "language")


def made(heads=ALL, is_moved=True, **options):
    torch.manual_seed(0)
    sizes = {"width": 16, "stem": 8, "n_heads": 2, "n_layers": 2, "bin": 16, "resolution": 16}
    model = GenomeModel(ModelSettings(heads=heads, **{**sizes, **NUMBERS, **options})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * is_moved * torch.randn_like(parameter))
    return model


def windows(length, n=2):
    x = torch.rand(n, length, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x / x.sum(-1, keepdim=True)


def difference(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a if a[name].numel())


@torch.no_grad()
@pytest.mark.parametrize(("trunk", "length"), [*product(TRUNKS, [1, 16, 81, 200])])
def test_outputs_have_their_shapes_at_any_length(trunk, length):
    said = made(trunk=trunk)(windows(length))
    assert {name: tuple(out.shape) for name, out in said.items()} == {
        "classes": (2, 3),
        "profile": (2, length // 16, 2),
        "segments": (2, length, 5),
        "language": (2, length, 4),
    }
    assert all(out.isfinite().all() for out in said.values())


@torch.no_grad()
@pytest.mark.parametrize("strands", ["one", "equivariant"])
def test_a_level_changes_how_far_apart_bins_are_and_nothing_else(strands):
    model = made(strands=strands, is_stretched=True)
    whole, one_bin = model(windows(100)), model(windows(16))
    model.set_level(0.25)
    assert difference(model(windows(100)), whole) > 1e-3
    assert difference(model(windows(16)), one_bin) == 0
    model.set_level(1.0)
    assert difference(model(windows(100)), whole) == 0
    plain = made(strands=strands)
    plain.set_level(0.25)
    assert difference(plain(windows(100)), whole) == 0


@torch.no_grad()
@pytest.mark.parametrize(
    ("bin_size", "resolution"), [(1, 1), (2, 2), (8, 1), (8, 2), (128, 16), (32, 32), (32, 1024), (16, 48), (12, 6)]
)
def test_profile_has_one_cell_for_each_whole_stretch_of_the_resolution(bin_size, resolution):
    model = made(("profile",), bin=bin_size, resolution=resolution)
    for length in (100, 2048):
        assert model(windows(length, 1))["profile"].shape == (1, length // resolution, 2)


@torch.no_grad()
def test_coarse_profile_reads_the_mean_of_its_bins():
    fine, coarse = made(("profile",), resolution=16), made(("profile",), resolution=64)
    x, seen = windows(320), []
    fine.heads["profile"].register_forward_pre_hook(lambda _, read: seen.append(read[0]))
    coarse.heads["profile"].register_forward_pre_hook(lambda _, read: seen.append(read[0]))
    fine(x), coarse(x)
    torch.testing.assert_close(seen[1], seen[0].unflatten(1, (5, 4)).mean(2), rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("trunk", "strands"), [("attention", "one"), ("lstm", "one"), ("conv", "average"), ("attention", "equivariant")]
)
def test_what_follows_a_window_changes_nothing(trunk, strands):
    model, x, lengths = made(trunk=trunk, strands=strands), windows(90, 3), torch.tensor([90, 33, 64])
    other = x.clone()
    other[1, 33:], other[2, 64:] = 0.25, float("nan")
    said = model(x, lengths)
    assert difference(said, model(other, lengths)) == 0
    for row, length in enumerate(lengths.tolist()):
        alone = model(x[row : row + 1, :length])
        for name, out in alone.items():
            n_cells = out.shape[1] if name != "classes" else None
            torch.testing.assert_close(said[name][row, :n_cells], out[0], rtol=0, atol=TOLERANCE)
            assert name == "classes" or said[name][row, n_cells:].eq(0).all()


@torch.no_grad()
def test_windows_of_a_batch_do_not_see_one_another():
    model, x = made(), windows(100, 3)
    assert difference({k: v[1:2] for k, v in model(x).items()}, model(x[1:2])) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_what_a_window_lacks_to_whole_bins_is_n(trunk):
    model, x = made(("classes", "segments"), trunk=trunk), windows(70)
    filled = torch.cat([x, torch.full((2, 10, 4), 0.25, dtype=x.dtype)], 1)
    assert difference({k: v[:, :70] for k, v in model(filled).items()}, model(x)) < TOLERANCE


@pytest.mark.parametrize(("trunk", "bin_size"), [*product(TRUNKS, [1, 2, 16])])
def test_no_gradient_reaches_a_base_from_before_it(trunk, bin_size):
    options = {"window": 1} if trunk == "attention" and bin_size == 16 else {}
    model = made(("language", "segments"), trunk=trunk, bin=bin_size, resolution=bin_size, is_causal=True, **options)
    for t in (0, 15, 16, 40):
        x = windows(70).requires_grad_()
        model(x)["language"][:, t].sum().backward()
        assert x.grad[:, t:].eq(0).all()
        assert t == 0 or x.grad[:, t - 1].abs().min().item() > 0
        x.grad = None
        model(x)["segments"][:, t].sum().backward()
        assert x.grad[:, t + 1 :].eq(0).all()


@pytest.mark.parametrize(("trunk", "reaches"), [("attention", True), ("lstm", True), ("conv", False), ("none", False)])
def test_trunks_differ_in_how_far_they_see(trunk, reaches):
    model, x = made(("profile",), trunk=trunk), windows(16 * 60, 1).requires_grad_()
    model(x)["profile"][0, -1].sum().backward()
    assert (x.grad[0, :16].abs().max().item() > 0) == reaches


def test_window_and_global_tokens_bound_and_carry_the_signal():
    for n_global, reaches in ((0, False), (2, True)):
        x = windows(16 * 60, 1).requires_grad_()
        made(("profile",), window=3, n_global=n_global)(x)["profile"][0, -1].sum().backward()
        assert (x.grad[0, :16].abs().max().item() > 0) == reaches


@pytest.mark.parametrize("trunk", TRUNKS)
def test_checkpoints_change_neither_outputs_nor_gradients(trunk):
    x, grads = windows(100), []
    for checkpoints in (False, True):
        model = made(trunk=trunk, checkpoints=checkpoints, dropout=0.3, keep=0.5).train()
        torch.manual_seed(5)
        sum(out.square().sum() for out in model(x).values()).backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=0)


def test_gated_blocks_start_as_nothing_and_all_weights_learn_once_gates_open():
    model, x = made(is_moved=False), windows(96)
    bins = model.stem(x, lambda module, *inputs: module(*inputs))[-1]
    assert torch.equal(model.trunk(bins, lambda module, *inputs: module(*inputs)), bins)
    model = made().train()
    sum(out.square().sum() for out in model(x).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@torch.no_grad()
def test_n_and_an_all_n_window_are_numbers_like_others():
    codes = codes_of(torch.tensor(list(b"NNNNACGTRYKMNNNN" * 4), dtype=torch.uint8).numpy())
    said = made()(one_hot(codes)[None].double())
    nothing = made()(torch.full((1, 64, 4), 0.25, dtype=torch.float64))
    assert all(out.isfinite().all() for out in (*said.values(), *nothing.values()))
    assert difference(said, nothing) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("loss", ["poisson", "negative_binomial", "gaussian"])
def test_profile_starts_at_the_tracks_means_in_their_unit(loss):
    model = made(("profile",), profile_loss=loss, track_means=(2.0, 30.0), track_scales=(1.0, 5.0))
    for parameter in model.heads.parameters():
        parameter.zero_()
    out = model(windows(64))["profile"]
    torch.testing.assert_close(out, torch.tensor([2.0, 30.0]).double().expand_as(out), rtol=1e-6, atol=0)
    model = made(("profile",), profile_loss=loss, track_means=(2.0, 30.0))
    model.heads["profile"].bias.fill_(-20.0)
    assert (model(windows(64))["profile"].min().item() > 0) == (loss != "gaussian")


@torch.no_grad()
def test_the_same_code_takes_two_hundred_bases_and_half_a_million():
    model = made(("profile", "classes"), bin=128, resolution=1024, window=8).float()
    for length in (200, 524_288):
        x = torch.full((1, length, 4), 0.25)
        x[0, :, 0] = 0.5
        assert model(x)["profile"].shape == (1, length // 1024, 2)


def test_levels_run_from_the_finest_that_is_asked_for_to_the_bin():
    assert [level.resolution for level in levels_of(128, 1, 32, 256)] == [1, 4, 8, 16, 32, 64, 128]
    assert [level.resolution for level in levels_of(128, 128, 32, 256)] == [4, 8, 16, 32, 64, 128]
    assert [level.resolution for level in levels_of(8, 2, 32, 256)] == [2, 4, 8]
    assert [level.resolution for level in levels_of(1, 1, 32, 256)] == [1]
    assert [level.resolution for level in levels_of(48, 48, 32, 256)] == [1, 3, 6, 12, 24, 48]
    widths = [level.width for level in levels_of(64, 1, 32, 256)]
    assert widths[0] == 32
    assert widths[-1] == 256
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bin": 20}, "power of 2, or thrice one"),
        ({"bin": 24, "resolution": 8}, "resolution is 8 with bins of 24"),
        ({"resolution": 24}, "resolution is 24 with bins of 16"),
        ({"width": 18, "n_heads": 2}, "multiple of twice the heads"),
        ({"kernel": 4}, "odd number"),
        ({"n_global": 2}, "without a window"),
        ({"is_causal": True, "window": 4, "n_global": 2}, "read the future"),
        ({"heads": ("classes", "classes")}, "each once"),
        ({"n_segments": 0}, "segments has nothing to say"),
        ({"track_means": (1.0,)}, "1 means or scales of tracks; expected 2"),
        ({"strands": "equivariant", "n_heads": 1}, "even numbers"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        made(**options)


def test_wrong_inputs_are_refused_in_one_line():
    with pytest.raises(ValueError, match="length ≥ 1, 4"):
        made()(torch.zeros(2, 4, 100))
    with pytest.raises(ValueError, match="expected 2 of 1 … 50"):
        made()(windows(50), torch.tensor([50, 51]))
