"""Several networks as one: the mean of what they say, not of their verdicts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry.ensemble import evaluate_together, predict_together
from isometry.loaded import Loaded
from isometry.precision import Precision, PrecisionSettings
from isometry_data.protein_records import EIGHT_STATES
from isometry_data.state_files import write_states
from isometry_protein.objective import measure
from isometry_protein.predict import contacts, predictions
from isometry_protein.scores import score
from isometry_protein.together import ProteinEnsemble

APP = load_app("protein")
TINY = APP.presets["tiny"]
HEADS = ("ss", "rsa", "disorder", "contacts", "regression", "classes", "language")


@pytest.fixture
def members(make_model):
    """Three networks of other kinds, sizes and temperatures."""
    each = (("lstm", 7, 1), ("conv", 5, 2), ("gru", 9, 1))
    made = [make_model(heads=HEADS, kind=kind, width=width, n_layers=layers) for kind, width, layers in each]
    for number, member in enumerate(made):
        for temperature in member.temperatures.values():
            temperature.temperature.fill_(1 + 0.3 * number)
    return made


def test_probabilities_are_the_members_means(members, make_record):
    records = [make_record(n, seed) for seed, n in enumerate((30, 9, 17))]
    together = predictions(ProteinEnsemble(members), records)
    alone = [predictions(member, records) for member in members]
    for k, of in enumerate(together):
        for name in ("three", "eight", "accessibility", "disorder", "values", "classes"):
            means = np.mean([getattr(own[k], name) for own in alone], 0)
            np.testing.assert_allclose(getattr(of, name), means, atol=1e-12, err_msg=name)


def test_contacts_are_the_members_means(members, make_record):
    record = make_record(25)
    pairs, p = contacts(ProteinEnsemble(members), record, least=0.0)
    found = dict(zip(map(tuple, pairs.tolist()), p.tolist(), strict=True))
    for member in members:
        for pair, own in zip(*contacts(member, record, least=0.0), strict=True):
            found[tuple(pair.tolist())] -= own / len(members)
    assert max(map(abs, found.values())) < 1e-6


def test_the_score_is_that_of_the_mean_probability(members, make_batch):
    batch = make_batch(40, 35, 50)
    ensemble = ProteinEnsemble(members).eval()
    with torch.no_grad():
        rows = {name: row.numpy() for name, row in measure(ensemble, batch).items()}
        p = torch.stack([m.state_logs(m(batch.letters, batch.length)["ss"])[0].exp() for m in members]).mean(0)
    is_known = batch.ss3 >= 0
    q3 = (p.argmax(-1) == batch.ss3)[is_known].double().mean()
    assert score(rows)["q3"] == pytest.approx(float(q3), abs=1e-6)
    nll = -p.gather(-1, batch.ss3.clamp(min=0)[..., None]).squeeze(-1).log()[is_known].mean()
    assert score(rows)["q3_nll"] == pytest.approx(float(nll), abs=1e-6)


def test_members_that_do_not_say_the_same_are_refused(make_model):
    with pytest.raises(ValueError, match="member 2 has mapping H/E, the first GHI/EB"):
        ProteinEnsemble([make_model(), make_model(mapping="H/E")])
    with pytest.raises(ValueError, match="member 2 has heads"):
        ProteinEnsemble([make_model(), make_model(heads=("ss", "rsa"))])
    with pytest.raises(ValueError, match="member 2 has class_names"):
        ProteinEnsemble([make_model(heads=("classes",), class_names=names) for names in (tuple("abc"), tuple("acb"))])


@pytest.fixture
def of_two_labels(make_model):
    """A network that learnt three states alone, and one of another kind that learnt eight."""
    return [make_model(has_eight=False), make_model(kind="conv")]


@pytest.mark.parametrize("order", [1, -1])
def test_eight_states_are_told_by_the_members_that_learnt_them(of_two_labels, make_record, caplog, order):
    records = [make_record(40)]
    (of,) = predictions(ProteinEnsemble(of_two_labels[::order]), records)
    ((three,), (eight,)) = (predictions(member, records) for member in of_two_labels)
    assert three.eight is None
    np.testing.assert_allclose(of.three, (three.three + eight.three) / 2, atol=1e-12)
    assert of.eight is not None
    assert eight.eight is not None
    groups = of_two_labels[0].groups.numpy()
    sums = [[p[:, groups == c].sum(1) for c in range(3)] for p in (of.eight, eight.eight)]
    np.testing.assert_allclose(np.transpose(sums[0]), of.three, atol=1e-12)
    for state, c in enumerate(groups):
        within = [own[:, state] / own_sums[c] for own, own_sums in zip((of.eight, eight.eight), sums, strict=True)]
        np.testing.assert_allclose(*within, atol=1e-12)
    number = {1: 1, -1: 2}[order]
    assert f"member {number} of 2 learnt three states alone" in caplog.text


def test_members_that_all_learnt_three_states_tell_three(make_model, make_record, caplog):
    members = [make_model(has_eight=False), make_model(has_eight=False, width=4)]
    (of,) = predictions(ProteinEnsemble(members), [make_record(30)])
    assert of.eight is None
    assert not caplog.text


def test_unlike_members_predict_and_are_scored_together(of_two_labels, make_record, tmp_path):
    path = tmp_path / "known.ss"
    records = [make_record(n, n) for n in (30, 12)]
    write_states(path, records)
    states = "".join(record.ss8 or "" for record in records)
    loaded = []
    for number, member in enumerate(of_two_labels):
        settings = TINY.changed(model=member.settings.model_dump())
        manifest = {"files": {"weights.safetensors": {"sha256": str(number)}}}
        checkpoint = SimpleNamespace(path=tmp_path / str(number), manifest=manifest)
        precision = Precision(PrecisionSettings(dtype="fp64"), torch.device("cpu"))
        loaded.append(Loaded(APP, settings, member, checkpoint, precision))  # type: ignore[arg-type]
    for members in (loaded, loaded[::-1]):
        rows = predict_together(members, [path])
        assert {"p_H_spread", "p8_H", "ss8"} <= rows[0].keys()
        assert sum(rows[0][f"p8_{state}"] for state in EIGHT_STATES) == pytest.approx(1)
        scores = evaluate_together(members, [path])
        assert "q8" in scores.together
        assert ["q8" in of for of in scores.members] == [m.settings.model.has_eight for m in members]
        assert np.isnan(scores.spread["q8"])
        assert np.isfinite(scores.spread["q3"])
        is_right = [row["ss8"] == state for row, state in zip(rows, states, strict=True)]
        assert scores.together["q8"] == pytest.approx(np.mean(is_right))


def test_the_app_asks_its_ensembles_so():
    assert APP.together is ProteinEnsemble
