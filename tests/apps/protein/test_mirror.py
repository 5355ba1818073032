"""A net turned round reads a turned sequence as the first one reads the sequence; an untrained one knows nothing."""

import copy
import math

import numpy as np
import pytest
import torch
from isometry_data.protein_records import ProteinRecord
from isometry_protein.dataset import ProteinDataset, collate
from isometry_protein.objective import LossSettings, objective_of
from isometry_protein.predict import predictions
from isometry_protein.simulate import simulated

EXACT = 1e-9  # of the outputs' size, float64
HEADS = ("ss", "rsa", "disorder")
SEQUENCES = ("MKTAYIAKQRQISFVKSHFSRQ", "W", "GAVLIXCUMK", "P" * 31)


def swapped(x, axis=-1):
    """The halves of both directions in the other order."""
    return torch.cat(list(x.chunk(2, axis))[::-1], axis)


def turned(model):
    """The same network with its directions exchanged, and its convolution from right to left."""
    other = copy.deepcopy(model)
    net, width = other.recurrent, other.recurrent.n_out
    with torch.no_grad():
        if other.stem is not None:
            other.stem.weight.copy_(other.stem.weight.flip(-1))
        if hasattr(net.entry, "weight"):
            net.entry.weight.copy_(swapped(net.entry.weight, 0))
            net.entry.bias.copy_(swapped(net.entry.bias, 0))
        for layer in net.layers:
            layer.onward, layer.backward_net = layer.backward_net, layer.onward
            for direction in (layer.onward, layer.backward_net):
                if direction.input_size == width:
                    direction.weight_ih_l0.copy_(swapped(direction.weight_ih_l0))
        norms = [m for m in other.modules() if isinstance(m, torch.nn.LayerNorm) and m.normalized_shape == (width,)]
        for norm in norms:
            norm.weight.copy_(swapped(norm.weight))
            norm.bias.copy_(swapped(norm.bias))
        for head in other.heads.values():
            head.weight.copy_(swapped(head.weight))
    return other


def said(model, sequences):
    records = [ProteinRecord(name=str(i), sequence=s, source="test") for i, s in enumerate(sequences)]
    return predictions(model, records)


@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
@pytest.mark.parametrize("stem", [0, 4])
def test_mirrored_weights_read_mirrored_sequences(make_model, kind, stem):
    model = make_model(heads=HEADS, kind=kind, stem=stem, n_layers=3)
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-1, 1)
    forward, backward = said(model, SEQUENCES), said(turned(model), [s[::-1] for s in SEQUENCES])
    for one, other in zip(forward, backward, strict=True):
        for name in ("three", "eight", "accessibility", "disorder"):
            np.testing.assert_allclose(getattr(other, name)[::-1], getattr(one, name), rtol=EXACT)
    (same,) = said(model, SEQUENCES[:1])
    (not_same,) = said(turned(model), SEQUENCES[:1])
    assert np.abs(same.three - not_same.three).max() > 1e-3, "the test would notice"


@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_an_untrained_language_head_knows_no_residue(make_model, is_bidirectional):
    """Logits of unit variance cost half a nat more than a uniform guess: E ln Σ exp(z) = ln 20 + 1/2."""
    model = make_model(
        heads=("language",), width=48, embedding=24, stem=0, n_layers=1, is_bidirectional=is_bidirectional
    ).float()
    proteins = ProteinDataset(simulated(30, 0), hidden=0.15)
    batch = collate([proteins[i] for i in range(30)])
    with torch.no_grad():
        fresh = objective_of(LossSettings(language=1.0), model.settings).loss(model, batch).each.mean()
        model.heads["language"].weight.zero_()
        uniform = objective_of(LossSettings(language=1.0), model.settings).loss(model, batch).each.mean()
    assert float(uniform) == pytest.approx(math.log(20), abs=1e-5)
    assert float(fresh) == pytest.approx(math.log(20) + 0.5, abs=0.2)
