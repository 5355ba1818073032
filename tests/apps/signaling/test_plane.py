"""The plane: learned points against exact curves, and never above them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry.cli import main
from isometry_signaling.plane import as_rows, betas_between, certified, follow, settle
from isometry_signaling.train import APP, PRESETS
from isometry_signaling.truth import truth_of

CLOSE = 0.01  # bits: the largest certified gap
EXACT = 1e-9

GAUSSIAN = PRESETS["gaussian"].changed(
    data={"correlations": (0.9, 0.6), "n_ligands": 3, "n_train": 20_000, "n_test": 4000, "n_valid": 100},
    model={"n_state": 2},
    loss={"beta": 5.0},
)
CASCADE = PRESETS["cascade"].changed(data={"doses": (0.5, 4.0)}, model={"n_state": 8, "width": 16})


def begun(settings):
    data = APP.data(settings)
    settings = APP.learn(settings, data)
    torch.manual_seed(0)
    return settings, data, APP.model(settings)


def traced(settings, betas, n_steps=150):
    settings, data, model = begun(settings)
    points = follow(model, settings.loss, data.train, data.test, betas, n_steps=n_steps)  # type: ignore[arg-type]
    truth = truth_of(settings.data)
    assert truth is not None
    return points, as_rows(points, truth.relevance_at), truth


def test_a_linear_network_finds_the_gaussian_curve_over_all_of_it() -> None:
    truth = truth_of(GAUSSIAN.data)
    assert truth is not None
    points, rows, _ = traced(GAUSSIAN, betas_between(1.01 * truth.first_beta, truth.last_beta, 6))
    assert max(row["gap"] for row in rows) < CLOSE
    assert min(row["gap"] for row in rows) > 0
    assert points[-1].certificate.relevance > 0.99 * truth.information


def test_kinds_find_the_discrete_curve_of_the_cascade() -> None:
    _, rows, truth = traced(CASCADE, [1.8, 3.0, 6.0])
    assert max(row["gap"] for row in rows) < CLOSE
    assert min(row["gap"] for row in rows) > -1e-6  # of the exact curve's own convergence
    assert rows[-1]["relevance"] < truth.information


@pytest.mark.parametrize("preset", ["tiny", "cascade", "gaussian", "course"])
def test_no_network_is_certified_above_the_exact_curve(preset: str) -> None:
    """Random weights and trained ones alike: the bounds need no training to hold."""
    small = {"n_train": 1000, "n_valid": 100, "n_test": 2000} if preset != "cascade" else {}
    settings, data, model = begun(PRESETS[preset].changed(data=small, model={"width": 8}))
    truth = truth_of(settings.data)
    assert truth is not None
    for n_steps in (0, 15):
        if n_steps:
            settle(model, settings.loss, data.train.all(), n_steps)  # type: ignore[attr-defined]
        at = certified(model, settings.loss, data.test)  # type: ignore[arg-type]
        assert at.relevance_lower <= float(truth.relevance_at(np.array(at.rate_upper))) + EXACT


def test_settling_never_ends_higher() -> None:
    settings, data, model = begun(CASCADE)
    first = settle(model, settings.loss, data.train.all(), 1)  # type: ignore[attr-defined]
    then = settle(model, settings.loss, data.train.all(), 20)  # type: ignore[attr-defined]
    assert then.loss <= first.loss


def test_a_kind_of_state_follows_beta_by_its_sharpness() -> None:
    _, _, model = begun(CASCADE)
    before = float(model.state.log_sharpness.detach())
    model.warm(2.0)  # type: ignore[operator]
    assert float(model.state.log_sharpness.detach()) == pytest.approx(before + np.log(2.0))


def test_betas_are_dense_where_directions_are_taken_up() -> None:
    betas = betas_between(1.1, 101.0, 4)
    np.testing.assert_allclose(np.diff(np.log(np.array(betas) - 1)), np.log(10.0))
    with pytest.raises(ValueError, match="expected 1 < first"):
        betas_between(0.5, 3.0, 4)


def test_the_simulated_cell_stands_below_its_curve_at_every_stage() -> None:
    """At one instant G may know more of L than S does; neither beats the best state at what it pays."""
    truth = truth_of(CASCADE.data)
    assert truth is not None
    assert truth.stages["G"].rate > truth.stages["S"].rate
    assert all(at.relevance < truth.relevance_at(np.array(at.rate)) for at in truth.stages.values())


@pytest.mark.slow
def test_the_plane_is_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, figure = tmp_path / "plane.csv", tmp_path / "plane.png"
    small = ["--data.n-train", "300", "--data.n-test", "600", "--fit.epochs", "2", "--model.width", "8"]
    options = ["--betas", "3", "--steps", "5", "--out", str(table), "--out", str(figure), "--json"]
    assert main(["plane", "--preset", "tiny", *options, *small]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["points"]) == 3
    assert told["largest_gap"] > 0
    assert set(told["stages"]) == {"S", "G"}
    with open(table, newline="", encoding="utf-8") as stream:
        assert [float(row["beta"]) for row in csv.DictReader(stream)] == [p["beta"] for p in told["points"]]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_wrong_plane_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plane", "--out", str(tmp_path / "plane.xyz")]) == 1
    assert "no format is known" in capsys.readouterr().err
    assert main(["plane", "--out", "/proc/plane.csv"]) == 1
    assert "cannot be written in the folder /proc" in capsys.readouterr().err
    table = tmp_path / "cells.csv"
    table.write_text("dose,response\n0,1\n")
    for flags in (["--data.train", str(table)], ["--config", str(table)]):
        assert main(["plane", "--data.source", "files", *flags, "--out", str(table)]) == 1
        assert "is one of the files to read" in capsys.readouterr().err
    assert table.read_text() == "dose,response\n0,1\n"
    assert main(["plane", "--run", str(tmp_path), "--loss.beta", "3"]) == 1
    assert "has its settings already" in capsys.readouterr().err


def test_a_state_that_pays_nothing_is_certified_to_pay_nothing() -> None:
    """Where p(s|l) is the marginal, a sampled rate swings with the noise's squares alone; they are known."""
    small = {"n_train": 200, "n_valid": 100, "n_test": 2000}
    settings, data, model = begun(PRESETS["tiny"].changed(data=small, model={"n_state": 1, "n_components": 1}))
    with torch.no_grad():
        model.entry.weight.zero_()
        model.entry.bias.zero_()
        model.state.marginal.means.zero_()  # type: ignore[union-attr, operator]
        model.state.marginal.log_spreads.copy_(model.state.log_spread[None])  # type: ignore[union-attr]
    at = certified(model.double(), settings.loss, data.test)  # type: ignore[arg-type]
    assert at.rate_upper == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--low", "3", "--high", "2"], "from 3 to 2"),
        (["--low", "0"], "from 0 to"),
        (["--low", "2", "--high", "inf"], "from 2 to inf"),
        (["--data.doses", "3", "3"], "data.doses 3, 3: expected two different doses or more"),
        (["--betas", "0"], "at least 1 of them"),
        (["--steps", "0"], "--steps 0: expected at least 1"),
    ],
)
def test_a_range_that_is_none_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plane", *flags]) == 1
    assert message in capsys.readouterr().err
