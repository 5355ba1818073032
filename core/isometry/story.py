"""The story that every app shares: settings, data, model, fit, evaluation, report; and what is done with the result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from isometry.app import App, Data
from isometry.checkpoint import Vault
from isometry.durable import temporary_beside
from isometry.events import Event, as_json, event
from isometry.finish import finish
from isometry.fit import Fit, Task
from isometry.fleet import Fleet, choose_device, on_threads
from isometry.heads import check_heads
from isometry.listeners import Listeners
from isometry.loaded import NO_LABEL, Loaded, find_checkpoint, load, own_test_set, scored, shipped_checkpoints, strided
from isometry.objective import Objective
from isometry.randomness import seed_everything
from isometry.run_settings import that_matter
from isometry.runfolder import LOCK, RunFolder
from isometry.settings import differences, validated
from isometry.table import check_not_read, check_table_path, write_table

__all__ = [
    "Loaded",
    "Prepared",
    "Trained",
    "as_json",
    "evaluate",
    "export",
    "load",
    "predict",
    "prepare",
    "shipped_checkpoints",
    "strided",
    "train",
]


@dataclass(frozen=True)
class Trained:
    """What a training run leaves."""

    folder: Path
    reason: str
    """finished, early stop, or "finished before" when the run was complete already."""
    scores: dict[str, dict[str, float]]
    """By split: valid, test."""


class Prepared(NamedTuple):
    """What a training run begins with."""

    settings: Any
    """Completed by what the training data say."""
    data: Data
    model: nn.Module
    objective: Objective


def prepare(app: App, settings: Any) -> Prepared:
    """The data and the freshly initialised model of these settings, as training begins with them."""
    data = app.data(settings)
    settings = app.learn(settings, data)
    seed_everything(settings.seed)
    return Prepared(settings, data, app.model(settings), app.objective(settings))


def task_of(
    app: App, prepared: Prepared, fleet: Fleet, vault: Vault, emit: Callable[[Event], None], **more: Any
) -> Task:
    """The task that these settings make; `more` as `Task` takes it."""
    settings, data, model, objective = prepared
    return Task(
        model=model,
        objective=objective,
        train=data.train,
        valid=data.valid,
        collate=app.collate,
        fit=settings.fit,
        optim=settings.optim,
        precision=settings.precision,
        guard=settings.guard,
        seed=settings.seed,
        fleet=fleet,
        vault=vault,
        emit=emit,
        **more,
    )


def trial_of(app: App, prepared: Prepared) -> Task:
    """The task for looking at how a run begins: in this process alone, telling nobody."""
    settings = prepared.settings
    fleet = Fleet(0, 1, choose_device(settings.device), settings.fleet.shard)
    vault = Vault(Path("nowhere"))  # it makes its folder when it saves, and here it never does
    return task_of(app, prepared, fleet, vault, lambda event: None)


def train(app: App, settings: Any, out: str | Path, *, is_quiet: bool = False) -> Trained:
    """Train in the folder `out`, or go on with the run that lies there.

    Raises:
        ValueError: `out` holds a run of other settings or data.
        OSError: `out` is in use, is no run folder, or cannot be written.
        Interrupted: on SIGINT or SIGTERM; the state is saved.
    """
    with (
        on_threads(settings.threads),
        Fleet.start(settings.fleet, settings.device) as fleet,
        _run_folder(out, fleet) as run,
    ):
        _check_same_run(run, app, settings, fleet)
        if fleet.broadcast(run.report.is_file()):  # the last thing a run writes
            return Trained(run.path, "finished before", run.read_json(run.scores.name)["scores"])
        prepared = prepare(app, settings)
        settings, data, model, objective = prepared
        check_heads(model, objective, data.valid, app.collate)
        vault = Vault(run.checkpoints, better=objective.better)
        with Listeners(run, settings, fleet, is_quiet) as tell:
            vault.tell = tell.note
            task = _told_task(app, prepared, fleet, vault, tell)
            begun = _begin(app, task, settings) if vault.newest() is None else None
            fit = Fit(task)
            _go_on_or_start(fit, app, settings, data, run, tell)
            if begun is not None:
                tell.note(begun)
            reason = tell.until_end(fit)
            scores = finish(app, settings, fit, data, run, tell)
        return Trained(run.path, reason, scores)


def evaluate(loaded: Loaded, files: Sequence[Path] = ()) -> dict[str, float]:
    """Scores on labelled files, or on the run's own test set."""
    return measured(loaded, files)[0]


def measured(loaded: Loaded, files: Sequence[Path] = ()) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """As `evaluate`, and the rows from which the scores follow (`Objective.measure`), for `isometry.bootstrap`."""
    app, settings = loaded.app, loaded.settings
    scores, rows = scored(loaded, app.read(settings, files) if files else own_test_set(loaded))
    if not scores:
        raise ValueError(NO_LABEL)
    return scores, rows


def predict(loaded: Loaded, files: Sequence[Path], out: Path | None = None) -> list[dict[str, Any]]:
    """One row per record of `files`; written to `out` in the format of its ending."""
    app = loaded.app
    if out is not None:
        check_table_path(out, app.own_formats)
        check_not_read(out, files)
    is_own = out is not None and out.suffix in app.own_formats
    records = (app.to_predict or app.read)(loaded.settings, files)
    rows = app.predict(loaded.model, loaded.settings, records, out if is_own else None)
    if out is not None and not is_own:
        write_table(out, rows)
    return rows


def export(app: App, run: str | Path, folder: str | Path, *, is_half: bool = False) -> Path:
    """The best checkpoint of a run without its training state: what is shared, or shipped with an app.

    Args:
        is_half: weights in fp16, at half the size; they are rounded by at most 2^-11 of their value, and computed with
            in whatever format the model is loaded.

    Raises FileExistsError if `folder` is there already, ValueError if a weight is beyond fp16's range, and what `load`
    raises.
    """
    checkpoint, folder = find_checkpoint(app, run), Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: is there already; choose a name that is free")
    told = ("app", "settings", "data", "score", "scores", "versions", "calibration")
    fields = {key: checkpoint.manifest[key] for key in told if key in checkpoint.manifest}
    weights = checkpoint.weights()
    if is_half:
        weights = {name: _halved(name, weight) for name, weight in weights.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = temporary_beside(folder)
    try:
        os.rename(Vault(room).save(checkpoint.step, weights, **fields), folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return folder


def _halved(name: str, weight: Tensor) -> Tensor:
    """In fp16; single numbers, such as temperatures, and what is no real number stay."""
    if weight.ndim == 0 or not weight.is_floating_point():
        return weight
    half = weight.to(torch.float16)
    if weight.isfinite().all() and not half.isfinite().all():
        raise ValueError(f"the weight {name} reaches {weight.abs().max():.3g}, beyond fp16's 65504; export in full")
    return half


# The parts of the story


@contextmanager
def _run_folder(out: str | Path, fleet: Fleet) -> Iterator[RunFolder]:
    """The run's folder; the lead process holds its lock."""
    if fleet.is_lead:
        with RunFolder.open(out) as run:
            is_new = not run.settings.is_file()
            fleet.barrier()
            try:
                yield run
            except BaseException:
                if is_new:
                    _forget_unbegun(run)
                raise
    else:
        fleet.barrier()
        yield RunFolder(out)


def _forget_unbegun(run: RunFolder) -> None:
    """A run that was refused before its first checkpoint leaves no trace."""
    if any(run.checkpoints.glob("step-*")):
        return
    with suppress(OSError):
        for path in (run.settings, run.events, run.path / LOCK):
            path.unlink(missing_ok=True)
        for folder in (run.checkpoints, run.path):
            if folder.is_dir():
                folder.rmdir()


def _check_same_run(run: RunFolder, app: App, settings: Any, fleet: Fleet) -> None:
    """A folder holds one run: going on with other settings would make a checkpoint that nobody can reproduce."""
    asked = {"app": app.name, "settings": that_matter(settings)}
    if run.settings.is_file():
        stored = run.read_json(run.settings.name)
        changed = differences(_completed(stored, app), asked)
        if changed:
            raise ValueError(
                f"{run.path}: holds a run with other settings ({'; '.join(changed[:5])}); choose another --out, or the "
                "same settings to go on with it"
            )
    elif fleet.is_lead:
        run.write_json(run.settings.name, asked)


def _completed(stored: dict[str, Any], app: App) -> dict[str, Any]:
    """What a run was asked, with the defaults of settings that did not exist yet: they are what it ran under.

    What is stored stays, whatever the default is by now: a loss scale of 65536 is not "auto", so that such a run goes
    on only if the command says --precision.scale 65536.
    """
    try:
        return stored | {"settings": that_matter(validated(app.settings, stored["settings"], "settings"))}
    except ValueError:  # of another app, or with settings that are gone: the differences name them
        return stored


def _told_task(app: App, prepared: Prepared, fleet: Fleet, vault: Vault, tell: Listeners) -> Task:
    settings = prepared.settings
    return task_of(
        app,
        prepared,
        fleet,
        vault,
        tell.emit,
        manifest={"app": app.name, "settings": settings.model_dump(mode="json"), "data": prepared.data.checksums},
        log_every=settings.log.every,
        health_every=settings.log.health,
        bookmark=tell.bookmark,
    )


def _begin(app: App, task: Task, settings: Any) -> str | None:
    """Every process does the same to its own copy of the model."""
    if settings.start is not None:
        from isometry.inherit import inherit

        return inherit(app, settings.start, task.model)
    if settings.initialise == "own":
        return None
    from isometry.begin import begin

    return begin(task, settings.initialise)


def _go_on_or_start(fit: Fit, app: App, settings: Any, data: Data, run: RunFolder, tell: Listeners) -> None:
    checkpoint = fit.task.vault.newest()
    if checkpoint is not None and checkpoint.manifest["data"] != data.checksums:
        changed = ", ".join(differences(checkpoint.manifest["data"], data.checksums)[:3])
        raise ValueError(f"{run.path}: the data changed since this run began ({changed}); choose another --out")
    state = fit.resume()
    tell.begin(state["log_size"] if state is not None else 0, fit.position.step if state is not None else None)
    tell.emit(
        event(
            "start",
            app=app.name,
            run=str(run.path),
            settings=settings.model_dump(mode="json"),
            n_parameters=sum(p.numel() for p in fit.model.parameters()),
            n_train=len(data.train),
            n_valid=len(data.valid) if data.valid is not None else 0,
            steps_per_epoch=fit.order.n_batches,
            epochs=settings.fit.epochs,
            device=str(fit.fleet.device),
            precision=settings.precision.dtype,
            resumed_at=fit.position.step if state is not None else None,
        )
    )
    for line in data.notes if state is None else ():
        tell.note(line)
