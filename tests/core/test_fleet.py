"""Several processes do what one does: same batches, same losses, same weights, one writer."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
import torch
from isometry.checkpoint import Vault
from isometry.events import read_events
from isometry.fleet import Fleet, choose_device

FOREIGN = str(Path(__file__).parent.parent / "foreign")
SAME = 2e-5  # relative, of fp32 losses summed in another order over some 40 steps
SAME_WEIGHTS = 1e-4

# An odd batch size, micro-batches that do not divide it, and a last batch smaller than processes x micro-batches.
FLAGS = [
    "--data.n",
    "65",
    "--model.dropout",
    "0",
    "--fit.batch-size",
    "15",
    "--fit.accumulate",
    "4",
    "--fit.epochs",
    "6",
]
FLAGS += ["--log.every", "1", "--optim.clip", "0.5", "--json"]
N_BATCHES = 6 * 5


@pytest.fixture
def tmp_path(ram):
    return ram


def together(folder: Path, *flags: str, **environment: str) -> subprocess.Popen:
    """The same command in two processes that exchange gradients."""
    path = os.pathsep.join([FOREIGN, os.environ.get("PYTHONPATH", "")])
    variables = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | environment
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "isometry", "train", "wave", "--out", str(folder), *FLAGS, *flags]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def alone(folder: Path, *flags: str, **environment: str) -> int:
    started = forked.start(["train", "wave", "--out", str(folder), *FLAGS, *flags], folder.parent, **environment)
    return started.wait()


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single") / "run"
    assert alone(folder) == 0
    return folder


def losses(run: Path) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in read_events(run / "events.jsonl") if event["event"] == "step"}


def assert_same_run(run: Path, reference: Path) -> None:
    assert losses(run) == pytest.approx(losses(reference), rel=SAME)
    assert len(losses(run)) == N_BATCHES
    assert scores(run)["test"] == pytest.approx(scores(reference)["test"], rel=SAME_WEIGHTS)
    found, expected = (Vault(folder / "checkpoints").best() for folder in (run, reference))
    assert found is not None
    assert expected is not None
    assert found.step == expected.step
    for name, tensor in expected.weights().items():
        torch.testing.assert_close(found.weights()[name], tensor, rtol=SAME_WEIGHTS, atol=SAME_WEIGHTS)


def scores(run: Path) -> dict:
    return json.loads((run / "scores.json").read_text())["scores"]


@pytest.mark.parametrize("shard", ["ddp", "fsdp2"])
def test_two_processes_are_the_same_run_as_one(single, tmp_path, shard):
    two = together(tmp_path / "two", "--fleet.shard", shard)
    out, err = two.communicate(timeout=240)
    assert two.returncode == 0, err[-2000:]
    assert_same_run(tmp_path / "two", single)
    assert json.loads(out)["scores"] == scores(tmp_path / "two"), "one process speaks, once"
    kinds = [event["event"] for event in read_events(tmp_path / "two" / "events.jsonl")]
    assert (kinds.count("start"), kinds.count("stop")) == (1, 1), "one process writes"


def test_a_run_moves_from_one_process_to_two_and_back(single, tmp_path):
    run = tmp_path / "run"
    assert alone(run, WAVE_SIGNAL="15@40") == 143  # in the second epoch's middle
    assert 5 < at(run) < 15
    two = together(run, WAVE_SIGNAL="15@30")
    _, err = two.communicate(timeout=240)
    assert two.returncode != 0
    assert "the same command goes on from here" in err
    assert 10 < at(run) < 25
    assert alone(run) == 0
    assert_same_run(run, single)


@pytest.mark.slow
def test_sharded_and_whole_models_share_their_checkpoints(single, tmp_path):
    run = tmp_path / "run"
    for shard in ("fsdp2", "ddp"):
        two = together(run, "--fleet.shard", shard, WAVE_SIGNAL="15@25")
        _, err = two.communicate(timeout=240)
        assert "the same command goes on from here" in err
    two = together(run, "--fleet.shard", "fsdp2")
    assert two.wait(240) == 0
    assert_same_run(run, single)


@pytest.mark.slow
def test_sigterm_to_torchrun_saves(tmp_path):
    run = tmp_path / "run"
    two = together(run, "--fit.epochs", "2000", "--fit.save-every", "1e9", WAVE_SLEEP="0.01")
    until = time.monotonic() + 120
    while not (run / "checkpoints").is_dir() or at(run) < 10:
        assert time.monotonic() < until
        time.sleep(0.1)
    two.send_signal(signal.SIGTERM)
    _, err = two.communicate(timeout=120)
    assert two.returncode != 0
    assert "stopped by SIGTERM; the same command goes on from here" in err
    assert read_events(run / "events.jsonl")[-1]["reason"] == "SIGTERM"


@pytest.mark.slow
def test_a_fault_on_one_process_is_skipped_by_all_and_named(tmp_path):
    two = together(tmp_path / "two", "--data.poison", "7")
    _, err = two.communicate(timeout=240)
    assert two.returncode == 0, err[-2000:]
    faults = [event for event in read_events(tmp_path / "two" / "events.jsonl") if event["event"] == "fault"]
    assert [fault["records"] for fault in faults] == [["record 7"]] * 6


def at(run: Path) -> int:
    newest = Vault(run / "checkpoints").newest()
    return newest.step if newest is not None else 0


def test_alone_every_exchange_is_a_plain_no_op():
    fleet = Fleet(0, 1, torch.device("cpu"), "ddp")
    model, values = torch.nn.Linear(1, 1), torch.ones(2)
    assert fleet.is_lead
    assert fleet.wrap(model) is model
    assert fleet.sum(values) is values
    assert fleet.gather("mine") == ["mine"]
    assert fleet.broadcast("mine") == "mine"


def test_a_device_is_chosen_or_refused():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="not known; expected auto"):
        choose_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU; use --device cpu"):
            choose_device("cuda:1")
