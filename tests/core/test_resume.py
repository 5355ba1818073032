"""Stopped anywhere and picked up from the folder alone, a run is the run that was never stopped, bit for bit."""

import pytest
import torch
from isometry.average import Average
from torch import nn


class Normed(nn.Module):
    """A network with running statistics, which a checkpoint must carry too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 8), nn.Linear(8, 1)
        )

    def forward(self, x):
        return self.layers(x[:, None])[:, 0].float()


RUNS = {
    "plain": {},
    "fp16": {"precision": {"dtype": "fp16", "scale": 2.0**26, "growth_interval": 3}},
    "bf16": {"precision": {"dtype": "bf16"}},
    "fp64": {"precision": {"dtype": "fp64"}},
    "plateau": {"optim": {"rate": 0.3, "schedule": {"name": "plateau", "patience": 0}}, "fit": {"patience": 9}},
    "wsd": {"optim": {"schedule": {"name": "wsd"}}},
    "muon": {"optim": {"name": "muon"}},
    "sgd": {"optim": {"name": "sgd"}, "fit": {"average": None}},
    "rmsprop": {"optim": {"name": "rmsprop", "momentum": 0.5}},
    "adagrad": {"optim": {"name": "adagrad"}},
    "accumulate": {"fit": {"accumulate": 3, "batch_size": 10}},
    "skipping": {"data": {"poison": (5, 6)}},
    "going back": {"data": {"poison": tuple(range(0, 200, 5))}, "guard": {"patience": 2, "rollbacks": 999}},
    "workers": {"fit": {"workers": 2}},
}


def settings(changes, **fit):
    return {**changes, "fit": {"epochs": 3, **changes.get("fit", {}), **fit}}


ONCE = ("workers", "wsd", "adagrad", "bf16")  # the others are stopped at the start and at an epoch's end too
STOPS = [(name, tick) for name in RUNS for tick in ((20,) if name in ONCE else (1, 13, 20))]


@pytest.mark.parametrize(("name", "tick"), STOPS)
def test_a_stopped_run_goes_on_bit_for_bit(run, same_bits, name, tick):
    whole = run("whole", **settings(RUNS[name])).until_end()
    stopped = run("stopped", **settings(RUNS[name])).stopped_at(tick).until_end()
    same_bits(stopped.fit.state(), whole.fit.state())
    assert stopped.reason == whole.reason


@pytest.mark.parametrize("tick", [5, 26])
def test_running_statistics_go_on_bit_for_bit(run, with_task, same_bits, tick):
    def change(task):
        torch.manual_seed(0)
        return with_task(model=Normed())(task)

    whole = run("whole", change, fit={"epochs": 3}).until_end()
    stopped = run("stopped", change, fit={"epochs": 3}).stopped_at(tick).until_end()
    same_bits(stopped.fit.state(), whole.fit.state())


def test_going_back_before_the_first_score_does_not_depend_on_when_a_checkpoint_was_saved(run, same_bits):
    bad = {"data": {"poison": tuple(range(0, 200, 4))}, "guard": {"patience": 2, "rollbacks": 999}}
    patient = {"epochs": 4, "evaluate_every": 4}
    rare = run("rare", **bad, fit={**patient, "save_every": 1e9}).until_end()
    assert [event["kind"] for event in rare.of("fault")].count("rollback") >= 2
    often = run("often", **bad, fit={**patient, "save_every": 0.0}).until_end()
    same_bits(often.fit.state(), rare.fit.state())


def test_a_run_may_be_stopped_many_times(run, same_bits):
    whole = run("whole", fit={"epochs": 3}).until_end()
    stopped = run("stopped", fit={"epochs": 3})
    for tick in (2, 3, 13, 14, 30, 39):
        stopped.stopped_at(tick)
    same_bits(stopped.until_end().fit.state(), whole.fit.state())


def test_a_signal_during_evaluation_repeats_it(run, same_bits):
    whole = run("whole", fit={"epochs": 3}).until_end()
    stopped = run("stopped", fit={"epochs": 3})
    measure, n_calls = stopped.fit.task.objective.measure, 0

    def interrupted(model, batch):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 6:  # four batches an evaluation: in the second one
            stopped.fit.interrupt.signal = 15
        return measure(model, batch)

    object.__setattr__(stopped.fit.task.objective, "measure", interrupted)
    from isometry.interrupt import Interrupted

    with pytest.raises(Interrupted):
        stopped.fit.run()
    assert (stopped.fit.position.epoch, stopped.fit.position.batch) == (1, 13)
    stopped.fit = stopped._fit()
    stopped.fit.resume()
    same_bits(stopped.until_end().fit.state(), whole.fit.state())
    assert [event["step"] for event in stopped.of("eval")] == [13, 26, 39]


def test_a_damaged_newest_checkpoint_costs_steps_but_no_bit(run, same_bits):
    whole = run("whole", fit={"epochs": 3}).until_end()
    stopped = run("stopped", fit={"epochs": 3}).stopped_at(20)
    newest = max((stopped.folder).glob("step-*"))
    (newest / "state.safetensors").write_bytes(b"torn")
    stopped.fit = stopped._fit()
    with pytest.warns(UserWarning, match="damaged"):
        stopped.fit.resume()
    assert stopped.fit.position.step == 13
    same_bits(stopped.until_end().fit.state(), whole.fit.state())


def test_the_saved_weights_are_the_averaged_ones(run):
    done = run(fit={"epochs": 1}).until_end()
    average: Average = done.fit.average
    weights = done.fit.task.vault.newest().weights()
    assert all(torch.equal(weights[name], value) for name, value in average.values.items())
    assert any(not torch.equal(weights[name], value) for name, value in done.fit.model.state_dict().items())
