"""What is known exactly of a source: the best any cell could do, and where its own stages stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from isometry.information.discrete_bottleneck import bottleneck_curve
from isometry.information.gaussian_bottleneck import Point
from isometry_data.cascade.exact import information
from isometry_data.cascade.reactions import Cascade

from isometry_signaling.sources import SourceSettings, at_rest, cascade_of, ligand_table, pair_of

Array = np.ndarray

N_BETAS = 60  # supporting lines of the discrete curve
NEARLY_ALL = 0.999  # of the information, up to which a curve is traced


@dataclass(frozen=True)
class Truth:
    """The exact curve of a source."""

    information: float
    """I(L; E), bits: the most relevance."""
    relevance_at: Callable[[Array], Array]
    """The most I(S; E) of any state with this I(L; S), bits."""
    first_beta: float
    """Below it the best state is none."""
    last_beta: float
    """From it on the best state has nearly all relevance."""
    stages: dict[str, Point] = field(default_factory=dict)
    """Where stages of the simulated cell stand at one instant: I(L; ·) and I(·; E)."""


def truth_of(settings: SourceSettings) -> Truth | None:
    """None for measured cells."""
    if settings.source == "cascade":
        return _of_cascade(cascade_of(settings))
    if settings.source not in ("gaussian", "course"):
        return None
    exact = pair_of(settings).exact
    betas = np.geomspace(exact.critical_betas[0], 1e6, 2000)
    enough = np.argmax(exact.curve(betas)[:, 1] >= NEARLY_ALL * exact.information)
    return Truth(exact.information, exact.relevance_at, float(betas[0]), float(betas[enough]))


@lru_cache(maxsize=4)
def _of_cascade(cascade: Cascade) -> Truth:
    curve = bottleneck_curve(ligand_table(cascade), np.geomspace(1.01, 300, N_BETAS), n_restarts=0, tolerance=1e-8)
    joint = at_rest(cascade)
    stages = {name: Point(information(joint, "L", name), information(joint, "E", name)) for name in ("S", "G")}
    has_any = curve.relevance > 1e-3 * curve.information
    has_all = curve.relevance >= NEARLY_ALL * curve.information
    first, last = curve.betas[has_any].min(), curve.betas[has_all].min(initial=curve.betas.max())
    return Truth(curve.information, curve.relevance_at, float(first), float(last), stages)
