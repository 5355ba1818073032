"""CSV in, table of calibrated probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from isometry_moons.dataset import Points


def predict(model: nn.Module, _settings: Any, records: Points, _out: Path | None) -> list[dict[str, Any]]:
    parameter = next(model.parameters())
    model.eval()
    with torch.no_grad():
        p = torch.softmax(model(records.xy.to(parameter)), 1)[:, 1]
    return [
        {
            "row": row,
            "x": float(x),
            "y": float(y),
            "probability": float(value),
            "moon": "lower" if value > 0.5 else "upper",
        }
        for row, ((x, y), value) in enumerate(zip(records.xy, p.cpu(), strict=True), start=1)
    ]
