"""A run may begin with another one's weights: by name and shape, told in the log, and only once."""

import json

import pytest
import torch
from isometry.app import load_app
from isometry.events import read_events
from isometry.story import load, train
from torch.testing import assert_close

MOONS = load_app("moons")
TINY = MOONS.presets["tiny"].changed(fit={"epochs": 1}, log={"health": 0})


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first") / "run"
    train(MOONS, TINY, folder, is_quiet=True)
    return folder


def begun(run):
    """Weights before the first step, and the notes of the log."""
    notes = [e["message"] for e in read_events(run / "events.jsonl") if e["event"] == "note"]
    return load(MOONS, run / "checkpoints" / "step-00000000").model.state_dict(), notes


def test_a_run_begins_with_the_weights_of_another(first, tmp_path):
    train(MOONS, TINY.changed(start=str(first), seed=5), tmp_path / "run", is_quiet=True)
    weights, notes = begun(tmp_path / "run")
    source = load(MOONS, first).model.state_dict()
    for name, value in source.items():
        expected = torch.tensor(1.0) if name.endswith("temperature") else value
        assert_close(weights[name], expected, rtol=0, atol=0)
    assert any(f"begin as those of {first}" in note and "anew" not in note for note in notes)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]["start"] == str(first)


def test_what_does_not_fit_begins_anew_and_is_named(first, tmp_path):
    train(MOONS, TINY.changed(start=str(first), model={"columns": 1}), tmp_path / "run", is_quiet=True)
    weights, notes = begun(tmp_path / "run")
    source = load(MOONS, first).model.state_dict()
    assert_close(weights["layers.0.weight"], source["layers.0.weight"], rtol=0, atol=0)
    assert any("anew: head.linear.weight, head.linear.bias" in note for note in notes)


def test_weights_of_another_network_are_refused(first, tmp_path):
    with pytest.raises(ValueError, match=r"none of its \d+ tensors fits"):
        train(MOONS, TINY.changed(start=str(first), model={"width": 7, "columns": 1}), tmp_path / "run", is_quiet=True)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        train(MOONS, TINY.changed(start="nowhere"), tmp_path / "run", is_quiet=True)
    assert not (tmp_path / "run").exists(), "a run that was refused leaves no trace"
