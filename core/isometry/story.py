"""The story that every app shares: settings, data, model, fit, evaluation, report; and what is done with the result."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from isometry.app import App, Data, Findings, find_app
from isometry.checkpoint import MANIFEST, Checkpoint, Vault, read_checkpoint
from isometry.durable import temporary_beside
from isometry.evaluate import evaluate as evaluate_records
from isometry.events import event, read_events
from isometry.fit import Fit, Task
from isometry.fleet import Fleet, FleetSettings, choose_device
from isometry.listeners import Listeners
from isometry.objective import Objective
from isometry.order import Records
from isometry.precision import Precision, PrecisionSettings
from isometry.randomness import seed_everything
from isometry.run_settings import that_matter
from isometry.runfolder import LOCK, RunFolder
from isometry.settings import differences, validated
from isometry.table import check_table_path, write_table


@dataclass(frozen=True)
class Trained:
    """What a training run leaves."""

    folder: Path
    reason: str
    """finished, early stop, or "finished before" when the run was complete already."""
    scores: dict[str, dict[str, float]]
    """By split: valid, test."""


@dataclass(frozen=True)
class Loaded:
    """A trained model, ready to use."""

    app: App
    settings: Any
    model: nn.Module
    checkpoint: Checkpoint
    precision: Precision


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


def train(app: App, settings: Any, out: str | Path, *, is_quiet: bool = False) -> Trained:
    """Train in the folder `out`, or go on with the run that lies there.

    Raises:
        ValueError: `out` holds a run of other settings or data.
        OSError: `out` is in use, is no run folder, or cannot be written.
        Interrupted: on SIGINT or SIGTERM; the state is saved.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with Fleet.start(settings.fleet, settings.device) as fleet, _run_folder(out, fleet) as run:
        _check_same_run(run, app, settings, fleet)
        if fleet.broadcast(run.report.is_file()):  # the last thing a run writes
            return Trained(run.path, "finished before", run.read_json(run.scores.name)["scores"])
        settings, data, model, objective = prepare(app, settings)
        vault = Vault(run.checkpoints, better=objective.better)
        with Listeners(run, settings, fleet, is_quiet) as tell:
            vault.tell = tell.note
            task = _task(app, settings, data, model, objective, vault, fleet, tell)
            fit = Fit(task)
            _go_on_or_start(fit, app, settings, data, run, tell)
            reason = tell.until_end(fit)
            best = _best(app, settings, fit)
            scores = _final_scores(best, fit, data, run, tell)
            if fleet.is_lead:
                _write_report(best, data, run, scores)
        return Trained(run.path, reason, scores)


def load(app: App, run: str | Path, *, device: str = "auto", dtype: str = "fp32") -> Loaded:
    """The model of a run folder (its best checkpoint), of a checkpoint folder, or of a checkpoint shipped with the app.

    Raises:
        FileNotFoundError: there is none of these under that name.
        ValueError: the checkpoint is damaged, of another app, or of a newer format.
    """
    checkpoint = _find_checkpoint(app, run)
    settings = validated(app.settings, checkpoint.settings, f"{checkpoint.path}/{MANIFEST}, settings")
    precision = Precision(PrecisionSettings(dtype=dtype), choose_device(device))  # type: ignore[arg-type]
    model = app.model(settings)
    _load_weights(model, checkpoint)
    model.to(device=precision.device, dtype=precision.parameter_dtype).eval()
    return Loaded(app, settings, model, checkpoint, precision)


def evaluate(loaded: Loaded, files: Sequence[Path] = ()) -> dict[str, float]:
    """Scores on labelled files, or on the run's own test set."""
    app, settings = loaded.app, loaded.settings
    records = app.read(settings, files) if files else _own_test_set(loaded)
    if records is None:
        raise ValueError(f"app {app.name}: these settings give no test set; name files to evaluate on")
    scores = _scores(loaded, records, _alone(loaded.precision))
    if not scores:
        raise ValueError("no record has a label to compare with; `isometry predict` needs none")
    return scores


def _own_test_set(loaded: Loaded) -> Records | None:
    """Raises ValueError if the data changed since the run: another split may hold known data in its test set."""
    data = loaded.app.data(loaded.settings)
    changed = differences(loaded.checkpoint.manifest["data"], data.checksums)
    if changed:
        raise ValueError(
            f"the data are not those this model was trained on ({'; '.join(changed[:3])}); name files instead"
        )
    return data.test


def predict(loaded: Loaded, files: Sequence[Path], out: Path | None = None) -> list[dict[str, Any]]:
    """One row per record of `files`; written to `out` in the format of its ending."""
    app = loaded.app
    if out is not None:
        check_table_path(out, app.own_formats)
    is_own = out is not None and out.suffix in app.own_formats
    records = app.read(loaded.settings, files)
    rows = app.predict(loaded.model, loaded.settings, records, out if is_own else None)
    if out is not None and not is_own:
        write_table(out, rows)
    return rows


def export(app: App, run: str | Path, folder: str | Path) -> Path:
    """The best checkpoint of a run without its training state: what is shared, or shipped with an app.

    Raises FileExistsError if `folder` is there already, and what `load` raises.
    """
    checkpoint, folder = _find_checkpoint(app, run), Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: is there already; choose a name that is free")
    fields = {key: checkpoint.manifest[key] for key in ("app", "settings", "data", "score", "scores", "versions")}
    room = temporary_beside(folder)
    try:
        os.rename(Vault(room).save(checkpoint.step, checkpoint.weights(), **fields), folder)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return folder


def shipped_checkpoints(app_name: str) -> list[str]:
    """Names of the checkpoints that come with an app."""
    folder = find_app(app_name).folder / "checkpoints"
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


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
        changed = differences(stored, asked)
        if changed:
            raise ValueError(
                f"{run.path}: holds a run with other settings ({'; '.join(changed[:5])}); choose another --out, or the "
                "same settings to go on with it"
            )
    elif fleet.is_lead:
        run.write_json(run.settings.name, asked)


def _task(
    app: App, settings: Any, data: Data, model: nn.Module, objective: Any, vault: Vault, fleet: Fleet, tell: Listeners
) -> Task:
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
        emit=tell.emit,
        manifest={"app": app.name, "settings": settings.model_dump(mode="json"), "data": data.checksums},
        log_every=settings.log.every,
        bookmark=tell.bookmark,
    )


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


def _best(app: App, settings: Any, fit: Fit) -> Loaded:
    """The best weights of a run in a model of their own: the one that was trained may be in shards."""
    checkpoint = fit.task.vault.best()
    if checkpoint is None:
        raise ValueError(f"{fit.task.vault.folder}: no checkpoint to evaluate")
    model = app.model(settings)
    _load_weights(model, checkpoint)
    model.to(device=fit.fleet.device, dtype=fit.precision.parameter_dtype).eval()
    return Loaded(app, settings, model, checkpoint, fit.precision)


def _final_scores(best: Loaded, fit: Fit, data: Data, run: RunFolder, tell: Listeners) -> dict[str, dict[str, float]]:
    """Scores of the best weights, computed once per run: the test set is looked at here and nowhere else."""
    fleet, sets = fit.fleet, {"valid": data.valid, "test": data.test}
    if fleet.broadcast(run.scores.is_file()):
        scores = run.read_json(run.scores.name)["scores"]
    else:
        scores = {
            split: _scores(best, records, fleet)
            for split, records in sets.items()
            if records is not None and len(records)
        }
    where = {"step": fit.position.best_step or fit.position.step, "epoch": fit.position.epoch}
    for split, values in scores.items():
        tell.emit(event("eval", split=split, scores=values, is_best=False, **where))
    if fleet.is_lead:
        run.write_json(run.scores.name, {"checkpoint": best.checkpoint.path.name, "scores": scores})
    fleet.barrier()
    return scores


def _scores(loaded: Loaded, records: Records, fleet: Fleet) -> dict[str, float]:
    scores, _ = evaluate_records(
        loaded.model,
        loaded.app.objective(loaded.settings),
        records,
        loaded.app.collate,
        batch_size=loaded.settings.fit.batch_size,
        precision=loaded.precision,
        fleet=fleet,
    )
    return scores


def _write_report(best: Loaded, data: Data, run: RunFolder, scores: dict[str, Any]) -> None:
    from isometry.report import write_report

    app = best.app
    findings = app.report(best.model, best.settings, data) if app.report is not None else Findings()
    write_report(
        run.report,
        read_events(run.events),
        title=f"{app.name}: {run.path.name}",
        summary=find_app(app.name).summary,
        scores=scores,
        figures=findings.figures,
        tables=findings.tables,
    )


def _find_checkpoint(app: App, run: str | Path) -> Checkpoint:
    path = Path(run)
    if (path / MANIFEST).is_file():
        return read_checkpoint(path, app.name)
    if path.is_dir():
        return _best_of_run(app, RunFolder.existing(path))
    shipped = find_app(app.name).folder / "checkpoints" / str(run)
    if len(path.parts) == 1 and (shipped / MANIFEST).is_file():
        return read_checkpoint(shipped, app.name)
    names = ", ".join(shipped_checkpoints(app.name)) or "none"
    raise FileNotFoundError(f"{run}: no run folder, no checkpoint folder and no shipped checkpoint (shipped: {names})")


def _best_of_run(app: App, run: RunFolder) -> Checkpoint:
    newest = Vault(run.checkpoints).newest()
    if newest is None:
        raise FileNotFoundError(f"{run.path}: this run has no checkpoint yet")
    if newest.app != app.name:
        raise ValueError(f"{run.path}: a run of the app '{newest.app}', expected '{app.name}'")
    settings = validated(app.settings, newest.settings, f"{newest.path}/{MANIFEST}, settings")
    best = Vault(run.checkpoints, better=app.objective(settings).better).best()
    return best if best is not None else newest


def _load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    try:
        model.load_state_dict(checkpoint.weights())
    except RuntimeError as error:
        raise ValueError(f"{checkpoint.path}: the weights do not fit the model: {_second_line(error)}") from None


def _second_line(error: RuntimeError) -> str:
    return " ".join(str(error).split("\n")[1:2]).strip()


def _alone(precision: Precision) -> Fleet:
    return Fleet(0, 1, precision.device, FleetSettings().shard)


def as_json(value: Any) -> str:
    """Results as JSON, numbers in full."""
    return json.dumps(value, indent=2, default=lambda x: x.tolist() if isinstance(x, torch.Tensor) else str(x))
