"""Mean squared error."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from isometry.objective import Loss, Objective
from torch import Tensor, nn


def loss(model: nn.Module, batch: dict[str, Tensor]) -> Loss:
    known = ~batch["y"].isnan()
    residual = torch.where(known, model(batch["x"]) - batch["y"].nan_to_num(), 0.0)
    return Loss(residual**2, {"squared": (residual**2).detach()})


def measure(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"residual": model(batch["x"]) - batch["y"]}


def score(rows: dict[str, np.ndarray]) -> dict[str, float]:
    return {"rmse": float(np.sqrt(np.nanmean(rows["residual"] ** 2)))}


def objective(_settings: Any) -> Objective:
    return Objective(loss, measure, score, decides="rmse")
