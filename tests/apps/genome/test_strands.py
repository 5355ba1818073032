"""Predictions of both strands agree exactly, whatever the weights, the trunk, the head and the length."""

from itertools import product

import pytest
import torch
from isometry.attention import Rotary
from isometry_genome import genes
from isometry_genome.convolution import Convolution
from isometry_genome.model import GenomeModel, ModelSettings, turned_outputs
from isometry_genome.strands import PairedRotary, TiedHead, TiedLinear, mirrored, tie, turned
from torch import nn

TOLERANCE = 1e-10
TRUNKS = {
    "attention": {},
    "cosine": {"attention": "cosine", "pool": "centre"},
    "window": {"attention": "cosine", "window": 2, "n_global": 2, "pool": "attention"},
    "lstm": {"trunk": "lstm", "pool": "attention"},
    "conv": {"trunk": "conv"},
    "none": {"trunk": "none", "pool": "centre"},
}
ALL_HEADS = {
    "heads": ("classes", "profile", "segments", "language"),
    "n_classes": 2,
    "swap_classes": (1, 0),
    "n_tracks": 3,
    "swap_tracks": (1, 0, 2),
    "track_means": (1.0, 3.0, 2.0),
    "n_segments": 3,
    "swap_segments": (0, 2, 1),
}
WHOLE, EVEN, ODD, ONE = 64, 70, 83, 1  # bases: whole bins of 16, or an even or odd number of N to fill them


def made(**options):
    torch.manual_seed(0)
    sizes = {"width": 16, "stem": 8, "n_heads": 2, "n_layers": 2, "bin": 16, "resolution": 16}
    settings = ModelSettings(**{**sizes, **ALL_HEADS, **options})
    model = GenomeModel(settings).double().eval()
    with torch.no_grad():  # gates, biases and norms away from where they start
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def windows(length, n=2):
    return torch.rand(n, length, 4, generator=torch.Generator().manual_seed(length), dtype=torch.float64).softmax(-1)


def disagreement(model, x):
    """By head: the largest difference between what the other strand says and what it must say."""
    expected = turned_outputs(model(x), model.settings)
    found = model(turned(x))
    assert all(found[name].shape == expected[name].shape for name in expected)
    return {name: (found[name] - expected[name]).abs().max().item() for name in expected if expected[name].numel()}


@torch.no_grad()
@pytest.mark.parametrize(("strands", "trunk"), [*product(["average", "equivariant"], TRUNKS)])
def test_both_strands_agree_at_every_length(strands, trunk):
    model = made(strands=strands, **TRUNKS[trunk])
    for length in (WHOLE, EVEN, ODD, ONE):
        assert max(disagreement(model, windows(length)).values()) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(("strands", "bin_size", "resolution"), [*product(["average", "equivariant"], [1, 8], [2, 24])])
def test_both_strands_agree_at_every_resolution(strands, bin_size, resolution):
    model = made(strands=strands, bin=bin_size, resolution=resolution)
    for length in (WHOLE, ODD):
        assert max(disagreement(model, windows(length)).values()) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(
    ("strands", "bin_size", "length"), [*product(["average", "equivariant"], [1, 8], [WHOLE, EVEN, ODD])]
)
def test_both_strands_agree_where_each_position_has_its_own_weights(strands, bin_size, length):
    model = made(strands=strands, bin=bin_size, pool="positions", length=length, rank=6, neighbours=4)
    assert max(disagreement(model, windows(length)).values()) < TOLERANCE
    one = made(strands="one", bin=bin_size, pool="positions", length=length, rank=6, neighbours=4)
    assert disagreement(one, windows(length))["classes"] > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("bin_size", [3, 12, 24])
def test_both_strands_agree_where_bins_are_whole_codons(bin_size):
    model = made(strands="equivariant", bin=bin_size, resolution=2 * bin_size)
    for length in (WHOLE, EVEN, ODD, ONE):
        assert max(disagreement(model, windows(length)).values()) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_classes_of_genes_become_those_of_the_other_strand(trunk):
    names = {"heads": ("segments",), "n_segments": len(genes.CLASSES), "swap_segments": genes.ON_OTHER_STRAND}
    model = made(strands="equivariant", bin=12, **names, **TRUNKS[trunk])
    for length in (WHOLE, ODD):
        x = windows(length)
        there, here = model(turned(x))["segments"], model(x)["segments"]
        torch.testing.assert_close(there, here.flip(1)[..., list(genes.ON_OTHER_STRAND)], rtol=0, atol=TOLERANCE)
        assert (there - here.flip(1)).abs().max() > 1e-3


@torch.no_grad()
def test_one_strand_says_something_else_than_the_other():
    assert min(disagreement(made(strands="one"), windows(WHOLE)).values()) > 1e-3


@torch.no_grad()
def test_average_is_the_mean_of_both_strands():
    average = made(strands="average")
    one = made(strands="one")
    x = windows(WHOLE)
    other = turned_outputs(one(turned(x)), one.settings)
    # The means of tracks that are each other's strand are shared by the average alone.
    for name in ("classes", "segments", "language"):
        torch.testing.assert_close(average(x)[name], (one(x)[name] + other[name]) / 2, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("strands", ["average", "equivariant"])
def test_a_window_that_is_its_own_other_strand_has_no_leading_one(strands):
    half = windows(32, 1)
    palindrome = torch.cat([half, turned(half)], 1)
    logits = made(strands=strands)(palindrome)["classes"]
    torch.testing.assert_close(logits[:, 0], logits[:, 1], rtol=0, atol=TOLERANCE)


def test_equivariant_training_reaches_every_weight():
    model = made(strands="equivariant", **TRUNKS["window"]).train()
    sum((out**2).sum() for out in model(windows(WHOLE)).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_tied_layers_commute_with_the_other_strand_and_learn_half_the_weights():
    torch.manual_seed(0)
    whole = nn.Sequential(Convolution(8, 16, 3), nn.LayerNorm(16), nn.Linear(16, 4)).double()
    n_weights = sum(parameter.numel() for parameter in whole.parameters())
    tie(whole)
    assert sum(parameter.numel() for parameter in whole.parameters()) == n_weights // 2
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(whole(turned(x)), turned(whole(x)), rtol=0, atol=TOLERANCE)


def test_tied_weights_are_their_own_mirror_image():
    layer = TiedLinear(6, 4)
    weight = mirrored(layer.weight)
    assert weight.shape == (4, 6)
    assert torch.equal(weight, weight.flip(0, 1))


def test_twin_heads_turn_in_opposite_senses():
    x = torch.randn(1, 4, 7, 6, dtype=torch.float64)
    paired, plain = PairedRotary(6)(x), Rotary(6)(x)
    assert torch.equal(paired[:, :2], plain[:, :2])
    products = paired @ paired.mT
    mirrored_products = PairedRotary(6)(x.flip(1, 2, 3))
    torch.testing.assert_close(mirrored_products @ mirrored_products.mT, products.flip(1, 2, 3), rtol=0, atol=TOLERANCE)


def test_head_swaps_its_outputs_and_keeps_the_size_of_the_signal():
    torch.manual_seed(0)
    head = TiedHead(4096, 3, (1, 0, 2)).double()
    nn.init.normal_(head.weight, std=4096**-0.5)
    x = torch.randn(500, 4096, dtype=torch.float64)
    torch.testing.assert_close(head(x.flip(1)), head(x)[:, [1, 0, 2]], rtol=0, atol=TOLERANCE)
    assert head(x).var(0).tolist() == pytest.approx([1, 1, 1], rel=0.25)


@pytest.mark.parametrize("strands", ["average", "equivariant"])
def test_causal_nets_and_swaps_of_no_pair_are_refused(strands):
    with pytest.raises(ValueError, match="reads the future"):
        made(strands=strands, is_causal=True)
    with pytest.raises(ValueError, match="become one another"):
        made(strands=strands, swap_tracks=(1, 2, 0))
    with pytest.raises(ValueError, match="names 2 outputs; expected 3"):
        made(strands=strands, swap_tracks=(1, 0))
