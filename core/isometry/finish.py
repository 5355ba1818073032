"""The end of the story: the best weights are calibrated, scored and reported."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from isometry.app import App, Data, Findings, find_app
from isometry.events import event, read_events
from isometry.fit import Fit
from isometry.heads import Calibrated, as_plain, calibrated, find_temperatures, what_heads_say
from isometry.listeners import Listeners
from isometry.loaded import Loaded, load_weights, scored
from isometry.reliability import reliability_figure
from isometry.runfolder import RunFolder
from isometry.spell import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CALIBRATION = "Calibration on the validation set"

Scores = dict[str, dict[str, float]]


def finish(app: App, settings: Any, fit: Fit, data: Data, run: RunFolder, tell: Listeners) -> Scores:
    """Calibrate the best weights, compute their scores by split, and write the report, the last thing a run writes.

    Stopped anywhere, it is done again when the run goes on, with the same result; training itself is not touched.
    """
    best = _best(app, settings, fit)
    best, heads = _calibrate(best, fit, data, tell)
    scores = _final_scores(best, heads, fit, data, run, tell)
    if fit.fleet.is_lead:
        _write_report(best, heads, data, run, scores)
    return scores


def _best(app: App, settings: Any, fit: Fit) -> Loaded:
    """The best weights of a run in a model of their own: the one that was trained may be in shards."""
    checkpoint = fit.task.vault.best()
    if checkpoint is None:
        raise ValueError(f"{fit.task.vault.folder}: no checkpoint to evaluate")
    model = app.model(settings)
    load_weights(model, checkpoint)
    model.to(device=fit.fleet.device, dtype=fit.precision.parameter_dtype).eval()
    return Loaded(app, settings, model, checkpoint, fit.precision)


def _calibrate(best: Loaded, fit: Fit, data: Data, tell: Listeners) -> tuple[Loaded, dict[str, Calibrated]]:
    """Fit the temperature of each head on the validation set, and write it into the best checkpoint."""
    classes, fleet = best.app.objective(best.settings).classes, fit.fleet
    if classes is None:
        return best, {}
    if data.valid is None or len(data.valid) == 0:
        tell.note("not calibrated: there is no validation set")
        return best, {}
    of = best.settings.fit
    options: Any = {
        "batch_size": of.batch_size,
        "tokens": of.tokens,
        "precision": best.precision,
        "fleet": fleet,
    }
    said = what_heads_say(best.model, classes, data.valid, best.app.collate, **options)
    found = {head: calibrated(labelled) for head, labelled in said.items()} if fleet.is_lead else {}
    heads: dict[str, Calibrated] = fleet.broadcast(found)
    places = find_temperatures(best.model, list(heads))
    tensors = {f"{places[head]}.temperature": torch.tensor(of.fitted.temperature) for head, of in heads.items()}
    best.model.load_state_dict(tensors, strict=False)
    if fleet.is_lead:
        plain = {head: as_plain(of) for head, of in heads.items()}
        best = replace(best, checkpoint=fit.task.vault.amend(best.checkpoint, tensors, calibration=plain))
        for head, of in heads.items():
            tell.note(_told(head, of))
    fleet.barrier()
    return best, heads


def _told(head: str, found: Calibrated) -> str:
    temperature, outcome, n = found.fitted
    if temperature == 1 and outcome != "fitted":
        return f"{head} is not calibrated, its temperature stays 1: {outcome} ({n} validation labels)"
    how = "" if outcome == "fitted" else f" ({outcome})"
    errors = f"{number(found.before.expected_error, 3)} -> {number(found.after.expected_error, 3)}"
    return f"{head} calibrated on {n} validation labels: temperature {temperature:.4g}{how}, expected error {errors}"


def _final_scores(
    best: Loaded, heads: dict[str, Calibrated], fit: Fit, data: Data, run: RunFolder, tell: Listeners
) -> Scores:
    """Scores of the best weights, computed once per run: the test set is looked at here and nowhere else."""
    fleet, sets = fit.fleet, {"valid": data.valid, "test": data.test}
    if fleet.broadcast(run.scores.is_file()):
        scores = run.read_json(run.scores.name)["scores"]
    else:
        scores = {
            split: scored(best, records, fleet)[0]
            for split, records in sets.items()
            if records is not None and len(records)
        }
    where = {"step": fit.position.best_step or fit.position.step, "epoch": fit.position.epoch}
    for split, values in scores.items():
        tell.emit(event("eval", split=split, scores=values, is_best=False, **where))
    if fleet.is_lead:
        calibration = {"calibration": {head: as_plain(of) for head, of in heads.items()}} if heads else {}
        run.write_json(run.scores.name, {"checkpoint": best.checkpoint.path.name, "scores": scores, **calibration})
    fleet.barrier()
    return scores


def _write_report(
    best: Loaded, heads: dict[str, Calibrated], data: Data, run: RunFolder, scores: dict[str, Any]
) -> None:
    from isometry.report import write_report

    app = best.app
    findings = app.report(best.model, best.settings, data) if app.report is not None else Findings()
    write_report(
        run.report,
        read_events(run.events),
        title=f"{app.name}: {run.path.name}",
        summary=find_app(app.name).summary,
        scores=scores,
        figures=findings.figures | {f"Reliability of {head}": _drawn(of) for head, of in heads.items()},
        tables=findings.tables | ({CALIBRATION: [_row(head, of) for head, of in heads.items()]} if heads else {}),
    )


def _drawn(found: Calibrated) -> Figure:
    return reliability_figure(found.before, found.after)


def _row(head: str, found: Calibrated) -> dict[str, Any]:
    before, after = found.before, found.after
    return {
        "head": head,
        "temperature": found.fitted.temperature,
        "ECE before": before.expected_error,
        "ECE after": after.expected_error,
        "NLL before": before.nll,
        "NLL after": after.nll,
        "n": found.fitted.n,
        "outcome": found.fitted.outcome,
    }
