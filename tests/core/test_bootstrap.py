"""Intervals of scores from resampled records."""

import json
import math

import numpy as np
import pytest
from isometry.bootstrap import intervals
from isometry.cli import main
from isometry.story import train
from isometry_moons.train import APP


def mean(rows):
    return {"mean": float(rows["x"].mean())}


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    x = np.random.default_rng(0).normal(2.0, 3.0, size=400)
    low, high = intervals(mean, {"x": x}, 4000)["mean"]
    half = 1.96 * x.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.05 * half)


def test_it_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = [
        low <= 0 <= high for low, high in (intervals(mean, {"x": rng.normal(size=60)}, 300)["mean"] for _ in range(300))
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_rows_of_one_record_stay_together():
    x = np.arange(30.0)
    pairs = intervals(lambda rows: {"gap": float(np.abs(rows["x"] - rows["y"]).max())}, {"x": x, "y": x + 1})
    assert pairs["gap"] == (1.0, 1.0)


def test_a_single_record_gives_no_interval():
    with pytest.raises(ValueError, match="1000 resamples of 1 records; an interval needs at least 2"):
        intervals(mean, {"x": np.ones(1)})


def test_the_command_gives_them(tmp_path, capsys):
    run = train(APP, APP.presets["tiny"].changed(fit={"epochs": 2}), tmp_path / "run", is_quiet=True).folder
    assert main(["evaluate", "moons", str(run), "--bootstrap", "200", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name, value in told["scores"].items():
        low, high = told["intervals"][name]
        assert low < value < high
    assert main(["evaluate", "moons", str(run), "--bootstrap", "200"]) == 0
    assert {"low", "high"} <= set(capsys.readouterr().out.split())
    assert main(["evaluate", "moons", str(run), "--bootstrap", "1"]) == 1
    assert "at least 2 of each" in capsys.readouterr().err
