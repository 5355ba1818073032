"""Calibration errors among the scores are those of all probabilities at once, however the proteins were batched."""

import numpy as np
import pytest
import torch
from isometry.calibrate import calibration
from isometry_protein.contacts import known_pairs
from isometry_protein.dataset import NO_LABEL
from isometry_protein.objective import LossSettings, objective_of
from isometry_protein.scores import score
from isometry_protein.together import ProteinEnsemble

HEADS = ("ss", "disorder", "contacts", "classes")
NAMES = ("ss3", "ss8", "disorder", "contact", "class")
EXACT = 1e-12  # float64
ROUNDED = 1e-6  # contacts are told in fp32


def scores_of(model, *batches):
    measure = objective_of(LossSettings(), model.settings).measure
    with torch.no_grad():
        measured = [measure(model, batch) for batch in batches]
    return score({name: torch.cat([rows[name] for rows in measured]).double().numpy() for name in measured[0]})


def expected(model, batch, temperatures):
    """Errors of softmax(logits / T), by the engine."""
    with torch.no_grad():
        pairs, touch = known_pairs(batch.positions)
        said = model(batch.letters, batch.length, pairs)
        log3, log8 = model.state_logs(said["ss"])
    p = {"ss3": log3.exp(), "ss8": log8.exp()}
    p |= {
        name: (said[head] / temperatures[name]).sigmoid() for name, head in (("disorder",) * 2, ("contact", "contacts"))
    }
    p["class"] = (said["classes"] / temperatures["class"]).softmax(-1)
    labels = {"ss3": batch.ss3, "ss8": batch.ss8, "disorder": batch.disorder, "contact": touch, "class": batch.kind}
    flat = {name: of[labels[name] != NO_LABEL].numpy() for name, of in p.items()}
    return {name: calibration(of, labels[name][labels[name] != NO_LABEL]).expected_error for name, of in flat.items()}


@pytest.fixture
def heated(make_model):
    model = make_model(heads=HEADS)
    for number, name in enumerate(NAMES):
        model.temperatures[name].temperature.fill_(0.4 + 0.35 * number)
    return model


def test_errors_are_the_engines_with_and_without_temperatures(heated, make_batch):
    batch = make_batch(40, 12, 25)
    kept = {name: float(of.temperature) for name, of in heated.temperatures.items()}
    found = scores_of(heated, batch)
    assert {name: float(of.temperature) for name, of in heated.temperatures.items()} == kept, "as they were"
    for name, error in expected(heated, batch, kept).items():
        assert found[f"{name}/ece"] == pytest.approx(error, abs=ROUNDED if name == "contact" else EXACT)
    for of in heated.temperatures.values():
        of.temperature.fill_(1.0)
    for name, error in expected(heated, batch, dict.fromkeys(NAMES, 1.0)).items():
        assert found[f"{name}/ece_before"] == pytest.approx(error, abs=ROUNDED if name == "contact" else EXACT)
        assert found[f"{name}/ece_before"] != pytest.approx(found[f"{name}/ece"], abs=1e-4)


def test_batches_change_no_error(heated, make_batch):
    batch = make_batch(40, 12, 25)
    parts = [type(batch)(*(values[k : k + 1] for values in batch)) for k in range(3)]
    together, apart = scores_of(heated, batch), scores_of(heated, *parts)
    assert {name: apart[name] for name in together} == pytest.approx(together, abs=ROUNDED)


def test_a_coin_that_says_a_half_is_calibrated_and_a_boaster_is_not(make_model, make_batch):
    model, batch = make_model(heads=("disorder",)), make_batch(400, disorder=np.arange(400) % 2 == 0)
    head = model.heads["disorder"]
    with torch.no_grad():
        head.weight.zero_(), head.bias.zero_()
    assert scores_of(model, batch)["disorder/ece"] == pytest.approx(0, abs=EXACT)
    with torch.no_grad():
        head.bias.fill_(40.0)
    assert scores_of(model, batch)["disorder/ece"] == pytest.approx(0.5, abs=EXACT), "sure of all, right in half"


def test_an_ensembles_error_is_that_of_the_mean_probability(make_model, make_batch):
    members = [make_model(heads=("ss", "contacts"), width=width) for width in (7, 5)]
    batch, together = make_batch(40, 35), ProteinEnsemble(members).eval()
    with torch.no_grad():
        p = torch.stack([m.state_logs(m(batch.letters, batch.length)["ss"])[0].exp() for m in members]).mean(0)
    found, is_known = scores_of(together, batch), batch.ss3 != NO_LABEL
    assert found["ss3/ece"] == pytest.approx(calibration(p[is_known], batch.ss3[is_known]).expected_error, abs=EXACT)
    assert "contact/ece" in found
    assert not [name for name in found if name.endswith("before")], "the temperatures are the members' own"
