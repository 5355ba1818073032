"""What a report says of the test set: calibration before and after, of everything that is said of a residue."""

import numpy as np
import pytest
import torch
from isometry.app import Data
from isometry_protein.dataset import ProteinDataset
from isometry_protein.findings import CALIBRATION, calibrations, findings
from isometry_protein.predict import predictions
from isometry_protein.train import PRESETS

LABELS = {"ss3": "three", "ss8": "eight", "disorder": "disorder"}


@pytest.fixture
def proteins(make_record):
    return ProteinDataset([make_record(n, n) for n in (40, 25, 60)])


@pytest.fixture
def heated(make_model):
    model = make_model(heads=("ss", "disorder"))
    for number, temperature in enumerate(model.temperatures.values(), start=2):
        temperature.temperature.fill_(float(number))
    return model


def told(model, settings_of, proteins):
    settings = PRESETS["netsurfp2"].changed(model=settings_of.model_dump())
    return findings(model, settings, Data(proteins, None, proteins, {}))


def test_every_head_of_residues_is_measured_before_and_after(heated, proteins):
    found = predictions(heated, proteins.records)
    sides = calibrations(heated, proteins, found)
    assert set(sides) == set(LABELS)
    assert [float(t.temperature) for t in heated.temperatures.values()] == [2.0, 3.0, 4.0], "as it was"
    for head, field in LABELS.items():
        p = np.concatenate([getattr(of, field) for of in found])
        labels = np.concatenate([getattr(proteins[i], head).numpy() for i in range(3)])
        p = np.stack([1 - p, p], -1) if p.ndim == 1 else p
        assert sides[head][1].accuracy == pytest.approx((p.argmax(1) == labels).mean())
        assert sides[head][1].nll == pytest.approx(-np.log(p[np.arange(len(p)), labels]).mean())
        assert sides[head][0].confidence > sides[head][1].confidence + 0.01, "temperatures above 1 make it less sure"


def test_the_report_has_a_row_and_a_picture_for_each(heated, proteins):
    said = told(heated, heated.settings, proteins)
    assert [row["head"] for row in said.tables[CALIBRATION]] == list(LABELS)
    assert {f"Reliability of {head} on the test set" for head in LABELS} <= set(said.figures)


def test_what_has_no_labels_is_not_measured(heated, make_record):
    bare = ProteinDataset([make_record(30, 1, ss8=None, disorder=None)])
    assert set(calibrations(heated, bare, predictions(heated, bare.records))) == {"ss3"}


def test_disorder_alone_is_measured_too(make_model, proteins):
    model = make_model(heads=("disorder",))
    said = told(model, model.settings, proteins)
    assert [row["head"] for row in said.tables[CALIBRATION]] == ["disorder"]


def test_an_untouched_temperature_changes_nothing(make_model, proteins):
    model = make_model(heads=("ss",))
    with torch.no_grad():
        before, after = calibrations(model, proteins, predictions(model, proteins.records))["ss3"]
    assert before == after
