"""What the protein app adds to a run's report: the test set by state, by length, by confidence, beside the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from isometry.app import Data, Findings
from isometry.calibrate import Calibration, calibration, reliability_figure
from isometry.figures import FAINT, PALETTE, panels, style
from isometry_data.protein_records import EIGHT_STATES, THREE_STATES

from isometry_protein.confidences import uncalibrated
from isometry_protein.dataset import NO_LABEL, ProteinDataset
from isometry_protein.predict import Prediction, predictions
from isometry_protein.simulate import bayes_accuracy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CALIBRATION = "Calibration on the test set"

Table = list[dict[str, Any]]


def findings(model: Any, settings: Any, data: Data) -> Findings:
    """Tables and figures of a trained model; the test set is used only if there is one."""
    if not isinstance(data.test, ProteinDataset):
        return Findings()
    found = predictions(model, data.test.records)
    sides = calibrations(model, data.test, found)
    tables: dict[str, Table] = {CALIBRATION: [_row(head, *of) for head, of in sides.items()]} if sides else {}
    figures = {f"Reliability of {head} on the test set": reliability_figure(*of) for head, of in sides.items()}
    if "ss" not in settings.model.heads:
        return Findings(tables, figures)
    for name, alphabet in (("ss3", THREE_STATES), ("ss8", EIGHT_STATES)):
        if (name == "ss3" or settings.model.has_eight) and (rows := by_state(data.test, found, name, alphabet)):
            tables[f"Test set by state ({name})"] = rows
    if settings.data.source == "simulated":
        tables["Test set beside the best possible"] = [beside_bayes(data.test, found)]
    return Findings(tables, {"Right states by the length of the protein": by_length(data.test, found)} | figures)


def calibrations(
    model: Any, proteins: ProteinDataset, found: list[Prediction]
) -> dict[str, tuple[Calibration, Calibration]]:
    """What is said of residues, before the temperatures (fitted on the validation set) and with them, by head."""
    with uncalibrated(model):
        before = predictions(model, proteins.records)
    sides = {}
    for head, field in (("ss3", "three"), ("ss8", "eight"), ("disorder", "disorder")):
        labels = np.concatenate([getattr(proteins[i], head).numpy() for i in range(len(proteins))])
        if getattr(found[0], field) is not None and (labels != NO_LABEL).any():
            told = [np.concatenate([getattr(of, field) for of in side]) for side in (before, found)]
            sides[head] = (calibration(told[0], labels), calibration(told[1], labels))
    return sides


def _row(head: str, before: Calibration, after: Calibration) -> dict[str, Any]:
    return {
        "head": head,
        "ECE before": before.expected_error,
        "ECE after": after.expected_error,
        "NLL before": before.nll,
        "NLL after": after.nll,
        "mean confidence after": after.confidence,
        "right": after.accuracy,
        "n": after.n,
    }


def by_state(proteins: ProteinDataset, found: list[Prediction], name: str, alphabet: str) -> Table:
    """Recall and precision of each state."""
    labels = np.concatenate([getattr(proteins[i], name).numpy() for i in range(len(proteins))])
    said = [of.three if name == "ss3" else of.eight for of in found]
    verdicts = np.concatenate([p.argmax(1) for p in said if p is not None])[labels != NO_LABEL]
    labels = labels[labels != NO_LABEL]
    rows = []
    for number, state in enumerate(alphabet):
        is_state, is_said = labels == number, verdicts == number
        if is_state.any():
            hits = float((is_state & is_said).sum())
            recall, precision = hits / is_state.sum(), hits / max(is_said.sum(), 1)
            rows.append({"state": state, "residues": int(is_state.sum()), "recall": recall, "precision": precision})
    return rows


def beside_bayes(proteins: ProteinDataset, found: list[Prediction]) -> dict[str, float]:
    """Q3 of the model and of the exact posterior, on the same simulated chains."""
    hits, n = _hits(proteins, found)
    model, best = float(hits.sum() / n.sum()), bayes_accuracy(proteins.records)
    return {"model q3": model, "best possible q3": best, "difference": model - best}


def by_length(proteins: ProteinDataset, found: list[Prediction]) -> Figure:
    """Share of right classes of each protein against its length, and its median."""
    hits, n = _hits(proteins, found)
    lengths, shares = n[n > 0], hits[n > 0] / n[n > 0]
    with style():
        figure, (axes,) = panels(1, 1, width=6.0)
        axes.plot(lengths, shares, ".", color=PALETTE[0], markersize=4, alpha=0.6, rasterized=True)
        axes.axhline(float(np.median(shares)), color=FAINT, linewidth=1)
        axes.set(xlabel="residues with a label", ylabel="share of right classes", xscale="log")
    return figure


def _hits(proteins: ProteinDataset, found: list[Prediction]) -> tuple[np.ndarray, np.ndarray]:
    """Right and counted residues of each protein."""
    pairs = []
    for i, of in enumerate(found):
        labels = proteins[i].ss3.numpy()
        assert of.three is not None
        pairs.append((((of.three.argmax(1) == labels) & (labels != NO_LABEL)).sum(), (labels != NO_LABEL).sum()))
    hits, n = np.array(pairs).T
    return hits, n
