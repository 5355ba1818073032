"""What the guard promises: nothing that is not finite touches the weights, and who caused it is named."""

import pytest
import torch
from isometry.guard import WINDOW, Growth, Guard, GuardSettings
from isometry.objective import Loss, Objective
from isometry_wave.objective import loss as wave_loss
from isometry_wave.objective import measure, score
from torch import nn

BAD = 7  # the poisoned record


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x[:, None])[:, 0]


def objective(loss) -> Objective:
    return Objective(loss, measure, score, decides="rmse")


def endless_slope(model, batch):
    """A finite loss whose gradient is not: the square root's slope at zero."""
    value = model(batch["x"])
    return Loss(value**2 + (value - value.detach()).abs().sqrt())


def held(fit):
    state = fit.state()
    return {key: state[key] for key in ("model", "optimizers", "average")}


def step_with(fit, records) -> str:
    ((n_global, batch),) = fit._fetch([torch.tensor(records).numpy()])
    return fit.stepper(batch, n_global)


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_that_is_not_finite_touches_nothing(run, with_task, same_bits, name, kind):
    torch.manual_seed(0)
    loss = wave_loss if kind == "loss" else endless_slope
    fit = run(change=with_task(model=Normed()), optim={"name": name}, data={"poison": (BAD,)}).fit
    assert step_with(fit, [1, 2, 3]).verdict == "step"  # the optimizer has a memory now
    before = {key: {**value} if isinstance(value, dict) else value for key, value in held(fit).items()}
    before = torch.utils._pytree.tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, before)
    fit.stepper.loss = loss
    outcome = step_with(fit, [4, BAD, 9])
    assert (outcome.verdict, outcome.fault) == ("skip", kind)
    assert outcome.records == ([BAD] if kind == "loss" else [4, BAD, 9])
    same_bits(held(fit), before)
    fit.stepper.loss = wave_loss
    assert step_with(fit, [1, 2, 3]).verdict == "step"


def test_the_log_names_the_record(run):
    done = run(data={"poison": (BAD,)}, fit={"epochs": 2}).until_end()
    faults = done.of("fault")
    assert [(fault["kind"], fault["records"]) for fault in faults] == [("loss", [f"record {BAD}"])] * 2
    assert "record 7" in faults[0]["message"]
    assert done.fit.position.step == 2 * 13 - 2, "a skipped step is not counted"
    assert done.fit.guard.n_skipped == 2


def test_the_data_set_may_call_its_records_by_name(run, with_task):
    def change(task):
        task.train.name = lambda index: f"wave.csv:{index + 2}"
        return task

    done = run(change=change, data={"poison": (BAD,)}, fit={"epochs": 1}).until_end()
    assert done.of("fault")[0]["records"] == ["wave.csv:9"]


def poisoned_at(run, ticks, **changes):
    """A run whose losses are infinite at these batches, whatever the records."""

    def change(task):
        def loss(model, batch):
            found = wave_loss(model, batch)
            return Loss(found.each * float("inf")) if made.fit._tick in ticks else found

        object.__setattr__(task, "objective", objective(loss))
        return task

    made = run(change=change, **changes)
    return made


def test_several_in_a_row_go_back_to_the_best_and_past_the_window(run):
    done = poisoned_at(run, range(30, 35), fit={"epochs": 4}, log={"every": 1}).until_end()
    kinds = [fault["kind"] for fault in done.of("fault")]
    assert kinds == ["loss"] * 5 + ["rollback"]
    best = 26  # the second epoch's end
    assert done.of("fault")[-1]["step"] == best
    taken = [event["step"] for event in done.of("step")]
    assert taken[:31] == [*range(1, 31), best + 1], "the next step starts from the best state"
    assert done.fit.position.step == 4 * 13 - 5 - (30 - best), "and the records of the window are not met again"
    assert done.fit.guard.n_rollbacks == 1


def test_what_stays_bad_ends_with_a_clear_error(run):
    bad = poisoned_at(run, range(20, 10_000), fit={"epochs": 4})
    with pytest.raises(FloatingPointError, match=r"stayed non-finite after 3 returns .*records? .*--optim\.rate"):
        bad.fit.run()
    assert [fault["kind"] for fault in bad.of("fault")].count("rollback") == 3
    assert bad.fit.task.vault.newest() is not None
    weights = bad.fit.task.vault.best().weights()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())


def test_single_faults_never_add_up(run):
    done = run(data={"poison": (BAD,)}, fit={"epochs": 8}, guard={"patience": 2, "rollbacks": 0}).until_end()
    assert done.fit.guard.n_skipped == 8
    assert done.reason == "finished"


# The judge alone


def verdicts(guard, *steps):
    return [guard.judge(loss_is_finite=loss, gradient_is_finite=grad, scale=scale) for loss, grad, scale in steps]


def test_patience_counts_faults_in_a_row():
    guard = Guard(GuardSettings(patience=3, rollbacks=1))
    bad, good = (False, False, None), (True, True, None)
    assert verdicts(guard, bad, bad, good, bad, bad, bad) == ["skip", "skip", "step", "skip", "skip", "rollback"]
    assert verdicts(guard, bad, bad, bad) == ["skip", "skip", "stop"]


def test_an_overflow_is_no_fault_until_the_scale_is_tiny():
    guard = Guard(GuardSettings(patience=1, rollbacks=1, smallest_scale=1.0))
    assert verdicts(guard, (True, False, 2.0), (True, False, 1.0)) == ["overflow", "overflow"]
    assert guard.n_skipped == 0
    assert verdicts(guard, (True, False, 0.5)) == ["rollback"]
    assert verdicts(guard, (False, False, 2.0)) == ["stop"], "a loss that is not finite is a fault at any scale"


def test_the_guard_remembers_its_counts():
    guard = Guard(GuardSettings())
    verdicts(guard, (False, True, None), (True, False, 8.0))
    other = Guard(GuardSettings())
    other.load_state_dict(guard.state_dict())
    assert other.state_dict() == guard.state_dict()
    assert (other.n_skipped, other.n_overflows, other.in_a_row) == (1, 1, 1)


# The loss that grows


def told_at(losses, growth=None) -> list[int]:
    """The windows at whose end a divergence is told, one loss for each."""
    growth = growth or Growth()
    return [at for at, loss in enumerate(losses) if [growth.has_begun(loss) for _ in range(WINDOW)][-1]]


def test_a_loss_that_grows_without_bound_is_told_once_and_again_when_it_returns():
    growing = [1.0, 0.5, *(0.5 * 2**n for n in range(1, 9))]
    (at,) = told_at(growing)
    assert growing[at] > 0.5 + 10 * 0.5 >= growing[at - 1], "as soon as it is ten times its scale above its lowest"
    assert len(told_at([*growing, 1.0, *growing])) == 2


@pytest.mark.parametrize(
    "losses",
    [
        [1.0, 1e-6, 1e-4, 1e-3, 2e-3, 3e-3],  # wanders where it is almost zero
        [-1.0, -3.0, -2.0, 0.0, 5.0, 9.0],  # negative, as a likelihood may be
        [1.0, 1.0, 50.0, 1.0, 50.0, 49.0, 1.0],  # freak batches that do not go on
        [5.0] * 6,
    ],
)
def test_a_healthy_loss_is_not_called_diverging(losses):
    assert told_at(losses) == []


def test_the_watch_on_the_loss_goes_on_where_it_stopped():
    growing = [0.5 * 1.1**n for n in range(100)]
    whole, before, after = Guard(GuardSettings()), Guard(GuardSettings()), Guard(GuardSettings())
    expected = [whole.growth.has_begun(loss) for loss in growing]
    assert sum(expected) == 1
    first = [before.growth.has_begun(loss) for loss in growing[:23]]
    after.load_state_dict(before.state_dict())
    assert first + [after.growth.has_begun(loss) for loss in growing[23:]] == expected
    old = {key: value for key, value in before.state_dict().items() if key != "growth"}
    Guard(GuardSettings()).load_state_dict(old)  # of a checkpoint from before the watch
