"""Gaussians on a ring: a density that is known, so that samples can be judged exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from isometry.settings import Settings
from pydantic import Field, PositiveFloat, PositiveInt
from scipy.special import ndtr

N_CELLS = 25  # per axis, of the grid on which densities are compared


class RingSettings(Settings):
    """`n_modes` equal Gaussians, evenly on a circle, all in the same (arbitrary) unit of length."""

    n_modes: PositiveInt = 8
    radius: PositiveFloat = 2.0
    spread: float = Field(default=0.1, gt=0)
    """Standard deviation of each Gaussian and coordinate. Metz et al. 2017 take 0.02, which wants longer training."""


def centres(ring: RingSettings) -> np.ndarray:
    """[n_modes, 2]"""
    angles = 2 * math.pi * np.arange(ring.n_modes) / ring.n_modes
    return ring.radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def point(ring: RingSettings, rng: np.random.Generator) -> np.ndarray:
    """[2] one draw."""
    angle = 2 * math.pi * rng.integers(ring.n_modes) / ring.n_modes
    return ring.radius * np.array([math.cos(angle), math.sin(angle)]) + ring.spread * rng.normal(size=2)


class Nearest(NamedTuple):
    """Each sample's nearest mode."""

    mode: np.ndarray
    """[n] 0 … n_modes - 1, counter-clockwise from the positive x axis."""
    spreads: np.ndarray
    """[n] distance from its centre, in standard deviations."""

    @property
    def is_good(self) -> np.ndarray:
        """[n] whether a sample counts as of high quality: within three standard deviations."""
        return self.spreads < 3


def nearest(ring: RingSettings, samples: np.ndarray) -> Nearest:
    distances = np.linalg.norm(samples[:, None] - centres(ring)[None], axis=-1)
    mode = distances.argmin(1)
    return Nearest(mode, distances[np.arange(len(mode)), mode] / ring.spread)


def scores_of(ring: RingSettings, samples: np.ndarray) -> dict[str, float]:
    """How well samples [n, 2] represent the ring.

    modes: with at least one sample of high quality; quality: their share of the samples; kl: nats, of the samples'
    shares of the modes against equal ones; js: bits in [0, 1], of the samples against the true density on a grid.
    `js` of n perfect samples is not 0 but about 0.01 at n = 2,500.
    Source: modes and quality: Srivastava et al. 2017, arXiv:1705.07761; the same with kl: Lin et al. 2018,
        arXiv:1712.04086, section 4.1; the ring: Metz et al. 2017, arXiv:1611.02163, section 3.1.
    """
    found = nearest(ring, samples)
    counts = np.bincount(found.mode, minlength=ring.n_modes)
    good = np.bincount(found.mode[found.is_good], minlength=ring.n_modes)
    shares, equal = counts / counts.sum(), np.full(ring.n_modes, 1 / ring.n_modes)
    return {
        "modes": float((good > 0).sum()),
        "quality": float(found.is_good.mean()),
        "kl": _divergence(shares, equal),
        "js": _jensen_shannon(_shares_of_cells(ring, samples), _true_shares_of_cells(ring)),
    }


def _edges(ring: RingSettings) -> np.ndarray:
    """Of the cells along either axis; the outermost reach to infinity."""
    reach = ring.radius + 4 * ring.spread
    inner = np.linspace(-reach, reach, N_CELLS - 1)
    return np.concatenate([[-np.inf], inner, [np.inf]])


def _true_shares_of_cells(ring: RingSettings) -> np.ndarray:
    """[N_CELLS²] exact, from the normal distribution function."""
    steps = [np.diff(ndtr((_edges(ring)[None] - along[:, None]) / ring.spread), axis=1) for along in centres(ring).T]
    return np.einsum("mx,my->xy", *steps).ravel() / ring.n_modes


def _shares_of_cells(ring: RingSettings, samples: np.ndarray) -> np.ndarray:
    edges = _edges(ring)[1:-1]
    x, y = (np.searchsorted(edges, along) for along in samples.T)
    return np.bincount(x * N_CELLS + y, minlength=N_CELLS**2) / len(samples)


def _jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2
    return (_divergence(p, middle) + _divergence(q, middle)) / (2 * math.log(2))


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler, nats."""
    is_there = p > 0
    return float((p[is_there] * np.log(p[is_there] / q[is_there])).sum())
