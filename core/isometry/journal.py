"""The journal of a sweep: an Optuna study in a file that several processes share and that any of them may die over."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from isometry.axes import Axis

LOCKS = ".locks"


class KernelLock(AbstractContextManager["KernelLock"]):
    """A lock held by the kernel, so free again the moment its process is gone."""

    def __init__(self, path: Path) -> None:
        self.path, self._handle = path, -1

    def take(self, *, wait: bool = True) -> bool:
        """Take it; False if another process holds it and we do not wait."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Lines(KernelLock):
    """The lock under which Optuna appends to its file; a last line that a kill tore is cut off first."""

    def __init__(self, path: Path, file: Path) -> None:
        super().__init__(path)
        self.file = file

    def acquire(self) -> bool:
        self.take()
        content = self.file.read_bytes() if self.file.is_file() else b""
        if not content.endswith(b"\n") and content:
            os.truncate(self.file, content.rfind(b"\n") + 1)
        return True


class Claim(NamedTuple):
    """A run that is this process's to train until it lets go of the lock."""

    trial: optuna.Trial
    lock: KernelLock


class Journal:
    """The runs of a sweep: which are waiting, which are under way, and how those that ended came out."""

    def __init__(self, folder: Path, direction: Literal["minimize", "maximize"]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, file = folder, folder / "journal.log"
        lock: Any = _Lines(folder / LOCKS / "journal", file)
        lock.acquire()
        lock.release()  # only to mend what a kill tore
        backend = JournalFileBackend(str(file), lock_obj=lock)
        with self._alone():
            self.study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: every point is given
                study_name="sweep",
                direction=direction,
                load_if_exists=True,
            )

    def plan(self, points: Sequence[dict[str, Any]], n_seeds: int) -> None:
        """Put every point on the list with every seed, those that are there already excepted; first seed first."""
        with self._alone():
            known = {(trial.user_attrs["point"], trial.user_attrs["seed"]) for trial in self.runs()}
            for seed in range(n_seeds):
                for place, point in enumerate(points):
                    if (place, seed) not in known:
                        self.study.enqueue_trial(point, user_attrs={"point": place, "seed": seed})

    def runs(self) -> list[FrozenTrial]:
        """Every run, in the order of their numbers."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if "point" in trial.user_attrs]

    def is_done(self) -> bool:
        return all(trial.state.is_finished() for trial in self.runs())

    def claim(self, axes: Sequence[Axis]) -> Claim | None:
        """A run that a dead process left, else the next that waits; None where the others have them all."""
        with self._alone():
            for run in self.runs():
                if run.state == TrialState.RUNNING and (lock := self._taken(run.number)) is not None:
                    if self.runs()[run.number].state == TrialState.RUNNING:
                        return Claim(optuna.Trial(self.study, run._trial_id), lock)
                    lock.release()  # it ended between our reading and our locking
            if not any(run.state == TrialState.WAITING for run in self.runs()):
                return None
            trial = self.study.ask({axis.setting: _distribution(axis) for axis in axes})
            return Claim(trial, cast(KernelLock, self._taken(trial.number)))

    def succeed(self, claim: Claim, score: float, **facts: Any) -> None:
        """Write down a run's score and whatever else is known of it, and let go of it."""
        self._note(claim, facts)
        self.study.tell(claim.trial.number, score)
        claim.lock.release()

    def fail(self, claim: Claim, reason: str) -> None:
        """Write down why a run has no score, and let go of it."""
        self._note(claim, {"reason": reason})
        self.study.tell(claim.trial.number, state=TrialState.FAIL)
        claim.lock.release()

    def _note(self, claim: Claim, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            claim.trial.set_user_attr(name, value)

    def _alone(self) -> KernelLock:
        return KernelLock(self.folder / LOCKS / "plan")

    def _taken(self, number: int) -> KernelLock | None:
        lock = KernelLock(self.folder / LOCKS / str(number))
        return lock if lock.take(wait=False) else None


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.choices:
        return CategoricalDistribution(axis.choices)
    if axis.is_integer:
        return IntDistribution(round(axis.low), round(axis.high), log=axis.is_log)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log)
