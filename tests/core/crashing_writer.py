"""A process whose children save checkpoints and die: run by test_crash.py, never imported.

    python crashing_writer.py kill FOLDER REPETITIONS   kill -9 at random instants, all in one run folder
    python crashing_writer.py exit FOLDER               die just before every single call that touches the folder
    python crashing_writer.py fail FOLDER ERRNO         let every single such call fail once

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


def save_third(folder, at, how):
    """Exit code: 0 the save met nothing, 9 died there, 3 it raised a clear error, 4 it went on in spite of an error."""
    left, told = [at], []

    def meet(event, arguments):
        in_folder = arguments and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder))
        removes = event in ("os.remove", "os.rmdir")  # by names relative to an open folder
        if not (in_folder or removes) or event in ("os.listdir", "os.scandir", "shutil.rmtree"):
            return
        left[0] -= 1
        if left[0] == -1:
            how()

    vault = Vault(folder / "checkpoints", keep=2, tell=told.append)
    sys.addaudithook(meet)
    try:
        save(vault, 3, n=10)
    except OSError as error:
        line = str(error)
        left[0] = -9
        assert "bytes needed" in line, line
        assert "bytes free" in line, line
        assert not [name for name in os.listdir(vault.folder) if name.startswith(".tmp-")]
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
    elif mode == "exit":
        die_everywhere(where, lambda: os._exit(9))
    else:
        die_everywhere(where, lambda: fail(getattr(errno, sys.argv[3])))
