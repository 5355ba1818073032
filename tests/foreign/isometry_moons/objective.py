"""Cross-entropy; how far the stated probabilities are from Bayes' is for the tests to ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from isometry.objective import Labelled, Loss, Objective
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Loss:
    each = cross_entropy(model(batch["xy"]), batch["label"], reduction="none", ignore_index=-1)
    return Loss(each, {"entropy": each.detach()})


def measure(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"probability": torch.softmax(model(batch["xy"]), 1), "label": batch["label"]}


def score(rows: dict[str, np.ndarray]) -> dict[str, float]:
    is_known = rows["label"] != -1
    if not is_known.any():
        return {}
    probability, label = rows["probability"][is_known], rows["label"][is_known].astype(int)
    own = probability[np.arange(len(label)), label]
    return {
        "nll": float(-np.log(own.clip(1e-300)).mean()),
        "accuracy": float((probability.argmax(1) == label).mean()),
    }


def classes(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Labelled]:
    return {"moon": Labelled(model.logits(batch["xy"]), batch["label"])}


def objective(_settings: Any) -> Objective:
    return Objective(loss, measure, score, decides="nll", classes=classes)
