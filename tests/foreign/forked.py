"""The command line in processes of their own that start at once: forked from a server that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from isometry.cli import main

_context = multiprocessing.get_context("forkserver")
# torch._dynamo is what torch.optim imports when first used: most of the time of a short run.
_context.set_forkserver_preload(
    ["forked", "isometry.story", "isometry.report", "isometry.flags", "isometry_wave.train", "torch._dynamo"]
)


@dataclass
class Started:
    """A running command; what it printed lies in files."""

    process: BaseProcess
    stdout: Path
    stderr: Path

    def send(self, number: signal.Signals) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid or 0, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """To the process and all that it started; it must have been started with WAVE_GROUP."""
        os.killpg(self.process.pid or 0, number)

    def wait(self, seconds: float = 60) -> int:
        """The exit code; minus the number of the signal that killed it."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"still running after {seconds} s: {self.stderr.read_text()}")
        assert self.process.exitcode is not None
        return self.process.exitcode


def start(arguments: Sequence[str], folder: Path, **environment: str) -> Started:
    """`isometry ARGUMENTS`, with its output in `folder`."""
    stdout, stderr = folder / "stdout.txt", folder / "stderr.txt"
    process = _context.Process(target=_run, args=(list(arguments), str(stdout), str(stderr), environment))
    process.start()
    return Started(process, stdout, stderr)


def _run(arguments: list[str], stdout: str, stderr: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    if "WAVE_GROUP" in environment:
        os.setpgid(0, 0)
    for path, stream in ((stdout, sys.stdout), (stderr, sys.stderr)):
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, stream.fileno() if stream is not None else 1)
    sys.exit(main(arguments))
