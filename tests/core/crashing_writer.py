"""A process whose children save checkpoints and die: run by test_crash.py, never imported.

    python crashing_writer.py kill FOLDER REPETITIONS   kill -9 at random instants, all in one run folder
    python crashing_writer.py exit FOLDER               die just before every single call that touches the folder
    python crashing_writer.py fail FOLDER ERRNO         let every single such call fail once
    python crashing_writer.py amend-exit FOLDER         as exit, while the best checkpoint is amended
    python crashing_writer.py amend-fail FOLDER ERRNO   as fail, while the best checkpoint is amended

Prints one JSON line per death. A broken promise is an AssertionError and a non-zero exit code.
"""

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch
from isometry.checkpoint import Vault
from isometry.runfolder import RunFolder

N_NUMBERS = 300_000  # 1.2 MB twice: a save takes long enough to be hit in all its phases


def save(vault, step, n=N_NUMBERS):
    state = {"step": step, "moment": torch.full((n,), -float(step))}
    return vault.save(step, {"w": torch.full((n,), float(step))}, state)


def check_whole(checkpoint):
    """Every number of the checkpoint belongs to its step."""
    assert (checkpoint.weights()["w"] == checkpoint.step).all()
    state = checkpoint.state()
    assert state["step"] == checkpoint.step
    assert (state["moment"] == -checkpoint.step).all()


def fork(child):
    """Run `child` in a new process; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = child() or 0
        finally:
            os._exit(status)
    return pid


def kill_at_random(folder, repetitions):
    chance = random.Random(7)
    for repetition in range(repetitions):
        ours, theirs = os.pipe()
        pid = fork(lambda end=theirs: write_for_ever(folder, end))
        os.close(theirs)
        first = os.read(ours, 8)  # the child has the lock and has saved once
        time.sleep(chance.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reported = [first, *iter(lambda end=ours: os.read(end, 8), b"")]
        os.close(ours)
        litter = [name for name in os.listdir(folder / "checkpoints") if name.startswith(".tmp-")]
        found = Vault(folder / "checkpoints", tell=refuse).newest()
        last = int.from_bytes(reported[-1], "big")
        assert found is not None
        assert found.step >= last, f"step {last} was reported saved, {found.step} is the newest"
        check_whole(found)
        print(json.dumps({"death": repetition, "reported": last, "found": found.step, "litter": len(litter)}))


def write_for_ever(folder, end):
    with RunFolder.open(folder) as run:  # refused if the lock of the killed one before were still held
        vault = Vault(run.checkpoints, keep=2, tell=refuse)
        assert not [name for name in os.listdir(run.path) if name.startswith(".tmp-")]
        assert not run.checkpoints.exists() or all(name.startswith("step-") for name in os.listdir(run.checkpoints))
        newest = vault.newest()
        step = newest.step if newest else 0
        while True:
            step += 1
            save(vault, step)
            os.write(end, step.to_bytes(8, "big"))


def die_everywhere(folder, how):
    """Let the child meet `how` at its first, second, … call that touches the folder, until it meets none."""
    for death in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        with RunFolder.open(folder) as run:
            vault = Vault(run.checkpoints, keep=2, tell=refuse)
            for step in (1, 2):
                save(vault, step, n=10)
        pid = fork(lambda at=death: save_third(folder, at, how))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with RunFolder.open(folder) as run:
            names = sorted(os.listdir(run.checkpoints))
            assert all(name.startswith("step-") for name in names), names
            vault = Vault(run.checkpoints, keep=2, tell=refuse)
            found = vault.newest()
            check_whole(found)
            assert found.step == 3 or (found.step == 2 and status != 0 and len(names) == 2)
            save(vault, 4, n=10)
            assert vault.newest().step == 4
        print(json.dumps({"death": death, "status": status, "found": found.step, "names": names}))
        if status == 0:
            return


def die_amending(folder, how):
    """As `die_everywhere`, while the best checkpoint, which is not the newest, gets another temperature."""
    for death in range(1000):
        shutil.rmtree(folder, ignore_errors=True)
        with RunFolder.open(folder) as run:
            vault = Vault(run.checkpoints, keep=1, tell=refuse)
            for step in (1, 2):
                weights = {"w": torch.full((10,), float(step)), "temperature": torch.tensor(1.0)}
                vault.save(step, weights, {"step": step, "moment": torch.full((10,), -float(step))}, score=float(step))
            told = []
            act = partial(amend, Vault(run.checkpoints, keep=1, tell=told.append), vault.best())
        pid = fork(lambda at=death, act=act, told=told: meeting(folder, at, how, act, told))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with RunFolder.open(folder) as run:
            names = sorted(os.listdir(run.checkpoints))
            vault = Vault(run.checkpoints, keep=1, tell=refuse)
            found = vault.best()
            check_whole(found)
            check_whole(vault.newest())
            assert (found.step, found.score, vault.newest().step) == (1, 1.0, 2)
            temperature = float(found.weights()["temperature"])
            assert temperature == 3.0 or (temperature == 1.0 and status != 0)
            assert (found.manifest["calibration"] == {"T": 3.0}) == (temperature == 3.0)
            amend(vault, found)
            assert sorted(os.listdir(run.checkpoints)) == ["step-00000001-2", "step-00000002"]
            assert float(vault.best().weights()["temperature"]) == 3.0
        print(json.dumps({"death": death, "status": status, "temperature": temperature, "names": names}))
        if status == 0:
            return


def amend(vault, checkpoint):
    vault.amend(checkpoint, {"temperature": torch.tensor(3.0)}, calibration={"T": 3.0})


def save_third(folder, at, how):
    told = []
    vault = Vault(folder / "checkpoints", keep=2, tell=told.append)
    return meeting(folder, at, how, lambda: save(vault, 3, n=10), told)


def meeting(folder, at, how, act, told):
    """Exit code: 0 `act` met nothing, 9 died there, 3 it raised a clear error, 4 it went on in spite of an error."""
    left = [at]

    def meet(event, arguments):
        in_folder = arguments and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder))
        removes = event in ("os.remove", "os.rmdir")  # by names relative to an open folder
        if not (in_folder or removes) or event in ("os.listdir", "os.scandir", "shutil.rmtree"):
            return
        left[0] -= 1
        if left[0] == -1:
            how()

    sys.addaudithook(meet)
    try:
        act()
    except (OSError, ValueError) as error:
        line = str(error)
        left[0] = -9
        for part in ("bytes needed", "bytes free") if isinstance(error, OSError) else ("is damaged",):
            assert part in line, line
        assert not [name for name in os.listdir(folder / "checkpoints") if name.startswith(".tmp-")]
        return 3
    if left[0] >= 0:
        return 0
    assert len(told) <= 1
    return 4


def refuse(line):
    raise AssertionError(f"a damaged checkpoint was met: {line}")


def fail(number):
    raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    torch.set_num_threads(1)
    mode, where = sys.argv[1], Path(sys.argv[2]).resolve()
    if mode == "kill":
        kill_at_random(where, int(sys.argv[3]))
    else:
        die = die_amending if mode.startswith("amend") else die_everywhere
        number = getattr(errno, sys.argv[3]) if mode.endswith("fail") else None
        die(where, lambda: os._exit(9) if number is None else fail(number))
