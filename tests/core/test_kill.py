"""Runs of the command line that are killed or told to stop, and end as if nothing had happened."""

import contextlib
import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import forked
import pytest
from isometry.checkpoint import Vault
from isometry.events import read_events

# Everything that a resumed run could get wrong: dropout, average, schedule, loss scale, accumulation, skipped steps.
HARD = """
[data]
n = 120
poison = [5, 6]
[precision]
dtype = "fp16"
scale = 67108864.0
growth_interval = 5
[optim]
name = "muon"
[optim.schedule]
name = "plateau"
patience = 1
[fit]
epochs = 6
accumulate = 2
batch_size = 8
patience = 11
save_every = 0.0
[log]
every = 1
"""
N_BATCHES = 6 * 15
SLOW = "0.004"  # seconds per micro-batch, so that a run lasts long enough to be killed


@pytest.fixture
def tmp_path(ram):
    return ram


@pytest.fixture
def begin(tmp_path):
    """`begin("name", **environment)`: the hard run, started in a folder of that name."""
    (tmp_path / "hard.toml").write_text(HARD)

    def start(name: str, *flags: str, **environment: str) -> forked.Started:
        folder = tmp_path / f"{name}-said"
        folder.mkdir(exist_ok=True)
        arguments = ["train", "wave", "--config", str(tmp_path / "hard.toml"), "--out", str(tmp_path / name), *flags]
        return forked.start(arguments, folder, **environment)

    return start


def assert_same_run(one: Path, other: Path) -> None:
    """Weights by sha256, the whole state by its bytes, the log by every line but its times and saves."""
    left, right = (Vault(run / "checkpoints").newest() for run in (one, other))
    assert left is not None
    assert right is not None
    assert left.step == right.step
    for name in ("weights.safetensors", "state.safetensors"):
        assert sha256(left.path / name) == sha256(right.path / name), name
    assert told(one) == told(other)
    assert plain_state(left.path) == plain_state(right.path)
    assert scores(one) == scores(other)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def told(run: Path) -> list[dict]:
    kept = ("step", "eval", "fault")
    events = [event for event in read_events(run / "events.jsonl") if event["event"] in kept]
    return [{k: v for k, v in event.items() if k not in ("time", "samples_per_s")} for event in events]


def scores(run: Path) -> dict:
    return json.loads((run / "scores.json").read_text())["scores"]


def plain_state(checkpoint: Path) -> dict:
    state = json.loads((checkpoint / "state.json").read_text())
    state["dict"].pop("log_size")
    return state


def killed_again_and_again(begin, name: str, n_kills: int, seed: int, *flags: str) -> None:
    """SIGKILL at random moments, wherever the run then is, until it has been killed so often; then to the end."""
    chance = random.Random(seed)
    kills = 0
    while kills < n_kills:
        started = begin(name, *flags, WAVE_SLEEP=SLOW)
        time.sleep(chance.uniform(0.1, 0.7))
        started.send(signal.SIGKILL)
        kills += started.wait() == -signal.SIGKILL
        assert started.process.exitcode in (0, -signal.SIGKILL), started.stderr.read_text()
        if started.process.exitcode == 0:
            pytest.fail(f"the run ended after {kills} kills: it is too short to be killed more often")
    last = begin(name, *flags)
    assert last.wait() == 0, last.stderr.read_text()


def test_three_kills_change_no_bit(begin, tmp_path):
    whole = begin("whole")
    killed_again_and_again(begin, "killed", 3, 1)
    assert whole.wait() == 0, whole.stderr.read_text()
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    faults = [event["kind"] for event in told(tmp_path / "whole") if event["event"] == "fault"]
    assert {"loss", "overflow"} <= set(faults), "the run met what it was meant to meet"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_twenty_kills_change_no_bit(begin, tmp_path, workers):
    flags = ["--fit.epochs", "80", "--fit.patience", "80"]
    assert begin("whole", *flags).wait(300) == 0
    killed_again_and_again(begin, "killed", 20, 7, *flags, "--fit.workers", workers, "--fit.save-every", "0.1")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(begin, tmp_path, number, code):
    whole = begin("whole")
    stopped = begin("stopped", "--fit.save-every", "1e9", WAVE_SIGNAL=f"{int(number)}@55")
    assert stopped.wait() == code
    said = stopped.stderr.read_text().splitlines()
    assert said[-1] == f"isometry: stopped by {number.name}; the same command goes on from here"
    saved = Vault(tmp_path / "stopped" / "checkpoints").newest()
    assert saved is not None
    assert 0 < saved.step < N_BATCHES
    assert read_events(tmp_path / "stopped" / "events.jsonl")[-1]["reason"] == number.name
    last = begin("stopped", "--fit.save-every", "1e9")
    assert (last.wait(), whole.wait()) == (0, 0)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_signal_to_the_whole_group_spares_the_workers(tmp_path):
    """`timeout` and a terminal's Ctrl-C signal the loading processes too."""
    run = tmp_path / "run"
    flags = ["--fit.epochs", "500", "--fit.workers", "1", "--json"]
    started = forked.start(["train", "wave", "--out", str(run), *flags], tmp_path, WAVE_GROUP="1", WAVE_SLEEP="0.01")
    wait_for(run / "checkpoints" / "step-00000013")
    started.send_to_group(signal.SIGTERM)
    assert started.wait() == 143, started.stderr.read_text()


def wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


def test_a_second_ctrl_c_acts_at_once(tmp_path):
    run = tmp_path / "run"
    started = forked.start(["train", "wave", "--out", str(run), "--json"], tmp_path, WAVE_SLEEP="30")
    wait_for(run / "checkpoints" / "step-00000000")
    time.sleep(0.3)  # inside the first batch, which takes half a minute
    started.send(signal.SIGINT)
    time.sleep(0.3)
    assert started.process.is_alive(), "the first one waits for the step to end"
    started.send(signal.SIGINT)
    assert started.wait(20) == 130
    assert started.stderr.read_text() == "isometry: interrupted\n"


# A disk that is full


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


def test_a_full_disk_ends_the_run_in_one_line_and_freeing_it_goes_on(small_disk, tmp_path):
    flags = ["--fit.save-every", "0", "--json", "--fit.epochs", "3"]
    assert forked.start(["train", "wave", "--out", str(tmp_path / "whole"), *flags], tmp_path).wait() == 0

    arguments = ["train", "wave", "--out", str(small_disk / "run"), *flags]
    stopped = forked.start(arguments, tmp_path, WAVE_SIGNAL="15@8")
    assert stopped.wait() == 143, stopped.stderr.read_text()
    fill(small_disk)
    before = Vault(small_disk / "run" / "checkpoints").newest()
    full = forked.start(arguments, tmp_path)
    assert full.wait() == 1
    said = full.stderr.read_text()
    assert said.count("\n") == 1, said
    assert "No space left" in said
    assert before is not None
    assert Vault(small_disk / "run" / "checkpoints").newest() == before
    (small_disk / "ballast").unlink()
    assert forked.start(arguments, tmp_path).wait() == 0
    assert_same_run(small_disk / "run", tmp_path / "whole")


def test_a_disk_full_from_the_start_leaves_nothing(small_disk, tmp_path):
    fill(small_disk)
    full = forked.start(["train", "wave", "--out", str(small_disk / "run"), "--json"], tmp_path)
    assert full.wait() == 1
    assert full.stderr.read_text().count("\n") == 1
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
