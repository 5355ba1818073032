"""A file of seeds -> a table of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from isometry_mixture.dataset import Pairs, collate
from isometry_mixture.ring import nearest


def predict(model: nn.Module, settings: Any, records: Pairs, _out: Path | None) -> list[dict[str, Any]]:
    """One row per seed: x, y in the ring's unit, the nearest mode, the distance from it in standard deviations."""
    weight = next(model.parameters())
    latent = collate([records[i] for i in range(len(records))]).latent
    with torch.no_grad():
        samples = model.samples(latent.to(weight.device, weight.dtype)).double().cpu().numpy()  # type: ignore[operator]
    found = nearest(settings.ring, samples)
    rows = zip(records.seeds, samples.tolist(), found.mode.tolist(), found.spreads.tolist(), strict=True)
    return [{"seed": seed, "x": x, "y": y, "mode": mode, "spreads": spreads} for seed, (x, y), mode, spreads in rows]
