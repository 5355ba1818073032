"""Scores of all heads, from counts of each protein: rows that batches make, numbers that a data set's rows make."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from isometry_data.contacts import RANGES
from torch import Tensor

from isometry_protein.confidences import Told, calibration_errors, sure_rows
from isometry_protein.contacts import PAIRS_AT_ONCE, ContactHead, known_pairs
from isometry_protein.dataset import NO_LABEL, Protein
from isometry_protein.model import ModelSettings, ProteinModel, names_of_values
from isometry_protein.states import N_CLASSES, N_STATES

DECIDES: dict[str, tuple[str, Literal["smaller", "larger"]]] = {
    "ss": ("q3", "larger"),
    "rsa": ("rsa_pearson", "larger"),
    "disorder": ("disorder_mcc", "larger"),
    "contacts": ("contacts_long_l5", "larger"),
    "regression": ("mae_scaled", "smaller"),
    "classes": ("accuracy", "larger"),
    "language": ("perplexity", "smaller"),
}
"""By the first head: the score that chooses the best weights."""


# Rows


def state_rows(log3: Tensor, log8: Tensor | None, batch: Protein) -> dict[str, Tensor]:
    """[n, 3, 3] and [n, 8, 8] residues by label and verdict, and [n, 2] -log p(class), its count."""
    own = log3.gather(-1, batch.ss3.clamp(min=0)[..., None]).squeeze(-1)
    is_known = batch.ss3 != NO_LABEL
    rows = {
        "ss3": _confusion(batch.ss3, log3.argmax(-1), N_CLASSES),
        "ss3_entropy": torch.stack([torch.where(is_known, -own, 0.0).sum(1), is_known.sum(1)], -1),
    }
    return rows if log8 is None else rows | {"ss8": _confusion(batch.ss8, log8.argmax(-1), N_STATES)}


def accessibility_row(predicted: Tensor, batch: Protein) -> Tensor:
    """[n, 7] count, sum of |error|, Σx, Σy, Σx², Σy², Σxy of prediction x and label y."""
    is_known = ~batch.accessibility.isnan()
    x, y = (torch.where(is_known, v, 0.0).double() for v in (predicted, batch.accessibility))
    columns = (is_known.double(), (x - y).abs(), x, y, x * x, y * y, x * y)
    return torch.stack([column.sum(1) for column in columns], -1)


def disorder_row(logits: Tensor, batch: Protein) -> Tensor:
    """[n, 2, 2] residues by label and verdict."""
    return _confusion(batch.disorder, (logits > 0).long(), 2)


VALUE = "value/"  # begins the name of a row of errors, before that of the number


def value_rows(predicted: Tensor, batch: Protein, model: ModelSettings) -> dict[str, Tensor]:
    """[n] |error| of each number of a whole protein, in its unit, and [n, n_values] in standard deviations."""
    errors = (predicted - batch.value).abs()
    own = {f"{VALUE}{name}": errors[:, i] for i, name in enumerate(names_of_values(model))}
    return own | {"value_scaled": errors / errors.new_tensor(model.value_scales)}


def told(net: ProteinModel, said: dict[str, Tensor], batch: Protein) -> Told:
    """Calibrated probabilities, and labels, of the heads that classify residues or whole proteins."""
    found: Told = {}
    if "ss" in said:
        log3, log8 = net.state_logs(said["ss"])
        found["ss3"] = log3.exp(), batch.ss3
        if net.settings.has_eight:
            found["ss8"] = log8.exp(), batch.ss8
    if "disorder" in said:
        found["disorder"] = net.temperatures["disorder"](said["disorder"]).sigmoid(), batch.disorder
    if "classes" in said:
        found["class"] = net.temperatures["class"](said["classes"]).softmax(-1)[:, None], batch.kind[:, None]
    return found


def contact_rows(net: ProteinModel, features: Tensor, batch: Protein) -> dict[str, Tensor]:
    """[n, 3 ranges, 2] hits among, and number of, the length/5 most probable pairs; 0 without positions.

    And how sure the head is of all pairs, as `sure_rows`.
    """
    head = net.heads["contacts"]
    assert isinstance(head, ContactHead)
    each = [
        _of_pairs(net, head, features[k : k + 1], batch.positions[k : k + 1], int(length))
        for k, length in enumerate(batch.length)
    ]
    return {name: torch.cat([row[name] for row in each]) for name in each[0]}


def _of_pairs(
    net: ProteinModel, head: ContactHead, features: Tensor, positions: Tensor, length: int
) -> dict[str, Tensor]:
    """The rows of one protein."""
    pairs, touch = known_pairs(positions)
    logits = torch.cat([head(features, part) for part in pairs.split(PAIRS_AT_ONCE, 1)] or [features.new_zeros(0)])
    cool = net.temperatures["contact"]
    sure = sure_rows(net, lambda: {"contact": (cool(logits.float()).sigmoid()[None], touch[None])})
    return {"contacts": _hits(logits, pairs, touch, length)[None], **sure}


def _hits(logits: Tensor, pairs: Tensor, touch: Tensor, length: int) -> Tensor:
    apart = pairs[2] - pairs[1]
    row = torch.zeros(len(RANGES), 2, device=logits.device)
    for number, (least, end) in enumerate(RANGES.values()):
        is_in = (apart >= least) & (apart < end if end is not None else True)
        best = logits[is_in].topk(min(max(length // 5, 1), int(is_in.sum()))).indices
        row[number] = torch.tensor([float(touch[is_in][best].sum()), float(len(best))])
    return row


def _confusion(labels: Tensor, verdicts: Tensor, k: int) -> Tensor:
    """[n, k, k] counts from [n, longest]; labels of -1 do not count."""
    is_known = labels != NO_LABEL
    place = labels.clamp(min=0) * k + verdicts
    counts = torch.zeros(len(labels), k * k, device=labels.device).scatter_add(1, place, is_known.float())
    return counts.view(-1, k, k)


# Scores


def score(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Named scores; a label that no protein has gives none.

    q3, q8: share of residues whose state is right; per_chain: mean over proteins of that share. mcc: Matthews'
    correlation. contacts_…_l5: mean over proteins of the share of contacts among the length/5 most probable pairs.
    mae_…: of each number of whole proteins, in its unit; mae_scaled: of all, in standard deviations of training.
    head/ece, head/ece_before: calibration error with and without the head's temperature.
    """
    scores: dict[str, float] = {}
    for name, rows_name in (("q3", "ss3"), ("q8", "ss8")):
        if rows_name in rows:
            scores |= _accuracy(rows[rows_name], name)
    if "ss3_entropy" in rows and rows["ss3_entropy"][:, 1].any():
        total, count = rows["ss3_entropy"].sum(0)
        scores["q3_nll"] = float(total / count)
    if "rsa" in rows:
        scores |= _accessibility(rows["rsa"].sum(0))
    if "disorder" in rows:
        scores |= _disorder(rows["disorder"].sum(0))
    if "contacts" in rows:
        scores |= _contacts(rows["contacts"])
    if "language" in rows and rows["language"][:, 1].any():
        total, count = rows["language"].sum(0)
        scores["perplexity"] = float(np.exp(total / count))
    return scores | _whole(rows) | calibration_errors(rows)


def _accuracy(confusion: np.ndarray, name: str) -> dict[str, float]:
    hits, counts = np.trace(confusion, axis1=1, axis2=2), confusion.sum((1, 2))
    if not counts.any():
        return {}
    return {
        name: float(hits.sum() / counts.sum()),
        f"{name}_per_chain": float((hits[counts > 0] / counts[counts > 0]).mean()),
    }


def _accessibility(sums: np.ndarray) -> dict[str, float]:
    n, error, x, y, xx, yy, xy = sums
    if n == 0:
        return {}
    spread = (n * xx - x * x) * (n * yy - y * y)
    pearson = (n * xy - x * y) / np.sqrt(spread) if spread > 0 else 0.0
    return {"rsa_pearson": float(pearson), "rsa_mae": float(error / n)}


def _disorder(confusion: np.ndarray) -> dict[str, float]:
    (tn, fp), (fn, tp) = confusion
    if confusion.sum() == 0:
        return {}
    sides = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {"disorder_mcc": float((tp * tn - fp * fn) / np.sqrt(sides)) if sides > 0 else 0.0}


def _contacts(rows: np.ndarray) -> dict[str, float]:
    scores = {}
    for number, name in enumerate(RANGES):
        hits, count = rows[:, number].T
        if count.any():
            scores[f"contacts_{name}_l5"] = float((hits[count > 0] / count[count > 0]).mean())
    return scores


def _whole(rows: dict[str, np.ndarray]) -> dict[str, float]:
    scores: dict[str, float] = {}
    errors = {f"mae_{name.removeprefix(VALUE)}": of for name, of in rows.items() if name.startswith(VALUE)}
    if "value_scaled" in rows:
        errors["mae_scaled"] = rows["value_scaled"]
    scores |= {name: float(np.nanmean(of)) for name, of in errors.items() if not np.isnan(of).all()}
    if "kind" in rows and (is_known := rows["kind_label"] != NO_LABEL).any():
        scores["accuracy"] = float((rows["kind"] == rows["kind_label"])[is_known].mean())
    return scores
