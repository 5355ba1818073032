"""The learning-rate range test: where a quadratic diverges, and what its suggestion is worth."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry.checkpoint import Vault
from isometry.cli import main
from isometry.fit import FitSettings, Task
from isometry.fleet import Fleet
from isometry.guard import GuardSettings
from isometry.objective import Loss, Objective
from isometry.optim import OptimSettings
from isometry.precision import PrecisionSettings
from isometry.rate import rate_range, rate_range_of, smoothed
from isometry.verbs.rate import sparkline
from isometry_wave.train import APP
from torch import nn

# Factors beyond 2 / λ_max, where growth begins: it begins from what little is left of the loss in that direction, and
# the rate rises while it grows.
LAG_OF_THE_TURN, LAG_OF_THE_END = 3.0, 10.0


class Point(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(n))


def bowl(curvatures: list[float], **optim) -> Task:
    """Loss ½ Σ λ_i x_i², the same for every record."""
    slopes = torch.tensor(curvatures)

    def loss(model, batch):
        return Loss((0.5 * slopes * model.place**2).sum() + 0 * batch)

    return Task(
        model=Point(len(curvatures)),
        objective=Objective(loss, lambda model, batch: {}, lambda rows: {}, decides="loss"),
        train=torch.zeros(8),
        valid=None,
        collate=torch.stack,
        fit=FitSettings(batch_size=4),
        optim=OptimSettings(**{"name": "sgd", "momentum": 0.0, "clip": None} | optim),
        precision=PrecisionSettings(),
        guard=GuardSettings(),
        seed=0,
        fleet=Fleet(0, 1, torch.device("cpu"), "ddp"),
        vault=Vault(Path("nowhere")),
        emit=lambda event: pytest.fail(f"told {event}"),
    )


@pytest.mark.parametrize("steepest", [1.0, 10.0, 100.0])
def test_plain_descent_diverges_at_two_over_the_largest_curvature(steepest):
    found = rate_range(bowl([0.01 * steepest, 0.1 * steepest, steepest]), highest=1e3, n_steps=150)
    assert found.stable == pytest.approx(2 / steepest, rel=0.02)
    assert 2 / steepest < found.turn < 2 / steepest * LAG_OF_THE_TURN
    assert 2 / steepest < found.diverged < 2 / steepest * LAG_OF_THE_END
    assert found.steepest < found.suggestion < found.diverged


def test_the_network_is_left_as_it_was_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = bowl([1.0, 3.0])
    random = torch.get_rng_state()
    rate_range(task)
    assert torch.equal(task.model.place, torch.ones(2))
    assert task.model.place.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_the_test():
    task = bowl([1.0])
    broken = replace(
        task.objective,
        loss=lambda model, batch: Loss(
            torch.where(model.place < 0.9, torch.nan, 1.0) * (model.place**2).sum() + 0 * batch
        ),
    )
    found = rate_range(replace(task, objective=broken), curvature=False)
    assert found.diverged is not None
    assert np.isfinite(found.losses).all()


def test_a_loss_that_never_falls_gives_no_suggestion():
    found = rate_range(bowl([0.0]))
    assert found.suggestion is None
    assert found.stable is None


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match="expected 0 < lowest < highest"):
        rate_range(bowl([1.0]), lowest=1.0, highest=0.1)


def test_smoothing_keeps_a_constant_and_its_ends():
    assert smoothed([2.0] * 7) == pytest.approx([2.0] * 7)
    assert smoothed([]) == []
    assert len(sparkline([3.0, 2.0, 1.0, 9.0])) == 4


def final_loss(run, name: str, rate: float, seed: int) -> float:
    changes = {"optim": {"rate": rate}, "seed": seed, "fit": {"epochs": 8}}
    return run(f"{name}-{seed}", **changes).until_end().of("eval")[-1]["scores"]["rmse"]


def test_the_suggested_rate_trains_better_than_a_tenth_and_ten_times_of_it(run):
    found = rate_range_of(APP, APP.presets["tiny"], curvature=False)
    assert found.suggestion is not None
    factors = {"tenth": 0.1, "suggested": 1.0, "tenfold": 10.0}
    reached = {
        name: np.mean([final_loss(run, name, found.suggestion * factor, seed) for seed in range(3)])
        for name, factor in factors.items()
    }
    assert reached["suggested"] < reached["tenth"]
    assert reached["suggested"] < reached["tenfold"]


def test_it_tests_the_same_batches_again_and_again():
    one, other = (rate_range_of(APP, APP.presets["tiny"], curvature=False, n_steps=40) for _ in range(2))
    assert one == other
    assert one.configured == {"these settings": 0.01, "preset tiny": 0.01}


def test_the_command_prints_and_draws(tmp_path, capsys):
    assert main(["rate", "wave", "--out", str(tmp_path / "found"), "--optim.name", "sgd"]) == 0
    told = capsys.readouterr().out
    for word in ("suggested", "these settings", "--optim.rate", "sgd", "λ_max"):
        assert word in told
    page = (tmp_path / "found" / "rate.html").read_text()
    assert "Loss by learning rate" in page
    assert main(["rate", "wave", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["steepest"] < told["suggestion"] < told["diverged"]


def test_fp16_is_tested_as_it_trains():
    found = rate_range_of(APP, APP.presets["tiny"].changed(precision={"dtype": "fp16"}), curvature=False)
    assert found.suggestion is not None
