"""Losses and scores of every head: truths of their definitions, missing labels, and what calibration is told."""

import numpy as np
import pytest
import torch
from isometry.heads import check_heads
from isometry_data.contacts import contacts as true_contacts
from isometry_protein.contacts import ContactHead, known_pairs, pairs_of
from isometry_protein.dataset import NO_LABEL, ProteinDataset, collate
from isometry_protein.letters import PAD
from isometry_protein.objective import LossSettings, guessed, objective_of
from isometry_protein.scores import DECIDES, score
from isometry_protein.states import class_logits, groups_of

ALL = ("ss", "rsa", "disorder", "contacts", "regression", "classes", "language")
SAME = 1e-9  # float64


def loss_of(model, batch, **weights):
    return objective_of(LossSettings(**weights), model.settings).loss(model, batch)


@pytest.fixture
def model(make_model):
    return make_model(heads=ALL)


def test_a_loss_is_the_weighted_sum_of_its_heads(model, make_batch):
    batch = make_batch(12, 40, 9)
    weights = {head: 0.5 + i for i, head in enumerate(ALL)}
    found = loss_of(model, batch, **weights)
    assert set(found.parts) == set(ALL)
    torch.testing.assert_close(found.each, torch.stack(list(found.parts.values())).sum(0))
    plain = loss_of(model, batch, **dict.fromkeys(ALL, 1.0))
    for head in ALL:
        torch.testing.assert_close(found.parts[head], weights[head] * plain.parts[head])


def test_losses_do_not_depend_on_the_batch(model, make_batch):
    batch = make_batch(12, 40, 9)
    together = loss_of(model, batch).each
    for k, length in enumerate(batch.length):
        cut = type(batch)(*(v[k : k + 1] for v in batch))
        own = type(batch)(*(v[:, :length] if v.ndim > 1 and v.shape[1] == 40 else v for v in cut))
        torch.testing.assert_close(loss_of(model, own).each[0], together[k], rtol=SAME, atol=SAME)


def test_missing_labels_cost_nothing_and_disturb_nothing(model, make_batch, make_record):
    batch = make_batch(12, 40)
    bare = make_record(12, 0, ss8=None, ss3=None, accessibility=None, disorder=None, positions=None)
    empty = ProteinDataset([bare])[0]
    unlabelled = collate([empty._replace(value=torch.full((2,), torch.nan))])
    unlabelled = type(batch)(*(v.double() if v.is_floating_point() else v for v in unlabelled))
    found = loss_of(model, unlabelled)
    assert found.each.tolist() == [0.0]
    found.each.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_every_parameter_of_every_head_learns(model, make_batch):
    loss_of(model.train(), make_batch(12, 40, 9)).each.sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]


def test_a_label_of_three_states_costs_the_sum_over_its_states(make_model, make_batch):
    model = make_model(heads=("ss",))
    batch = make_batch(15, ss8=None)
    logits = model(batch.letters, batch.length)["ss"]
    p = logits.softmax(-1) @ torch.nn.functional.one_hot(groups_of("GHI/EB"), 3).double()
    expected = -p.gather(-1, batch.ss3[..., None]).log().mean()
    torch.testing.assert_close(loss_of(model, batch).each[0], expected)


def test_masked_residues_do_not_count(make_record):
    mask = np.arange(10) % 2 == 0
    protein = ProteinDataset([make_record(10, 0, mask=mask)])[0]
    for labels in (protein.ss3, protein.ss8):
        assert ((labels != NO_LABEL).numpy() == mask).all()
    assert (protein.accessibility.isnan().numpy() == ~mask).all()
    assert (protein.disorder != NO_LABEL).all(), "the residues that a structure does not show are what disorder is"


def test_nobody_sees_what_the_language_head_guesses(model, make_batch):
    batch = make_batch(30, 21)
    changed = torch.where(batch.hidden, (batch.letters + 7) % 20, batch.letters)
    parts = [loss_of(model, b).parts for b in (batch, batch._replace(letters=changed))]
    for head in set(ALL) - {"language"}:
        torch.testing.assert_close(parts[0][head], parts[1][head])
    assert (guessed(batch, model.settings) >= 0).equal(batch.hidden & (batch.letters < 20))


def test_a_one_way_net_guesses_the_next_residue(make_model, make_batch):
    model = make_model(heads=("language",), is_bidirectional=False, stem=0)
    batch = make_batch(4, 3)
    asked = guessed(batch, model.settings)
    assert asked[0].tolist() == [*batch.letters[0, 1:].tolist(), NO_LABEL]
    assert asked[1].tolist() == [*batch.letters[1, 1:3].tolist(), NO_LABEL, NO_LABEL]
    assert batch.letters[1, 3] == PAD


# Contacts


def test_known_pairs_are_the_contacts_of_the_records(make_batch):
    batch = make_batch(30, 25)
    pairs, touch = known_pairs(batch.positions)
    for k in range(2):
        own = pairs[1:, (pairs[0] == k) & (touch == 1)].T
        length = int(batch.length[k])
        assert sorted(map(tuple, own.tolist())) == sorted(
            map(tuple, true_contacts(batch.positions[k, :length].numpy()).tolist())
        )
        assert int((pairs[0] == k).sum()) == (length - 6) * (length - 5) // 2


def test_some_pairs_are_spread_over_all(make_batch):
    every, _ = known_pairs(make_batch(60).positions)
    some, _ = known_pairs(make_batch(60).positions, most=100)
    assert 50 < some.shape[1] <= 100
    assert some[1].min() == every[1].min()
    assert some[1].max() > 0.9 * every[1].max()


def test_the_map_of_contacts_is_symmetric_and_the_same_in_parts(monkeypatch):
    torch.manual_seed(0)
    head, features = ContactHead(5, 4).double(), torch.randn(1, 40, 5).double()
    pairs = pairs_of(0, 40, 40)
    whole = head(features, pairs)
    torch.testing.assert_close(whole, head(features, pairs[[0, 2, 1]]))
    monkeypatch.setattr("isometry_protein.contacts.PAIRS_AT_ONCE", 90)
    parts = list(head.blocks(features))
    assert len(parts) > 5
    torch.testing.assert_close(torch.cat([logits for _, logits in parts]), whole)
    assert torch.cat([own for own, _ in parts], 1).equal(pairs)


# Scores


@pytest.fixture
def rows(model, make_batch):
    batch = make_batch(30, 45, 12)
    with torch.no_grad():
        found = objective_of(LossSettings(), model.settings).measure(model, batch)
    return batch, {name: row.double().numpy() for name, row in found.items()}


def test_each_head_has_the_score_that_decides(rows):
    scores = score(rows[1])
    assert {name for name, _ in DECIDES.values()} <= set(scores)
    assert np.isfinite(list(scores.values())).all()


def test_scores_are_those_of_their_definitions(model, rows):
    batch, found = rows
    with torch.no_grad():
        said = model(batch.letters, batch.length)
        log3, log8 = model.state_logs(said["ss"])
    is_there, scores = batch.ss3 >= 0, score(found)
    hits = (log3.argmax(-1) == batch.ss3)[is_there].double()
    assert scores["q3"] == pytest.approx(float(hits.mean()))
    assert scores["q8"] == pytest.approx(float((log8.argmax(-1) == batch.ss8)[is_there].double().mean()))
    by_chain = [float((log3[k].argmax(-1) == batch.ss3[k])[:n].double().mean()) for k, n in enumerate(batch.length)]
    assert scores["q3_per_chain"] == pytest.approx(np.mean(by_chain))
    x, y = said["rsa"][is_there].numpy(), batch.accessibility[is_there].numpy()
    assert scores["rsa_pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    x, y = (said["disorder"] > 0)[is_there].numpy(), batch.disorder[is_there].numpy()
    expected = np.corrcoef(x, y)[0, 1] if x.std() > 0 else 0.0
    assert scores["disorder_mcc"] == pytest.approx(expected, abs=1e-6)


def test_a_guess_at_random_has_the_perplexity_of_the_alphabet(make_model, make_batch):
    model = make_model(heads=("language",))
    torch.nn.init.zeros_(model.heads["language"].weight)
    row = objective_of(LossSettings(), model.settings).measure(model, make_batch(40, 30))
    assert score({name: v.detach().numpy() for name, v in row.items()})["perplexity"] == pytest.approx(20)


def test_a_perfect_map_has_precision_one(make_model, make_batch, monkeypatch):
    model, batch = make_model(heads=("contacts",)), make_batch(60)
    batch = batch._replace(positions=batch.positions / 4)  # everything touches
    found = objective_of(LossSettings(), model.settings).measure(model, batch)
    scores = score({name: v.detach().numpy() for name, v in found.items()})
    precision = {name: value for name, value in scores.items() if name.startswith("contacts_")}
    assert precision == {f"contacts_{name}_l5": 1.0 for name in ("short", "medium", "long")}


def test_no_labels_give_no_scores(model, make_record):
    bare = make_record(12, 0, ss8=None, ss3=None, accessibility=None, disorder=None, positions=None)
    batch = collate([ProteinDataset([bare])[0]._replace(value=torch.full((2,), torch.nan))])
    with torch.no_grad():
        found = objective_of(LossSettings(), model.settings).measure(model.float(), batch)
    assert score({name: v.double().numpy() for name, v in found.items()}) == {}


def test_the_engine_can_calibrate_every_head(make_model, make_record):
    model = make_model(heads=ALL[:6]).float()
    records = [make_record(n, n) for n in (20, 31, 9, 14)]
    proteins = ProteinDataset(
        records, values={r.name: (0.0, 1.0) for r in records}, kinds={r.name: i % 3 for i, r in enumerate(records)}
    )
    objective = objective_of(LossSettings(), model.settings)
    check_heads(model, objective, proteins, collate)
    said = objective.classes(model, collate([proteins[i] for i in range(4)]))
    assert set(said) == {"ss3", "ss8", "disorder", "contact", "class"}


def test_logits_use_the_classes_of_the_model(make_model, make_batch):
    model, batch = make_model(heads=("ss",), mapping="H/E"), make_batch(10)
    said = objective_of(LossSettings(), model.settings).classes(model, batch)["ss3"]
    logits = model(batch.letters, batch.length)["ss"][0]
    torch.testing.assert_close(said.logits, class_logits(logits, groups_of("H/E")))
