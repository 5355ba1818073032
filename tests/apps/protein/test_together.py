"""Several networks as one: the mean of what they say, not of their verdicts."""

import numpy as np
import pytest
import torch
from isometry.app import load_app
from isometry_protein.objective import measure
from isometry_protein.predict import contacts, predictions
from isometry_protein.scores import score
from isometry_protein.together import ProteinEnsemble

APP = load_app("protein")
HEADS = ("ss", "rsa", "disorder", "contacts", "regression", "classes", "language")


@pytest.fixture
def members(make_model):
    """Three networks of other sizes, seeds and temperatures."""
    made = [make_model(heads=HEADS, width=width, n_layers=layers) for width, layers in ((7, 1), (5, 2), (9, 1))]
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


def test_the_app_asks_its_ensembles_so():
    assert APP.together is ProteinEnsemble
