"""Small training runs of the wave app, in this process and in others, and their comparison bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from isometry.checkpoint import Vault
from isometry.events import Event
from isometry.fit import Fit, Task
from isometry.fleet import Fleet
from isometry.interrupt import Interrupted
from isometry.randomness import seed_everything
from isometry.tree import flattened
from isometry_wave.dataset import collate, poisoned, simulated
from isometry_wave.train import APP

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

Change = Callable[[Task], Task]


class Run:
    """A Fit of the wave app in a folder, and what it told."""

    def __init__(self, folder: Path, change: Change = lambda task: task, **changes: Any) -> None:
        self.folder, self.change, self.changes = folder, change, changes
        self.events: list[Event] = []
        self.listeners: list[Callable[[Event], None]] = [self.events.append]
        self.fit = self._fit()

    def _fit(self) -> Fit:
        settings = APP.learn(APP.presets["tiny"].changed(**self.changes), APP.data(APP.presets["tiny"]))
        seed_everything(settings.seed)
        of = settings.data
        task = Task(
            model=APP.model(settings),
            objective=APP.objective(settings),
            train=poisoned(simulated(of.n, 1, of.noise), of.poison),
            valid=simulated(50, 2, of.noise),
            collate=collate,
            fit=settings.fit,
            optim=settings.optim,
            precision=settings.precision,
            guard=settings.guard,
            seed=settings.seed,
            fleet=Fleet(0, 1, torch.device("cpu"), "ddp"),
            vault=Vault(self.folder),
            emit=lambda event: [listener(event) for listener in self.listeners] and None,
            log_every=settings.log.every,
        )
        return Fit(self.change(task))

    def until_end(self) -> Run:
        self.reason = self.fit.run()
        return self

    def stopped_at(self, tick: int) -> Run:
        """Stopped by a signal after that many batches, then picked up by a new Fit that knows only the folder."""
        self.fit.loader = _Signalling(self.fit, tick)  # type: ignore[assignment]
        with pytest.raises(Interrupted):
            self.fit.run()
        self.fit = self._fit()
        assert self.fit.resume() is not None
        return self

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


class _Signalling:
    """A loader during whose nth batch (counted over the whole run) a signal comes."""

    def __init__(self, fit: Fit, tick: int) -> None:
        self.fit, self.loader, self.tick = fit, fit.loader, tick

    def fetch(self, batches: Any, epoch: int) -> Iterator[Any]:
        for batch in self.loader.fetch(batches, epoch):
            if self.fit._tick + 1 == self.tick:
                self.fit.interrupt.signal = 15
            yield batch


@pytest.fixture
def ram(tmp_path) -> Iterator[Path]:
    """A folder in memory, where there is one: these tests save hundreds of checkpoints, each flushed to the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory, prefix="isometry-test-") as folder:
        yield Path(folder)


@pytest.fixture
def run(ram) -> Callable[..., Run]:
    """`run("name", fit={...})`: a run of the wave app, not yet begun, in a folder of that name."""
    return lambda name="run", change=lambda task: task, **changes: Run(ram / name, change, **changes)


@pytest.fixture
def with_task() -> Callable[..., Change]:
    """A change of the task's parts, for `run`."""
    return lambda **parts: lambda task: replace(task, **parts)


def bits(state: Any) -> dict[str, Any]:
    """A nested state as comparable data: every tensor as its bytes, every number exactly."""
    tensors, skeleton = flattened(state)
    return {"skeleton": json.dumps(skeleton, sort_keys=True)} | {
        name: (tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(torch.uint8).numpy().tobytes())
        if tensor.ndim
        else (tensor.dtype, tensor.item())
        for name, tensor in tensors.items()
    }


@pytest.fixture
def same_bits() -> Callable[[Any, Any], None]:
    """Asserts that two states are equal bit for bit, naming what differs."""

    def check(one: Any, other: Any) -> None:
        left, right = bits(one), bits(other)
        differing = [name for name in left.keys() | right.keys() if left.get(name) != right.get(name)]
        assert not differing, differing[:10]

    return check
