"""Sweep: train an app at many values of a setting, with several seeds each, and see where the validation error turns.

    swept = sweep(app, settings, ["optim.decay=1e-6:1e-1"], "sweeps/decay")
    swept.curve.minimum.theta

The folder of a sweep:
    plan.json      what was asked: app, settings, points
    journal.log    the Optuna study "sweep": which runs are waiting, under way, done, failed
    runs/<n>       the runs, ordinary run folders
    sweep.json, sweep.csv, report.html    the result

Killed and started again, a sweep goes on with exactly what is missing. The test set is never looked at.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from isometry import story
from isometry.app import App, Data
from isometry.axes import Axis, points, read_axes, with_values
from isometry.durable import TEMPORARY, write_whole
from isometry.evaluate import evaluate
from isometry.fleet import Fleet
from isometry.interrupt import Interrupt, Interrupted
from isometry.journal import LOCKS, Claim, Journal
from isometry.order import Records
from isometry.run_settings import that_matter
from isometry.settings import differences, validated
from isometry.spell import duration, number
from isometry.swept import Swept, gather, spelled

PLAN, RUNS = "plan.json", "runs"
N_TRIALS, N_SEEDS = 9, 3
WAIT = 0.5  # seconds between two looks at what other processes are doing

Tell = Callable[[str], None]


class Plan(NamedTuple):
    """What a sweep was asked to do."""

    app: App
    settings: Any
    axes: list[Axis]
    points: list[dict[str, Any]]

    def settings_of(self, point: int, seed: int) -> Any:
        """The settings of one run. Raises ValueError where they do not fit together."""
        settings = with_values(self.settings, self.axes, self.points[point])
        return settings.changed(seed=self.settings.seed + seed)


def sweep(
    app: App,
    settings: Any,
    over: Sequence[str],
    out: str | Path,
    *,
    trials: int = N_TRIALS,
    seeds: int = N_SEEDS,
    processes: int = 1,
    is_linear: bool = False,
    is_strength: bool | None = None,
    tell: Tell | None = None,
) -> Swept:
    """Train everything that is missing in the folder `out`, then write down what came of it.

    Args:
        over: the settings that vary, as `axes` describes them.
        trials: points of a range.
        seeds: runs of each point; more of them may be asked for later, in the same folder.
        processes: that train side by side; each takes one run after another.
        is_strength: whether more of the setting means more regularisation; None: judged, see `u_curve`.
        tell: hears one line about each run that ends.

    Raises:
        ValueError: a setting or value is unknown, or `out` holds a sweep of other settings.
        OSError: `out` holds something else, or cannot be written.
        Interrupted: on SIGINT or SIGTERM; the same call goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a sweep starts its own processes: use --processes instead of torchrun")
    if seeds < 1 or processes < 1:
        raise ValueError(f"--seeds {seeds} and --processes {processes} must be at least 1")
    axes = read_axes(over, settings, is_linear=is_linear)
    asked = {"app": app.name, "settings": that_matter(settings), "over": sorted(over), "linear": is_linear}
    asked["points"] = points(axes, trials)
    folder = Path(out)
    _take_folder(folder, asked, settings.model_dump(mode="json"))
    plan = Plan(app, settings, axes, asked["points"])
    journal = _journal(folder, plan)
    journal.plan(plan.points, seeds)
    try:
        if processes > 1 and not journal.is_done():
            _train_beside(folder, app.name, processes, is_quiet=tell is None)
        work(folder, plan, journal, tell or _silent)
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None
    return gather(folder, plan.app, plan.settings, plan.axes, plan.points, journal.runs(), is_strength)


def work(folder: Path, plan: Plan, journal: Journal, tell: Tell) -> None:
    """Take one run after another until all are done, and wait for those that other processes have."""
    is_told = False
    while not journal.is_done():
        claim = journal.claim(plan.axes)
        if claim is not None:
            _attempt(folder, plan, journal, claim, tell)
        elif not is_told:
            tell("waiting for the runs that other processes have under way")
            is_told = True
        else:
            time.sleep(WAIT)


def join(app: App, out: str | Path, tell: Tell = lambda line: None) -> None:
    """Help with the sweep in `out` until no run waits: what the further processes of a sweep do."""
    folder, parent = Path(out), os.getppid()
    stored = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    settings, asked = validated(app.settings, stored["settings"], str(folder / PLAN)), stored["asked"]
    axes = read_axes(asked["over"], settings, is_linear=asked["linear"])
    plan = Plan(app, settings, axes, asked["points"])
    journal = _journal(folder, plan)
    while os.getppid() == parent and (claim := journal.claim(plan.axes)) is not None:
        _attempt(folder, plan, journal, claim, tell)


def _attempt(folder: Path, plan: Plan, journal: Journal, claim: Claim, tell: Tell) -> None:
    """Train one run and note how it came out; what is wrong with this run alone does not end the sweep."""
    place, seed = (claim.trial.user_attrs[name] for name in ("point", "seed"))
    what = f"run {claim.trial.number}: {spelled(plan.points[place])}, seed {plan.settings.seed + seed}"
    started = time.monotonic()
    try:
        valid, train = _trained(plan, place, seed, folder / RUNS / str(claim.trial.number))
        journal.succeed(claim, valid, train=train)
        tell(f"{what}: validation {number(valid)}, training {number(train)}, {duration(time.monotonic() - started)}")
    except (ValueError, FloatingPointError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        journal.fail(claim, reason)
        tell(f"{what}: failed: {reason}")
    finally:
        claim.lock.release()


def _trained(plan: Plan, place: int, seed: int, run: Path) -> tuple[float, float]:
    """The validation and the training score of one run, trained or gone on with."""
    settings = plan.settings_of(place, seed)
    trained, name = story.train(without_test(plan.app), settings, run, is_quiet=True), _decides(plan)
    if "valid" not in trained.scores:
        raise ValueError("these settings give no validation set, by which a sweep judges")
    valid, train = trained.scores["valid"][name], train_scores(plan.app, run, settings)[name]
    if not math.isfinite(valid):
        raise ValueError(f"{name} is {valid} on the validation set")
    return valid, train


def _decides(plan: Plan) -> str:
    return plan.app.objective(plan.settings).decides


def without_test(app: App) -> App:
    """The app without its test set: choosing a setting by it would spoil it."""

    def data(settings: Any) -> Data:
        return replace(app.data(settings), test=None)

    return replace(app, data=data)


def train_scores(app: App, run: Path, settings: Any) -> dict[str, float]:
    """Scores of a run's best weights on the data that it was trained on, none of them drawn at random."""
    loaded = story.load(app, run, device=settings.device, dtype=settings.precision.dtype)
    scores, _ = evaluate(
        loaded.model,
        app.objective(loaded.settings),
        _AsTheyAre(app.data(loaded.settings).train),
        app.collate,
        batch_size=settings.fit.batch_size,
        tokens=settings.fit.tokens,
        precision=loaded.precision,
        fleet=Fleet(0, 1, loaded.precision.device, "ddp"),
    )
    return scores


class _AsTheyAre:
    """Records without their `draw`."""

    def __init__(self, records: Records) -> None:
        self.records = records
        if hasattr(records, "length"):
            self.length = records.length  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return self.records[index]


def _journal(folder: Path, plan: Plan) -> Journal:
    better = plan.app.objective(plan.settings).better
    return Journal(folder, "minimize" if better == "smaller" else "maximize")


def _take_folder(folder: Path, asked: dict[str, Any], settings: dict[str, Any]) -> None:
    """Make the folder, or go on with the sweep in it if it is the same one."""
    path = folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a file is in the way: a sweep needs a folder of its own")
    if path.is_file():
        changed = differences(json.loads(path.read_text(encoding="utf-8"))["asked"], json.loads(json.dumps(asked)))
        if changed:
            raise ValueError(
                f"{folder}: holds another sweep ({'; '.join(changed[:3])}); choose another --out, or ask for the same "
                "to go on with it"
            )
    elif folder.is_dir() and any(not entry.name.startswith((LOCKS, TEMPORARY)) for entry in folder.iterdir()):
        raise FileExistsError(f"{folder}: holds files but no sweep: choose a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"asked": asked, "settings": settings}, indent=2) + "\n")


def _train_beside(folder: Path, app: str, n: int, *, is_quiet: bool) -> None:
    """Processes that train side by side until no run waits. Raises Interrupted, or RuntimeError if one of them died."""
    command = [sys.executable, "-m", "isometry", "sweep", app, "--worker", "--out", str(folder)]
    # As many threads each as there are cores for all, unless the user said; and what is importable here is there.
    environment = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // n, 1)), **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    workers: list[subprocess.Popen[bytes]] = []
    with Interrupt() as interrupt:
        try:
            for _ in range(n):
                workers.append(subprocess.Popen(command + ["--json"] * is_quiet, env=environment))
            while any(worker.poll() is None for worker in workers) and not interrupt.signal:
                time.sleep(0.05)
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGTERM)  # a second SIGINT would not let it save
            codes = [worker.wait() for worker in workers]
    if interrupt.signal:
        raise Interrupted(interrupt.signal)
    if stopped := [code - 128 for code in codes if code in (128 + signal.SIGINT, 128 + signal.SIGTERM)]:
        raise Interrupted(stopped[0])
    if dead := [code for code in codes if code]:
        raise RuntimeError(f"a process of the sweep ended with code {dead[0]}; the same command goes on from here")


def _silent(_line: str) -> None:
    """Hears nothing."""
