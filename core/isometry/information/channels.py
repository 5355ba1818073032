"""Channels from a few inputs to continuous responses whose information is known, to measure estimators against.

Each is sampled, and each has its p(response | input) as a table over a quadrature grid of a sufficient statistic, fine
enough that capacity and information are exact to about 1e-9 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from isometry.information.bits import Array
from isometry.information.capacity import Capacity, Channel, capacity

PER_SPREAD = 8  # grid points; the trapezoidal rule's error on a Gaussian is then below 1e-15
REACH = 9.0  # spreads beyond the outermost mean
FARTHEST = 400.0  # spreads between two means
SAME = 1e-10  # relative, of directions in which means do not differ


@dataclass(frozen=True)
class KnownChannel:
    """Inputs 0 … n-1 to responses of `n_dimensions` numbers."""

    name: str
    n_dimensions: int
    draw: Callable[[np.ndarray, np.random.Generator], Array]
    """(inputs [n_samples], generator) -> responses [n_samples, n_dimensions]"""
    rows: Array
    """[n_inputs, n_grid] p(statistic | input), what is exact about it"""

    @property
    def n_inputs(self) -> int:
        return len(self.rows)

    def sample(self, n_per_input: int, seed: int = 0) -> tuple[np.ndarray, Array]:
        """Inputs [n_samples] and responses [n_samples, n_dimensions], `n_per_input` of each."""
        inputs = np.repeat(np.arange(self.n_inputs), n_per_input)
        return inputs, self.draw(inputs, np.random.default_rng(seed))

    def information(self, inputs: ArrayLike | None = None) -> float:
        """I(input; response) in bits at p(input) [n_inputs]; uniform where not given."""
        uniform = np.full(self.n_inputs, 1 / self.n_inputs)
        return Channel(self.rows).information(uniform if inputs is None else inputs)

    def capacity(self) -> Capacity:
        """The truth for an estimator of capacity."""
        return capacity(self.rows)


def gaussian(means: ArrayLike, spreads: ArrayLike = 1.0, name: str = "Gaussian") -> KnownChannel:
    """One number, N(mean, spread²) at each input; means: [n_inputs], spreads: a number or [n_inputs]."""
    return mixture(np.asarray(means, dtype=float)[:, None], spreads, [1.0], name)


def mixture(means: ArrayLike, spreads: ArrayLike, weights: Sequence[float], name: str = "mixture") -> KnownChannel:
    """One number, drawn at each input from Gaussian modes of common weights.

    Args:
        means: [n_inputs, n_modes].
        spreads: broadcast to the same.
        weights: [n_modes], sum 1.
    """
    centres = np.asarray(means, dtype=float)
    widths = np.broadcast_to(np.asarray(spreads, dtype=float).reshape(-1, 1), centres.shape)
    shares = np.asarray(weights, dtype=float)
    if shares.shape != centres.shape[1:] or abs(shares.sum() - 1) > 1e-9 or not (widths > 0).all():
        raise ValueError(f"{name}: needs spreads above 0 and {centres.shape[1]} weights that sum to 1")
    y = np.arange((centres - REACH * widths).min(), (centres + REACH * widths).max(), widths.min() / PER_SPREAD)
    distance = (y - centres[..., None]) / widths[..., None]
    density = np.einsum("m,nmy->ny", shares, np.exp(-(distance**2) / 2) / widths[..., None])

    def draw(inputs: np.ndarray, rng: np.random.Generator) -> Array:
        modes = rng.choice(len(shares), size=len(inputs), p=shares)
        return (centres[inputs, modes] + widths[inputs, modes] * rng.normal(size=len(inputs)))[:, None]

    return KnownChannel(name, 1, draw, density / density.sum(1, keepdims=True))


def bimodal(distances: ArrayLike = (0.0, 1.5, 3.0, 5.0, 8.0), spread: float = 1.0) -> KnownChannel:
    """Two modes at ± the input's distance: the mean is always 0, the information is in the shape alone."""
    apart = np.asarray(distances, dtype=float)
    return mixture(np.stack([-apart, apart], axis=1), spread, [0.5, 0.5], "bimodal")


def heavy_tailed(locations: ArrayLike, degrees: float = 2.0, scale: float = 1.0) -> KnownChannel:
    """One number, Student's t of `degrees` about the input's location: at 2 degrees or fewer, no finite variance."""
    places = np.asarray(locations, dtype=float)
    # Outputs y = sinh(u): tails that fall as a power of y fall exponentially in u.
    u = np.linspace(-1, 1, 12_001) * (40 / min(degrees, 2.0) + np.log1p(np.abs(places).max() + scale))
    outside = np.arcsinh(places.mean() / scale)
    y = scale * np.sinh(u + outside)
    density = student.pdf((y - places[:, None]) / scale, degrees) * np.cosh(u + outside)

    def draw(inputs: np.ndarray, rng: np.random.Generator) -> Array:
        return (places[inputs] + scale * rng.standard_t(degrees, size=len(inputs)))[:, None]

    return KnownChannel("heavy tail", 1, draw, density / density.sum(1, keepdims=True))


def correlated(means: ArrayLike, covariance: ArrayLike, name: str = "correlated") -> KnownChannel:
    """Several numbers, N(mean, Σ) with one Σ for all inputs.

    The directions in which whitened means differ are sufficient; at most two of them can be integrated over.

    Args:
        means: [n_inputs, n_dimensions].
        covariance: [n_dimensions, n_dimensions].
    """
    centres = np.asarray(means, dtype=float)
    root = np.linalg.cholesky(np.asarray(covariance, dtype=float))
    whitened = np.linalg.solve(root, (centres - centres.mean(0)).T).T
    _, lengths, directions = np.linalg.svd(whitened, full_matrices=False)
    kept = directions[lengths > SAME * max(lengths.max(), 1.0)]
    if len(kept) > 2:
        raise ValueError(f"{name}: means that differ in {len(kept)} directions; at most 2 can be integrated over")
    projected = (whitened @ kept.T).T
    if np.ptp(projected, axis=1).max(initial=0) > FARTHEST:
        raise ValueError(f"{name}: means more than {FARTHEST:g} spreads apart, too far to integrate; use a larger Σ")
    rows = np.ones((len(centres), 1))
    for places in projected:
        y = np.arange(places.min() - REACH, places.max() + REACH, 1 / PER_SPREAD if len(kept) == 1 else 0.25)
        density = np.exp(-((y - places[:, None]) ** 2) / 2)
        rows = np.einsum("na,nb->nab", rows, density / density.sum(1, keepdims=True)).reshape(len(centres), -1)

    def draw(inputs: np.ndarray, rng: np.random.Generator) -> Array:
        return centres[inputs] + rng.normal(size=(len(inputs), len(root))) @ root.T

    return KnownChannel(name, centres.shape[1], draw, rows)


def courses(doses: ArrayLike, n_times: int) -> Array:
    """[n_inputs, n_times] mean courses: a peak that saturates with the dose and a late plateau that does not."""
    amounts = np.asarray(doses, dtype=float)[:, None]
    time = np.linspace(0, 1, n_times)
    peak = np.exp(-(((time - 0.2) / 0.08) ** 2) / 2)
    late = 1 / (1 + np.exp(-(time - 0.6) / 0.05))
    return amounts / (1 + amounts) * peak + 0.08 * amounts * late


def time_course(
    doses: ArrayLike = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0), n_times: int = 20, spread: float = 0.25, memory: float = 0.9
) -> KnownChannel:
    """`courses` in noise that remembers itself.

    Args:
        doses: [n_inputs] ≥ 0.
        n_times: samples of each course.
        spread: of the noise at one time; the peak's height is 1.
        memory: correlation of the noise from one time to the next.
    """
    lag = np.abs(np.subtract.outer(np.arange(n_times), np.arange(n_times)))
    return correlated(courses(doses, n_times), spread**2 * memory**lag, "time course")


def known_channels() -> list[KnownChannel]:
    """One of each kind, of 1 to 2 bits."""
    return [
        gaussian([0.0, 1.0, 2.5, 4.0, 6.0]),
        gaussian([0.0, 1.0, 3.0, 6.0, 10.0], [0.4, 0.6, 1.0, 1.5, 2.0], "Gaussian, growing noise"),
        bimodal(),
        heavy_tailed([0.0, 2.0, 5.0, 9.0, 14.0]),
        time_course(),
    ]
