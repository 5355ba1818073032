"""What the engine relies on, held for every installed app, ours or foreign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from isometry.app import find_apps, load_app
from isometry.doctor import Examination, examine
from isometry.doctor.examination import MEASURES
from isometry.doctor.visit import visited
from isometry.randomness import seed_everything
from isometry.settings import validated

ROOT = Path(__file__).parents[2]
FOREIGN = os.pathsep.join(str(ROOT / folder) for folder in ("tests/foreign", "examples"))
APPS = sorted(find_apps())
SAME = 1e-5  # relative, of fp32 losses computed in batches of another size
N_RECORDS = 4
NOT_FOR_ALL = {"depth", "predicted.lyapunov", "predicted.edge"}  # of residual blocks, and of plain chains, alone


@cache
def prepared(name: str) -> tuple[Any, Any, Any]:
    app = load_app(name)
    data = app.data(app.presets["tiny"])
    return app, app.learn(app.presets["tiny"], data), data


def batch_of(app: Any, data: Any, indices: range) -> Any:
    return app.collate([data.train[i] for i in indices])


@pytest.fixture(params=APPS)
def case(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    return prepared(request.param)


def test_there_are_apps() -> None:
    assert {"crystal", "mixture", "wave"} <= set(APPS)


def test_settings_survive_the_checkpoint(case: tuple[Any, Any, Any]) -> None:
    app, settings, _ = case
    stored = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert validated(app.settings, stored, "manifest") == settings


def test_what_is_learnt_is_learnt_once(case: tuple[Any, Any, Any]) -> None:
    app, settings, data = case
    assert app.learn(settings, data) == settings


def test_the_model_is_made_from_settings_and_seed_alone(case: tuple[Any, Any, Any]) -> None:
    app, settings, _ = case
    weights = []
    for _ in range(2):
        seed_everything(3)
        weights.append(app.model(settings).state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_record_is_the_same_whenever_it_is_fetched(case: tuple[Any, Any, Any]) -> None:
    app, _, data = case
    first, second = (app.collate([data.train[0]]) for _ in range(2))
    assert str(first) == str(second)


def test_losses_are_per_record_and_do_not_depend_on_the_batch(case: tuple[Any, Any, Any]) -> None:
    app, settings, data = case
    seed_everything(0)
    model, objective = app.model(settings).eval(), app.objective(settings)
    together = objective.loss(model, batch_of(app, data, range(N_RECORDS)))
    assert together.each.shape == (N_RECORDS,)
    assert together.each.requires_grad
    assert all(part.shape == (N_RECORDS,) and not part.requires_grad for part in together.parts.values())
    apart = [objective.loss(model, batch_of(app, data, range(i, i + 1))).each for i in range(N_RECORDS)]
    torch.testing.assert_close(together.each, torch.cat(apart), rtol=SAME, atol=SAME)


def test_scores_come_from_rows_and_hold_the_one_that_decides(case: tuple[Any, Any, Any]) -> None:
    app, settings, data = case
    model, objective = app.model(settings).eval(), app.objective(settings)
    with torch.no_grad():
        rows = objective.measure(model, batch_of(app, data, range(N_RECORDS)))
    assert all(len(row) == N_RECORDS for row in rows.values())
    scores = objective.score({name: row.double().numpy() for name, row in rows.items()})
    assert np.isfinite(scores[objective.decides])


def test_every_trainable_parameter_receives_a_gradient(case: tuple[Any, Any, Any]) -> None:
    app, settings, data = case
    seed_everything(0)
    model, objective = app.model(settings).train(), app.objective(settings)
    objective.loss(model, batch_of(app, data, range(N_RECORDS))).each.sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert not silent


def bits(model: torch.nn.Module) -> dict[str, Any]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: (id(t), t.grad, t.detach().cpu().contiguous().numpy().tobytes()) for name, t in tensors}


def unexplained(examination: Examination) -> list[str]:
    """What was not measured, without a word why."""
    found = []
    for measure in MEASURES - set(examination.missing):
        record = getattr(examination, measure)
        if record is None:
            found.append(measure)
        elif not isinstance(record, list):
            fields = record._asdict() if isinstance(record, tuple) else vars(record)
            values = {name: value for name, value in fields.items() if not name.endswith("reason")}
            has_reason = any(value for name, value in fields.items() if name.endswith("reason"))
            found += [f"{measure}.{name}" for name, value in values.items() if value is None and not has_reason]
    return sorted(set(found) - NOT_FOR_ALL)


def examined(name: str, preset: str) -> Examination:
    """By the doctor, who leaves the network as it was."""
    app = load_app(name)
    with visited(app, app.presets[preset].changed(device="cpu")) as patient:
        before, modes = bits(patient.model), [module.training for module in patient.model.modules()]
        symmetries = app.symmetries(patient.settings)
        examination = examine(*patient[:3], symmetries=symmetries, optim=patient.settings.optim)
        assert bits(patient.model) == before
        assert [module.training for module in patient.model.modules()] == modes
    assert len(examination.symmetries) >= len(symmetries)
    return examination


@pytest.mark.parametrize("name", APPS)
def test_the_doctor_finds_nothing_fatal_in_a_tiny_app(name: str) -> None:
    examination = examined(name, "tiny")
    assert not [finding for finding in examination.findings if finding.severity == "fatal"]
    assert not examination.missing
    assert not unexplained(examination)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), [(n, p) for n in APPS for p in load_app(n).presets if p != "tiny"])
def test_the_doctor_finds_nothing_fatal_in_a_preset(name: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("tests fetch nothing")

    monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: refuse)
    try:
        examination = examined(name, preset)
    except FileNotFoundError as error:
        pytest.skip(f"its data are not here: {error}")
    assert not [finding for finding in examination.findings if finding.severity == "fatal"]
    assert all(examination.missing.values())
    assert not unexplained(examination)


@pytest.mark.parametrize("name", APPS)
def test_an_app_trains_and_evaluates_from_the_command_line(name: str, tmp_path: Any) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([FOREIGN, os.environ.get("PYTHONPATH", "")])}

    def isometry(*arguments: str) -> Any:
        command = [sys.executable, "-m", "isometry", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run = str(tmp_path / "run")
    trained = isometry("train", name, "--out", run, "--fit.epochs", "1")
    scores = isometry("evaluate", name, run)["scores"]
    assert trained["scores"]["test"] == pytest.approx(scores)
    assert (tmp_path / "run" / "report.html").is_file()
