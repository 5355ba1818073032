"""The capacity of a channel whose input is a number between two bounds: finitely many mass points are best.

Smith 1971 proved it for the Gaussian channel of limited amplitude. The mass points are found on a grid, then moved to
where the information is largest; the certificate is max D(x) over a grid finer than the noise, refined at its peaks.

Source: Smith 1971, doi:10.1016/S0019-9958(71)90346-9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import xlogy

from isometry.information.bits import NATS, Array
from isometry.information.capacity import SMALLEST, capacity

N_GRID = 201
WEIGHTLESS = 1e-9
SLOPE_STEP = 1e-5  # of the input's range

Rows = Callable[[Array], Array]
"""Inputs [n] -> p(y|x) [n, n_y] on a fixed grid of outputs: densities times the weights of a quadrature."""


@dataclass(frozen=True)
class MassPoints:
    """The best inputs."""

    bits: float
    upper: float
    """No inputs within the bounds send more, bits; as fine as the grid on which it was looked for."""
    places: Array
    """[n_points] ascending"""
    weights: Array
    """[n_points]"""


def bounded_input_capacity(rows: Rows, low: float, high: float, *, n_grid: int = N_GRID) -> MassPoints:
    """The capacity over inputs in [low, high].

    Args:
        rows: see `Rows`; must be smooth in the input.
        n_grid: the grid's distance must be below the noise, in units of the input.
    """
    if not low < high:
        raise ValueError(f"the input's bounds must be low < high, found [{low:g}, {high:g}]")
    grid = np.linspace(low, high, n_grid)
    on_grid = capacity(rows(grid), tolerance=1e-7)
    places = _merged(grid, on_grid.inputs)
    places = _moved(rows, places, low, high)
    best = capacity(rows(places))
    kept = best.inputs > WEIGHTLESS
    places, order = places[kept], np.argsort(places[kept])
    best = capacity(rows(places[order]))
    upper = _largest_divergence(rows, best.inputs @ rows(places[order]), grid)
    return MassPoints(best.bits, max(upper, best.bits), places[order], best.inputs)


def gaussian_rows(low: float, high: float, spread: float = 1.0) -> Rows:
    """Y = X + N(0, spread²), on outputs that lack less than 1e-15 of the probability."""
    outputs = np.arange(low - 9 * spread, high + 9 * spread, spread / 20)

    def rows(inputs: Array) -> Array:
        table = np.exp(-(((outputs - np.asarray(inputs)[:, None]) / spread) ** 2) / 2)
        return table / table.sum(1, keepdims=True)

    return rows


def amplitude_limited_gaussian(amplitude: float, spread: float = 1.0) -> MassPoints:
    """Y = X + N(0, spread²) with |X| ≤ amplitude."""
    n_grid = max(N_GRID, 2 * int(10 * amplitude / spread) + 1)
    return bounded_input_capacity(gaussian_rows(-amplitude, amplitude, spread), -amplitude, amplitude, n_grid=n_grid)


def _merged(grid: Array, weights: Array) -> Array:
    """One place per run of neighbouring grid points with weight."""
    used = np.flatnonzero(weights > WEIGHTLESS)
    runs = np.split(used, np.flatnonzero(np.diff(used) > 2) + 1)
    return np.array([np.average(grid[run], weights=weights[run]) for run in runs])


def _moved(rows: Rows, places: Array, low: float, high: float) -> Array:
    """The places where the best weights send most; the slope along a place is its weight times dD/dx."""
    step = SLOPE_STEP * (high - low)

    def loss(at: Array) -> tuple[float, Array]:
        best = capacity(rows(at), tolerance=1e-12)
        outputs = best.inputs @ rows(at)
        slopes = (divergences(rows(at + step), outputs) - divergences(rows(at - step), outputs)) / (2 * step)
        return -best.bits, -best.inputs * slopes

    bounds = [(low, high)] * len(places)
    found = minimize(loss, places, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
    return found.x


def divergences(rows: Array, outputs: Array) -> Array:
    """[n] KL(p(y|x) | p(y)), bits."""
    return (xlogy(rows, rows).sum(1) - rows @ np.log(np.maximum(outputs, SMALLEST))) / NATS


def _largest_divergence(rows: Rows, outputs: Array, grid: Array) -> float:
    values = divergences(rows(grid), outputs)
    best, distance = float(values.max()), float(grid[1] - grid[0])
    for _ in range(3):
        padded = np.concatenate([[-np.inf], values, [-np.inf]])
        peaks = grid[(values >= padded[:-2]) & (values >= padded[2:])]
        fine = (peaks[:, None] + np.linspace(-distance, distance, 21)).ravel()
        grid = np.unique(np.clip(fine, grid[0], grid[-1]))
        values, distance = divergences(rows(grid), outputs), distance / 10
        best = max(best, float(values.max()))
    return best
