"""Where attention looks: its weights give back its output, and shares add up."""

import numpy as np
import pytest
import torch
from isometry.window_attention import WindowAttention
from isometry_genome import attention_distances as distances
from isometry_genome.attention_distances import as_rows, attention_weights, by_distance, distance_figure
from isometry_genome.model import GenomeModel, ModelSettings

EXACT = 1e-10  # float64
CODES = torch.from_numpy(1 << np.random.default_rng(0).integers(0, 4, 40 * 4)).to(torch.uint8)


def made(**options):
    torch.manual_seed(0)
    sizes = {"width": 16, "stem": 8, "n_heads": 4, "n_layers": 2, "bin": 4, "is_gated": False, "n_classes": 2}
    return GenomeModel(ModelSettings(**{**sizes, **options})).double().eval()


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "cosine"},
        {"window": 5},
        {"window": 5, "n_global": 3},
        {"window": 5, "n_global": 3, "is_sharpened": True},
        {"attention": "cosine", "is_sharpened": True},
        {"is_causal": True, "heads": ("language",)},
        {"strands": "equivariant", "attention": "cosine"},
        {"strands": "equivariant", "window": 5, "n_global": 2},
    ],
)
def test_weights_give_back_what_attention_says(options, monkeypatch):
    monkeypatch.setattr(distances, "QUERIES_AT_ONCE", 16)
    model = made(**options)
    layer = next(module for module in model.trunk.modules() if isinstance(module, WindowAttention))
    for parameter in layer.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    n = layer.n_global
    x = torch.randn(1, n + 40, 16, dtype=torch.float64)
    weights = torch.cat([own for _, own in attention_weights(layer, x)], 1)
    value = layer.value(x)[0].unflatten(-1, (layer.n_heads, -1)).transpose(0, 1)
    said = layer.out((weights @ value).transpose(0, 1).flatten(1))
    torch.testing.assert_close(said, layer(x)[0, n:], atol=EXACT, rtol=0)
    shares, tokens = by_distance(layer, x)
    np.testing.assert_allclose(shares.sum(1) + tokens, 1, atol=EXACT)
    if layer.window is not None:
        assert not shares[:, layer.window + 1 :].any()


def test_even_attention_falls_with_distance_as_pairs_do():
    model = made(n_layers=1)
    layer = next(module for module in model.trunk.modules() if isinstance(module, WindowAttention))
    with torch.no_grad():
        layer.query.weight.zero_()
        layer.query.bias.zero_()
    found = distances.attention_distances(model, [CODES, CODES.flip(0)])
    apart = np.arange(40)
    expected = np.where(apart == 0, 40, 2 * (40 - apart)) / 40**2
    np.testing.assert_allclose(found.shares, np.broadcast_to(expected, (1, 4, 40)), atol=EXACT)
    (row, *others) = as_rows(found)
    assert row["mean (bp)"] == round(4 * (expected * apart).sum())
    assert len(others) == 3


def test_both_strands_leave_the_layers_apart():
    found = distances.attention_distances(made(strands="average"), [CODES])
    assert found.shares.shape == (2, 4, 40)
    assert len(distance_figure(found).axes[0].get_lines()) == 2 * (4 + 1)


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match="no attention"):
        distances.attention_distances(made(trunk="conv"), [CODES])
