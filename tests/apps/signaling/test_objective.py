"""What a cell pays and gains: prices, scores, and training that goes on bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry import story
from isometry.doctor.leaves import float_leaves
from isometry.interrupt import Interrupted
from isometry_signaling.dataset import collate
from isometry_signaling.objective import NATS, LossSettings, classes, measure, objective_of, score
from isometry_signaling.train import APP, PRESETS

SAME = 1e-5
QUICK = PRESETS["tiny"].changed(
    data={"n_train": 400, "n_valid": 100, "n_test": 100},
    model={"width": 8, "n_draws": 2},
    fit={"epochs": 2, "batch_size": 64},
    device="cpu",
)


@pytest.fixture(scope="module")
def case():
    data = APP.data(QUICK)
    settings = APP.learn(QUICK, data)
    torch.manual_seed(0)
    return APP.model(settings).eval(), collate([data.train[i] for i in range(32)])


def test_prices_are_added_to_what_a_cell_pays(case) -> None:
    model, batch = case
    settings = {"free": LossSettings(beta=4.0), "bit": LossSettings(beta=4.0, price_bit=0.5)}
    settings["activity"] = LossSettings(beta=4.0, price_activity=0.25)
    losses = {name: objective_of(of).loss(model, batch).each * 5 / batch.weight for name, of in settings.items()}
    rows = measure(settings["free"], model, batch)
    torch.testing.assert_close(losses["bit"] - losses["free"], 0.5 * NATS * rows["rate"], rtol=SAME, atol=SAME)
    expected = 0.25 * NATS * rows["activity"]
    torch.testing.assert_close(losses["activity"] - losses["free"], expected, rtol=SAME, atol=1e-4)


def test_a_price_of_a_bit_is_a_smaller_beta(case) -> None:
    model, batch = case
    dear, small = LossSettings(beta=6.0, price_bit=1.0), LossSettings(beta=3.0)
    loss = [objective_of(of).loss(model, batch) for of in (dear, small)]
    rows = measure(small, model, batch)
    bottleneck = [(of.each / batch.weight - of.parts["genes_nll"] / batch.weight) for of in loss]
    torch.testing.assert_close(bottleneck[0] * 7 / 2, bottleneck[1] * 4, rtol=1e-4, atol=1e-4)
    assert rows["rate"].shape == (32,)


def test_scores_are_weighted_means_and_bounds_stand_outside_them(case) -> None:
    model, batch = case
    with torch.no_grad():
        rows = {name: row.double().numpy() for name, row in measure(QUICK.loss, model, batch).items()}
    rows["stratum"] = np.repeat([0, 1], 16)
    found = score(QUICK.loss, rows)
    weight = rows["weight"] / rows["weight"].sum()
    assert found["rate"] == pytest.approx(float(weight @ rows["rate"]), abs=1e-3)
    assert found["rate_upper"] > found["rate"]
    assert found["relevance_lower"] == 0 > found["relevance"]  # untrained: 0 is the better bound
    assert found["lagrangian"] == pytest.approx(found["rate"] - 8 * found["relevance"])


def test_a_temperature_changes_what_is_told_and_no_bound(case) -> None:
    """Calibration comes after the average over states; the decoder in the certificates stays as it was trained."""
    model, batch = case
    before, kept = measure(QUICK.loss, model, batch), model(batch.ligand, batch.noise, batch.environment, batch.genes)
    logits, labels = classes(model, batch)["posterior"]
    torch.testing.assert_close(model.told(kept), logits.softmax(-1), rtol=SAME, atol=SAME)
    assert torch.equal(labels, batch.environment.argmax(1))
    model.posterior.temperature.fill_(2.0)
    torch.testing.assert_close(model.told(kept), (logits / 2).softmax(-1), rtol=SAME, atol=SAME)
    after = measure(QUICK.loss, model, batch)
    model.posterior.temperature.fill_(1.0)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_environment_that_is_not_sure_calibrates_nothing(case) -> None:
    model, batch = case
    unsure = batch._replace(environment=torch.full_like(batch.environment, 0.25))
    assert (classes(model, unsure)["posterior"].labels == -1).all()


def test_cells_without_an_environment_give_no_scores(case) -> None:
    model, batch = case
    nowhere = batch._replace(environment=torch.full_like(batch.environment, torch.nan))
    with torch.no_grad():
        rows = {name: row.double().numpy() for name, row in measure(QUICK.loss, model, nowhere).items()}
    assert score(QUICK.loss, rows) == {}
    assert float_leaves(batch)


@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isometry.fit import Fit

    story.train(APP, QUICK, tmp_path / "whole", is_quiet=True)
    close = Fit._close_epoch

    def stop_after_one(fit: Fit) -> None:
        close(fit)
        fit.save(None, {})
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(Fit, "_close_epoch", stop_after_one)
    with pytest.raises(Interrupted):
        story.train(APP, QUICK, tmp_path / "parts", is_quiet=True)
    monkeypatch.setattr(Fit, "_close_epoch", close)
    story.train(APP, QUICK, tmp_path / "parts", is_quiet=True)
    one, other = (story.load(APP, tmp_path / name, device="cpu").model.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
