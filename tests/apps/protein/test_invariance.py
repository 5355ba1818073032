"""What a protein's prediction does not depend on: padding, company, order, chunks; and what it does: its letters."""

import numpy as np
import pytest
import torch
from isometry.doctor.recurrence import measure_recurrence
from isometry.doctor.subject import Subject
from isometry.symmetry import violation
from isometry_data.protein_records import ProteinRecord
from isometry_protein import model as model_module
from isometry_protein import predict as predict_module
from isometry_protein.dataset import ProteinDataset, collate
from isometry_protein.letters import N_AMINO_ACIDS, UNKNOWN, letters_of
from isometry_protein.objective import LossSettings, objective_of
from isometry_protein.predict import predictions
from isometry_protein.simulate import simulated
from isometry_protein.symmetries import symmetries

EXACT = 1e-9  # of the outputs' size, float64
HEARD, LOST = 1e-3, 1e-12  # of the gradient at a recurrent layer's last residue
DECLARED = {symmetry.name: symmetry for symmetry in symmetries(None)}
HEADS = ("ss", "rsa", "disorder", "regression", "classes", "language")
NETS = {
    "lstm": {},
    "gru": {"kind": "gru"},
    "tanh": {"kind": "tanh"},
    "convolution": {"kind": "none"},
    "dilated": {"kind": "conv", "n_layers": 2},
    "one way": {"is_bidirectional": False, "stem": 0},
    "dilated one way": {"kind": "conv", "is_bidirectional": False, "stem": 0},
}


def record(sequence, name="p"):
    return ProteinRecord(name=name, sequence=sequence, source="test")


def three(model, *sequences):
    return [found.three for found in predictions(model, [record(s, str(i)) for i, s in enumerate(sequences)])]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", DECLARED)
def test_declared_symmetries_hold(name, net, make_model, make_batch):
    found = violation(DECLARED[name], make_model(heads=HEADS, **NETS[net]), make_batch(11, 30, 3))
    assert set(found) == set(HEADS)
    assert max(found.values()) < EXACT


@pytest.mark.parametrize("name", DECLARED)
def test_a_net_without_masks_is_seen_broken(name, make_model, make_batch):
    model = make_model(heads=HEADS)
    whole = model.encode
    model.encode = lambda letters, lengths: (
        whole(letters, torch.full_like(lengths, letters.shape[1]))
        + (torch.arange(len(letters))[:, None, None] if name == "order of the batch" else 0)
    )
    assert max(violation(DECLARED[name], model, make_batch(11, 30, 3)).values()) > DECLARED[name].tolerance


def test_predictions_come_in_the_order_of_the_input(make_model, monkeypatch):
    monkeypatch.setattr(predict_module, "RESIDUES_AT_ONCE", 60)
    model, sequences = make_model(), ["MKV", "A" * 70, "GG", "W" * 25, "MKV", "P"]
    together, apart = three(model, *sequences), [three(model, s)[0] for s in sequences]
    assert [len(found) for found in together] == [len(s) for s in sequences]
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=EXACT)


@pytest.mark.parametrize("kind", ["lstm", "conv"])
def test_a_long_protein_is_the_same_in_chunks(make_model, monkeypatch, kind):
    model, sequence = make_model(n_layers=2, kind=kind), "MKTAYIAKQRQISFVKSHFSRQ" * 9
    (whole,) = three(model, sequence)
    monkeypatch.setattr(model_module, "LONG", 50)
    np.testing.assert_allclose(three(model, sequence)[0], whole, rtol=EXACT)


def test_a_protein_of_ten_thousand_residues_is_predicted(make_model):
    (found,) = three(make_model().float(), "MKTAYIAKQR" * 1000)
    assert found.shape == (10_000, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_unknown_letters_are_one_and_the_same(make_model):
    found = three(make_model(), "MKXAV", "MKBAV", "MKZAV", "MKJAV")
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=EXACT)
    kin = three(make_model(), "MUOV", "MCKV")
    np.testing.assert_allclose(*kin, rtol=EXACT)


def test_letters_have_codes_of_their_own():
    codes = letters_of("ACDEFGHIKLMNPQRSTVWYX").tolist()
    assert codes == [*range(N_AMINO_ACIDS), UNKNOWN]


def test_single_residues_and_no_proteins_are_predicted(make_model):
    assert three(make_model(), "M")[0].shape == (1, 3)
    assert predictions(make_model(), []) == []


def test_a_reversed_protein_is_another_one(make_model):
    forward, backward = three(make_model(), "MKTAYIAKQRQISFVK", "KVFSIQRQKAIYATKM")
    assert np.abs(forward - backward[::-1]).max() > 1e-3


@pytest.mark.parametrize("kind", ["lstm", "conv"])
def test_a_one_way_net_does_not_see_what_follows(make_model, kind):
    one, other = three(make_model(is_bidirectional=False, stem=0, kind=kind), "MKTAYIAK", "MKTAWWWW")
    np.testing.assert_allclose(one[:4], other[:4], rtol=EXACT)
    assert np.abs(one[4:] - other[4:]).max() > 1e-3


def test_e3_residue_1000_hears_residue_1_through_an_lstm_and_not_through_a_tanh_net(make_model):
    proteins = ProteinDataset(simulated(4, 0, 1000, 1000))
    batch = collate([proteins[i] for i in range(4)])
    share = {}
    for kind in ("lstm", "gru", "tanh"):
        model = make_model(kind=kind, width=48, n_layers=1, t_max=1000, has_eight=False).float()
        loss = objective_of(LossSettings(), model.settings).loss
        with Subject.of(model, batch, lambda net, data, loss=loss: loss(net, data).each.mean()) as subject:
            share[kind] = [found.first_share for found in measure_recurrence(subject)]
    assert min(share["lstm"] + share["gru"]) > HEARD
    assert max(share["tanh"]) < LOST
    assert len(share["lstm"]) == 2, "in either direction"
