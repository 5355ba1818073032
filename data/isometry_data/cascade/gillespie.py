"""Exact stochastic simulation of many cells at once.

Source: Gillespie 1977, doi:10.1021/j100540a008 (direct method). A waiting time that passes the next observation is
thrown away and drawn again from there: exponential times have no memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isometry_data.cascade.reactions import CHANGES, Cascade


def simulate(
    cascade: Cascade,
    environments: ArrayLike,
    times: ArrayLike,
    *,
    start: ArrayLike | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Molecules in every cell at every time.

    Args:
        environments: [n_cells] index of each cell's environment.
        times: [n_times] minutes, ascending, from 0.
        start: [n_cells, 3] L, S, G at time 0; where not given, L is drawn from its environment and S = G = 0.
    Returns:
        [n_cells, n_times, 3] int: L, S, G.
    """
    rng = np.random.default_rng(seed)
    means = np.asarray(cascade.ligand_means)[np.asarray(environments)]
    moments = np.ravel(np.asarray(times, dtype=float))
    if (np.diff(moments, prepend=0.0) < 0).any():
        raise ValueError(f"times must be ≥ 0 and ascending, found {moments.tolist()}")
    if start is None:
        cells = np.zeros((len(means), 3), dtype=np.int64)
        cells[:, 0] = rng.poisson(means)
    else:
        cells = np.array(start, dtype=np.int64)
    seen = np.empty((len(means), len(moments), 3), dtype=np.int64)
    for i, (now, then) in enumerate(zip([0.0, *moments[:-1]], moments, strict=True)):
        _advance(cascade, cells, means, then - now, rng)
        seen[:, i] = cells
    return seen


def _advance(cascade: Cascade, cells: np.ndarray, means: np.ndarray, duration: float, rng: np.random.Generator) -> None:
    """Let `cells` [n_cells, 3] react for `duration` minutes, in place."""
    left, live = np.full(len(cells), duration), np.arange(len(cells))
    while len(live):
        rates = cascade.rates(*cells[live].T, means[live])
        total = rates.sum(1)
        left[live] -= rng.exponential(size=len(live)) / total
        reacts = left[live] >= 0
        live, rates, total = live[reacts], rates[reacts], total[reacts]
        chosen = (rates.cumsum(1) < (rng.random(len(live)) * total)[:, None]).sum(1)
        cells[live] += CHANGES[np.minimum(chosen, len(CHANGES) - 1)]
