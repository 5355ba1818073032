"""The Jacobian of a network: how much it stretches every direction, from what enters to what a read-out sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any

import torch
from torch import Generator, Tensor

from isometry.doctor.products import Method, Products, Pushed, Site
from isometry.doctor.subject import Subject
from isometry.spell import what_failed

N_PROBES = 1
N_PRODUCTS = 3
EXACT_BELOW = 8  # so few directions are all taken, one by one
DISAGREEMENT = 0.02  # of J v and Jᵀ u, relative: more is no rounding

Operator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Growth:
    """Of a small disturbance of the input on its way."""

    layer: str
    has_weight: bool
    log_gain: float
    """ln of the disturbance's root mean square at the layer's output, over that of what entered; -inf: it died; inf:
    beyond all numbers."""


@dataclass(frozen=True)
class Jacobian:
    """J from `start` to `end` for the whole batch, with the norms' statistics and dropout held still.

    Lanczos with few products sees the ends of the spectrum from inside: `largest` is a lower estimate and `smallest`
    an upper one, unless `is_exact`; a singular value lies within `…_error` of each.
    """

    start: str
    end: str
    n_inputs: int
    n_outputs: int
    method: Method | None = None
    """How J v was taken."""
    singular_values: list[float] | None = None
    """Largest first; all if `is_exact`, else Lanczos' estimates."""
    weights: list[float] | None = None
    """Share of all directions that each of these stands for."""
    is_exact: bool = False
    largest: float | None = None
    largest_error: float | None = None
    smallest: float | None = None
    """Of min(n_inputs, n_outputs) singular values."""
    smallest_error: float | None = None
    condition: float | None = None
    """largest / smallest; a lower estimate unless `is_exact`; inf where some direction is lost."""
    mean_square: float | None = None
    """Mean σ²: the Frobenius norm's square over the number of singular values."""
    isometry_error: float | None = None
    """Root mean square over all directions of |σ² - 1|."""
    relative_isometry_error: float | None = None
    """Root mean square of |σ² / mean σ² - 1|: the unevenness alone."""
    growth: list[Growth] | None = None
    log_gain: float | None = None
    """ln of a disturbance's growth (per number) from the input of the second layer with a weight to `end`, where the
    units of the data play no part; -inf: it died on the way; inf: it grew beyond all numbers; None: one layer.
    """
    entry_log_gain: float | None = None
    """The same from `start`."""
    n_weight_layers: int = 0
    """Between `start` and `end`."""
    lyapunov: float | None = None
    """log_gain per layer with a weight."""
    lyapunov_error: float | None = None
    """One standard error, from the scatter of the layers' gains taken as independent."""
    spread: float | None = None
    """ln(largest / smallest) per layer with a weight: the most minus the least that a direction grows."""
    reason: str | None = None
    """Why something is None, or is no more than a bound."""


def measure_jacobian(subject: Subject, n_products: int = N_PRODUCTS, n_probes: int = N_PROBES) -> Jacobian:
    """Golub-Kahan-Lanczos with `n_products` pairs of J v and Jᵀ u, and the growth of `n_probes` random disturbances.

    Up to max(`n_products`, 8) singular values are all computed, from J itself.
    Source: Golub & Kahan 1965, doi:10.1137/0702016; moments by random vectors: Hutchinson 1989,
        doi:10.1080/03610918908812806; Lyapunov exponents of deep nets: Poole et al. 2016, arXiv:1606.05340.
    """
    try:
        products = Products(subject, is_thrifty=True)
    except Exception as error:
        return Jacobian("input", "", 0, 0, reason=what_failed(error))
    empty = Jacobian(products.start, str(products.end), products.n_inputs, products.n_outputs)
    try:
        return _measured(products, empty, n_products, n_probes)
    except Exception as error:
        return replace(empty, reason=what_failed(error))


def _measured(products: Products, empty: Jacobian, n_products: int, n_probes: int) -> Jacobian:
    random = _Random(products)
    start = random.of(products.n_inputs)
    first = products.pushed(start)
    if products.fit_scale(first):
        first = products.pushed(start)
    if not bool(first.end.isfinite().all()):
        found = replace(empty, method=products.method, **_growth(products, [first]))
        return replace(found, reason=f"a disturbance of the {products.start} grows beyond all numbers")
    if _disagreement(products, random, start, first.end) > DISAGREEMENT and products.fall_back():
        return _measured(products, empty, n_products, n_probes)
    probes = [first, *(products.pushed(random.of(products.n_inputs)) for _ in range(n_probes - 1))]
    spectrum = _spectrum(products, random, (start, first.end), n_products)
    return _told(replace(empty, method=products.method), products, probes, spectrum)


class _Random:
    """Random directions of unit length, the same for every examination of one subject."""

    def __init__(self, products: Products) -> None:
        self.products, self.generator = products, Generator().manual_seed(products.subject.seed)

    def of(self, n: int) -> Tensor:
        direction = torch.randn(n, generator=self.generator).to(**self.products.vector)
        return direction / direction.norm()


def _disagreement(products: Products, random: _Random, v: Tensor, image: Tensor) -> float:
    """Of ⟨u, J v⟩ and ⟨Jᵀ u, v⟩, relative, u along J v: an operation may drop a tangent without a word."""
    size = float(image.norm())
    u = image / size if size > 0 else random.of(len(image))
    found = float(products.backward(u) @ v)
    return abs(found - size) / max(size, abs(found)) if found or size else 0.0


# The spectrum


@dataclass
class _Spectrum:
    values: list[float]
    weights: list[float]
    errors: list[float]
    mean_square: float
    mean_fourth: float
    is_exact: bool


def _spectrum(products: Products, random: _Random, known: tuple[Tensor, Tensor], n_products: int) -> _Spectrum:
    """Seen from the narrower side, where all singular values are those of directions that exist.

    Args:
        known: a random direction v and J v.
    """
    into, back = products.forward, products.backward
    n, (start, image) = products.n_inputs, known
    if products.n_outputs < n:
        n, into, back = products.n_outputs, back, into
        start = random.of(n)
        image = into(start)
    if n <= max(EXACT_BELOW, n_products):
        return _all_of(into, n, products)
    return _lanczos(into, back, (start, image), n_products, products.epsilon)


def _all_of(into: Operator, n: int, products: Products) -> _Spectrum:
    columns = [into(unit) for unit in torch.eye(n, **products.vector)]
    values = torch.linalg.svdvals(torch.stack(columns).cpu().double())
    squares = values.square()
    error = products.epsilon * float(values[0])
    moments = float(squares.mean()), float(squares.square().mean())
    return _Spectrum(values.tolist(), [1 / n] * n, [error] * n, *moments, is_exact=True)


def _lanczos(
    into: Operator, back: Operator, known: tuple[Tensor, Tensor], n_products: int, epsilon: float
) -> _Spectrum:
    """Bidiagonalisation with full reorthogonalisation; the weights of Gauss quadrature give each value its share."""
    start, image = known
    right, left, alphas, betas = [start], [], [], []
    for _ in range(n_products):
        u = _orthogonal_to(left, into(right[-1]) if left else image)
        alphas.append(float(u.norm()))
        if not alphas[-1] > 0:
            break
        left.append(u / u.norm())
        w = _orthogonal_to(right, back(left[-1]))
        betas.append(float(w.norm()))
        if betas[-1] <= 10 * epsilon * max(alphas):
            betas[-1] = 0.0
            break
        right.append(w / w.norm())
    return _of_bidiagonal(alphas, betas)


def _of_bidiagonal(alphas: list[float], betas: list[float]) -> _Spectrum:
    k = len(alphas)
    b = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    b += torch.diag(torch.tensor(betas[: k - 1], dtype=torch.float64), 1)
    p, values, q = torch.linalg.svd(b)
    last = betas[-1] if len(betas) == k else 0.0
    errors = (last * p[-1].abs()).tolist()
    square = alphas[0] ** 2
    fourth = square * (square + (betas[0] ** 2 if betas else 0.0))
    weights = q[:, 0].square().tolist()
    return _Spectrum(values.tolist(), weights, errors, square, fourth, last == 0.0)


def _orthogonal_to(known: list[Tensor], vector: Tensor) -> Tensor:
    """Twice is enough (Kahan)."""
    for _ in range(2 if known else 0):
        span = torch.stack(known)
        vector = vector - span.T @ (span @ vector)
    return vector


# What it says


def _told(empty: Jacobian, products: Products, probes: list[Pushed], spectrum: _Spectrum) -> Jacobian:
    largest, smallest, square = spectrum.values[0], spectrum.values[-1], spectrum.mean_square
    n = len(products.depth)
    resolved = smallest > 10 * products.epsilon * largest
    condition = largest / smallest if smallest > 0 else math.inf if largest > 0 else None
    return replace(
        empty,
        singular_values=spectrum.values,
        weights=spectrum.weights,
        is_exact=spectrum.is_exact and resolved,
        largest=largest,
        largest_error=spectrum.errors[0],
        smallest=smallest,
        smallest_error=spectrum.errors[-1],
        condition=condition,
        mean_square=square,
        isometry_error=math.sqrt(max(0.0, spectrum.mean_fourth - 2 * square + 1)),
        relative_isometry_error=math.sqrt(max(0.0, spectrum.mean_fourth / square**2 - 1)) if square > 0 else None,
        spread=math.log(condition) / max(1, n) if condition else None,
        reason=_reservation(spectrum, resolved, products),
        **_growth(products, probes),
    )


def _reservation(spectrum: _Spectrum, resolved: bool, products: Products) -> str | None:
    if spectrum.values[0] == 0:
        return f"no disturbance of the {products.start} reaches the {products.end}"
    if not resolved:
        return "the smallest singular value is below the rounding errors of the largest; it is an upper estimate"
    if not spectrum.is_exact:
        return "the smallest singular value is an upper estimate: Lanczos has not come to its end"
    return None


def _growth(products: Products, probes: list[Pushed]) -> dict[str, Any]:
    entered = -0.5 * math.log(products.n_inputs)  # the root mean square of a unit vector
    outputs = {site.layer: site for site in probes[0].log_rms if site.side == "output"}
    has_weight = {layer.name: layer.has_weight for layer in products.subject.layers}
    growth = [Growth(name, has_weight[name], _mean_at(site, probes) - entered) for name, site in outputs.items()]
    path = [Site(layer.name, "input") for layer in products.depth] + [products.end]
    found: dict[str, Any] = {"growth": growth, "n_weight_layers": len(products.depth)}
    found["entry_log_gain"] = _mean_at(products.end, probes) - entered
    if len(path) < 3:  # one layer: its gain depends on the data's units
        return found
    gains = [[_at(site, probe) for site in path[1:]] for probe in probes]
    rates = [(logs[-1] - logs[0]) / (len(logs) - 1) for logs in gains]
    rate = fmean(rates) if all(map(math.isfinite, rates)) else _mean_at(products.end, probes)
    found["lyapunov"], found["log_gain"] = rate, rate * (len(path) - 2)
    found["lyapunov_error"] = _standard_error(gains, rates)
    return found


def _standard_error(gains: list[list[float]], rates: list[float]) -> float | None:
    """Of the layers' mean gain, in which the probes' own scatter counts too."""
    steps = [fmean(logs[i + 1] - logs[i] for logs in gains) for i in range(len(gains[0]) - 1)]
    if len(steps) < 2 or not all(map(math.isfinite, steps)):
        return None
    of_probes = variance(rates) / len(rates) if len(rates) > 1 else 0.0
    return math.sqrt(variance(steps) / len(steps) + of_probes)


def _mean_at(site: Site, probes: list[Pushed]) -> float:
    return fmean(_at(site, probe) for probe in probes)


def _at(site: Site, probe: Pushed) -> float:
    """-inf: the disturbance died before; inf: it, or what it is a disturbance of, has left the range of numbers."""
    log = probe.log_rms.get(site, -math.inf)
    return math.inf if math.isnan(log) else log
