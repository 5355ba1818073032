"""What a run's report says beside the curves: every mode's share, and the samples over the true centres."""

from __future__ import annotations

from typing import Any

import numpy as np
from isometry.app import Findings
from matplotlib.figure import Figure

from isometry_mixture.dataset import Pairs
from isometry_mixture.predict import predict
from isometry_mixture.ring import centres


def findings(model: Any, settings: Any, pairs: Pairs) -> Findings:
    rows = predict(model, settings, pairs, None)
    modes = np.array([row["mode"] for row in rows])
    is_good = np.array([row["spreads"] < 3 for row in rows])
    table = [
        {"mode": mode, "share": float((modes == mode).mean()), "high quality": int((is_good & (modes == mode)).sum())}
        for mode in range(settings.ring.n_modes)
    ]
    return Findings({"modes": table}, {"samples": _figure(settings, rows)})


def _figure(settings: Any, rows: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter([row["x"] for row in rows], [row["y"] for row in rows], s=2, label="samples")
    axes.scatter(*centres(settings.ring).T, marker="x", color="black", label="true centres")
    axes.set_aspect("equal")
    axes.legend()
    return figure
