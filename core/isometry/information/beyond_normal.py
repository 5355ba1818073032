"""The 40 tasks of known mutual information of "Beyond Normal", made from their definition.

A task is a pair (X, Y) of known information, and images f(X), g(Y) under one-to-one maps, which change nothing about
it. The information is in nats, as published.

Source: Czyż, Grabowski, Vogt, Beerenwinkel and Marx 2023, arXiv:2306.11078; names and order as in their benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, gammaln, ndtr

from isometry.information.bits import NATS, Array

Map = Callable[[Array], Array]
Pair = tuple[Array, Array]

CORRELATION = 0.75  # of the tasks in one dimension
PAIRED = 0.8  # of each of two pairs: variance 1 + 2², covariance 2²
DENSE = 0.5  # between any two components
HALVINGS = 60


@dataclass(frozen=True)
class Task:
    """Samples of a distribution and its mutual information."""

    name: str
    n_x: int
    n_y: int
    nats: float
    """I(X; Y)"""
    draw: Callable[[int, np.random.Generator], Pair]

    @property
    def bits(self) -> float:
        return self.nats / NATS

    def sample(self, n_samples: int, seed: int = 0) -> Pair:
        """X [n_samples, n_x] and Y [n_samples, n_y]."""
        return self.draw(n_samples, np.random.default_rng(seed))


def normal(name: str, covariance: Array, n_x: int) -> Task:
    """Jointly Gaussian; covariance: [n_x + n_y, n_x + n_y]."""
    root = np.linalg.cholesky(covariance)
    parts = (covariance[:n_x, :n_x], covariance[n_x:, n_x:], covariance)
    of_x, of_y, of_both = (float(np.linalg.slogdet(part)[1]) for part in parts)

    def draw(n_samples: int, rng: np.random.Generator) -> Pair:
        both = rng.normal(size=(n_samples, len(root))) @ root.T
        return both[:, :n_x], both[:, n_x:]

    return Task(name, n_x, len(root) - n_x, (of_x + of_y - of_both) / 2, draw)


def dense_normal(n: int) -> Task:
    return normal(f"Mn {n} × {n} (dense)", np.eye(2 * n) * (1 - DENSE) + DENSE, n)


def paired_normal(n: int) -> Task:
    """Two pairs of components know of each other, all else is independent."""
    covariance = np.eye(2 * n)
    for i in range(2):
        covariance[i, n + i] = covariance[n + i, i] = PAIRED
    return normal(f"Mn {n} × {n} (2-pair)", covariance, n)


def student(n: int, degrees: int) -> Task:
    """Student's t of unit dispersion: components without correlation share the size of their deviations.

    Information: Arellano-Valle, Contreras-Reyes and Genton 2013, from the entropies (their last formula has a slip).
    """
    nats = 2 * _entropy_of_student(n, degrees) - _entropy_of_student(2 * n, degrees)

    def draw(n_samples: int, rng: np.random.Generator) -> Pair:
        size = np.sqrt(degrees / rng.chisquare(degrees, size=(n_samples, 1)))
        both = rng.normal(size=(n_samples, 2 * n)) * size
        return both[:, :n], both[:, n:]

    return Task(f"St {n} × {n} (dof={degrees})", n, n, nats, draw)


def _entropy_of_student(n: int, degrees: float) -> float:
    half, of_degrees = (degrees + n) / 2, degrees / 2
    constant = gammaln(of_degrees) - gammaln(half) + n / 2 * np.log(degrees * np.pi)
    return float(constant + half * (digamma(half) - digamma(of_degrees)))


def additive_noise(width: float) -> Task:
    """X uniform on [0, 1], Y = X + noise uniform on [-width, width]."""
    nats = 1 / (4 * width) if width > 0.5 else width - np.log(2 * width)

    def draw(n_samples: int, rng: np.random.Generator) -> Pair:
        x = rng.random((n_samples, 1))
        return x, x + rng.uniform(-width, width, size=(n_samples, 1))

    return Task(f"Uniform 1 × 1 (additive noise={width})", 1, 1, float(nats), draw)


def mapped(task: Task, prefix: str, of_x: Map, of_y: Map, n_x: int | None = None) -> Task:
    """The task's image under maps that are one-to-one."""

    def draw(n_samples: int, rng: np.random.Generator) -> Pair:
        x, y = task.draw(n_samples, rng)
        return of_x(x), of_y(y)

    return replace(task, name=f"{prefix} @ {task.name}", n_x=n_x or task.n_x, draw=draw)


def half_cube(x: Array) -> Array:
    """x |x|^½: longer tails."""
    return x * np.sqrt(np.abs(x))


def wiggly_x(x: Array) -> Array:
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(y: Array) -> Array:
    return y - 0.4 * np.sin(0.4 * y) + 0.17 * np.sin(1.3 * y + 3.5) + 0.02 * np.sin(4.3 * y - 2.5)


def swiss_roll(u: Array) -> Array:
    """[n, 1] in [0, 1] -> [n, 2] on a rolled-up line."""
    angle = 1.5 * np.pi * (1 + 2 * u)
    return np.concatenate([angle * np.cos(angle), angle * np.sin(angle)], axis=1) / 21


def spiral(x: Array, first: int) -> Array:
    """Components `first` and `first + 1` turned by |x|² / n: a rotation that grows with the distance."""
    angle = (x**2).sum(1) / x.shape[1]
    turned = x.copy()
    one, other = x[:, first], x[:, first + 1]
    turned[:, first] = np.cos(angle) * one - np.sin(angle) * other
    turned[:, first + 1] = np.sin(angle) * one + np.cos(angle) * other
    return turned


def two_modes(z: Array, weight: float, places: tuple[float, float]) -> Array:
    """A standard normal to a mixture of two unit normals of the same quantiles, by bisection."""
    low, high = np.full_like(z, -40.0), np.full_like(z, 40.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        # Of both tails the smaller one is compared: 1 - p would round away.
        lower = weight * ndtr(middle - places[0]) + (1 - weight) * ndtr(middle - places[1])
        upper = weight * ndtr(places[0] - middle) + (1 - weight) * ndtr(places[1] - middle)
        is_below = np.where(z < 0, lower < ndtr(z), upper > ndtr(-z))
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return (low + high) / 2


def spiralled(task: Task) -> Task:
    return mapped(task, "Sp", lambda x: spiral(x, 0), lambda y: spiral(y, 1))


def normal_cdf(task: Task) -> Task:
    return mapped(task, "Nm CDF", ndtr, ndtr)


def tasks() -> list[Task]:
    """All 40, in the published order."""
    bivariate = normal("Bivariate Nm 1 × 1", np.array([[1, CORRELATION], [CORRELATION, 1]]), 1)
    uniform = normal_cdf(bivariate)
    bimodal = mapped(bivariate, "", lambda x: two_modes(x, 0.3, (0, 5)), lambda y: two_modes(y, 0.5, (-1, 3)))
    roll = mapped(uniform, "", swiss_roll, lambda y: y, n_x=2)
    paired = [paired_normal(n) for n in (3, 5, 25)]
    return [
        bivariate,
        uniform,
        additive_noise(0.1),
        additive_noise(0.75),
        replace(bimodal, name="Bimodal 1 × 1"),
        mapped(bivariate, "Wiggly", wiggly_x, wiggly_y),
        mapped(bivariate, "Hc", half_cube, half_cube),
        student(1, 1),
        mapped(student(1, 1), "Asinh", np.arcsinh, np.arcsinh),
        replace(roll, name="Swiss roll 2 × 1"),
        *(dense_normal(n) for n in (2, 3, 5, 25, 50)),
        *(paired_normal(n) for n in (2, 3, 5, 25)),
        *(student(n, degrees) for n, degrees in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3))),
        *(normal_cdf(task) for task in paired),
        *(mapped(task, "Hc", half_cube, half_cube) for task in paired),
        *(spiralled(task) for task in paired),
        *(spiralled(normal_cdf(task)) for task in paired),
        *(mapped(student(n, d), "Asinh", np.arcsinh, np.arcsinh) for n, d in ((2, 1), (3, 2), (5, 2))),
    ]
