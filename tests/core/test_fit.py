"""What the training loop promises: the same run whatever is watched, loaded or accumulated, and an honest end."""

import numpy as np
import pytest
import torch
from isometry.objective import Loss, Objective
from isometry_wave.dataset import Points
from torch import nn

SAME_SUM = 1e-5  # relative: fp32 sums in another order, over some 30 steps


def final(run):
    return run.until_end().fit.state()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_epoch_takes_as_many_steps_as_it_has_batches(run, accumulate):
    done = run(fit={"epochs": 3, "batch_size": 16, "accumulate": accumulate}, data={"n": 100}, log={"every": 1})
    done.until_end()
    assert done.fit.position.step == 3 * 7
    assert [event["step"] for event in done.of("step")] == list(range(1, 22))


def test_accumulation_gives_the_same_weights(run):
    quiet = {"model": {"dropout": 0.0}, "optim": {"name": "sgd"}}
    one, four = (final(run(f"a{n}", fit={"epochs": 3, "accumulate": n}, **quiet))["model"] for n in (1, 4))
    for name in one:
        torch.testing.assert_close(four[name], one[name], rtol=SAME_SUM, atol=SAME_SUM)


@pytest.mark.parametrize(
    "watched",
    [
        {"fit": {"evaluate_every": 3}},
        {"fit": {"save_every": 0.0}},
        {"log": {"every": 1}},
        {"fit": {"workers": 2}},
    ],
    ids=["evaluation", "saving", "logging", "workers"],
)
def test_watching_and_loading_change_no_bit(run, same_bits, watched):
    plain = final(run("plain", fit={"epochs": 4}))
    other = final(run("other", **{**watched, "fit": {"epochs": 4, **watched.get("fit", {})}}))
    same_bits(
        {key: plain[key] for key in ("model", "optimizers", "average", "random")},
        {key: other[key] for key in ("model", "optimizers", "average", "random")},
    )


def test_another_seed_is_another_run(run):
    one, other = (final(run(f"s{seed}", seed=seed, fit={"epochs": 1}))["model"] for seed in (0, 1))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_evaluation_leaves_mode_weights_and_random_state(run):
    fit = run().fit
    fit.model.train()
    weights = {name: tensor.clone() for name, tensor in fit.model.state_dict().items()}
    before = torch.get_rng_state()
    fit.evaluate(fit.task.valid)
    assert fit.model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in fit.model.state_dict().items())


def test_scores_are_those_of_the_averaged_weights(run):
    done = run(fit={"epochs": 2}).until_end()
    with done.fit.averaged():
        residual = done.fit.model.eval()(done.fit.task.valid.x) - done.fit.task.valid.y
    expected = residual.square().mean().sqrt().item()
    assert done.of("eval")[-1]["scores"]["rmse"] == pytest.approx(expected, rel=1e-6)


def test_every_epoch_tells_its_mean_squared_gradient(run):
    done = run(fit={"epochs": 4, "evaluate_every": 2}).until_end()
    told = done.of("eval")
    assert [event["split"] for event in told] == ["train", "valid", "train", "valid"]
    assert all(event["mean_square_gradient"] > 0 for event in told)
    assert all("loss" in event for event in told if event["split"] == "train")


def test_training_without_a_validation_set_ends_with_its_last_weights(run, with_task):
    done = run(change=with_task(valid=None), fit={"epochs": 2}).until_end()
    assert done.fit.task.vault.best().step == done.fit.task.vault.newest().step == 26


# A quadratic bowl, where theory says what each rate does


class Bowl(nn.Module):
    """One weight."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([start]))


CURVATURE = 4.0  # the largest (only) eigenvalue of the Hessian


def bowl_loss(model, batch):
    return Loss(0.5 * CURVATURE * model.w**2 + 0 * batch["x"])


BOWL = Objective(
    bowl_loss,
    lambda model, batch: {"w": model.w.expand(len(batch["x"]))},
    lambda rows: {"distance": float(np.abs(rows["w"]).mean())},
    decides="distance",
)


def on_the_bowl(run, with_task, rate: float, n_steps: int, start: float = 1.0):
    points = Points(np.zeros(n_steps), np.zeros(n_steps))
    change = with_task(model=Bowl(start), objective=BOWL, train=points, valid=Points(np.zeros(1), np.zeros(1)))
    plain = {"name": "sgd", "momentum": 0.0, "clip": None, "schedule": {"name": "constant", "warmup": 0.0}}
    return run(
        change=change,
        optim={**plain, "rate": rate},
        fit={"epochs": 2, "batch_size": 1, "average": None},
    )


def test_a_rate_below_two_over_the_curvature_converges_to_a_stationary_point(run, with_task):
    done = on_the_bowl(run, with_task, rate=1.9 / CURVATURE, n_steps=200).until_end()
    assert done.of("eval")[-1]["scores"]["distance"] < 1e-8
    assert done.of("eval")[-1]["mean_square_gradient"] < 1e-8


def test_a_rate_above_two_over_the_curvature_is_named_with_its_cure(run, with_task):
    diverging = on_the_bowl(run, with_task, rate=2.1 / CURVATURE, n_steps=1000, start=1e9)
    with pytest.raises(FloatingPointError, match=r"lower --optim\.rate"):
        diverging.fit.run()
    assert {event["kind"] for event in diverging.of("fault")} >= {"loss", "rollback"}


def test_a_small_rate_crawls(run, with_task):
    done = on_the_bowl(run, with_task, rate=0.01 / CURVATURE, n_steps=50).until_end()
    assert done.of("eval")[-1]["scores"]["distance"] == pytest.approx(0.99**100, rel=1e-4)


def test_a_memorising_run_stops_early_and_keeps_the_best(run):
    done = run(
        data={"n": 8, "noise": 0.5},
        model={"width": 64, "dropout": 0.0},
        optim={"rate": 0.01, "schedule": {"name": "constant"}},
        fit={"epochs": 400, "patience": 20, "batch_size": 8, "average": None},
        log={"every": 1},
    ).until_end()
    assert done.reason == "early stop"
    steps = done.of("step")
    assert steps[-1]["loss"] < 0.1 * steps[0]["loss"]
    scores = {event["step"]: event["scores"]["rmse"] for event in done.of("eval")}
    best = done.fit.task.vault.best()
    assert best.score == min(scores.values()) == scores[best.step]
    assert best.step < done.fit.position.step < 400
    assert done.fit.position.step - best.step == 21, "patience is how many evaluations without gain are accepted"
