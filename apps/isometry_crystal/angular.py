"""Directions: real spherical harmonics and their gradients, couplings of two tensors, and a quadrature of the sphere.

All harmonics are e3nn's with "component" normalisation: the mean over the sphere of every Y_lm² is 1. A tensor of
degrees 0..l_max has n_components(l_max) = (l_max + 1)² components, ordered by degree.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from e3nn import o3
from scipy.integrate import lebedev_rule
from torch import Tensor

LEBEDEV = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 41)  # degrees for which a rule exists


def n_components(l_max: int) -> int:
    return (l_max + 1) ** 2


def degree_of(l_max: int) -> Tensor:
    """[n_components] the degree l of each component."""
    return torch.tensor([degree for degree in range(l_max + 1) for _ in range(2 * degree + 1)])


def harmonics(direction: Tensor, l_max: int) -> Tensor:
    """Y_lm of unit vectors: [..., 3] -> [..., n_components]."""
    return o3.spherical_harmonics(list(range(l_max + 1)), direction, normalize=False, normalization="component")


@lru_cache
def gradient_couplings(l_max: int) -> Tensor:
    """G with ∂/∂x_a [r^l Y_lm](x) = Σ_q G[lm, a, q] [r^(l-1) Y_q](x).

    The gradient of a harmonic polynomial of degree l is one of degree l - 1, coupled by the Wigner 3j symbol; its
    length follows from Euler's theorem x·∇S = l S.
    Returns: [n_components(l_max), 3, n_components(l_max - 1)] float64.
    """
    couplings = torch.zeros(n_components(l_max), 3, max(n_components(l_max - 1), 1), dtype=torch.float64)
    point = torch.tensor([0.36, 0.48, 0.8], dtype=torch.float64)
    values = harmonics(point, l_max)
    for degree in range(1, l_max + 1):
        here, below = slice(degree**2, (degree + 1) ** 2), slice((degree - 1) ** 2, degree**2)
        shape = o3.wigner_3j(degree, 1, degree - 1, dtype=torch.float64)
        euler = torch.einsum("maq,a,q->m", shape, point, values[below])
        couplings[here, :, below] = shape * (degree * values[here].dot(euler) / euler.dot(euler))
    return couplings


def slope_along(cotangent: Tensor, direction: Tensor, values: Tensor, couplings: Tensor) -> Tensor:
    """Σ_lm cotangent_lm r ∂Y_lm(x/r)/∂x, differentiable in the cotangent alone: [..., 3].

    Args:
        cotangent: [..., n_components]. direction: [..., 3] unit vectors. values: [..., n_components] their harmonics.
        couplings: from `gradient_couplings`.
    """
    n_below = couplings.shape[2]
    polynomial = (cotangent @ couplings.flatten(1)).unflatten(-1, (3, n_below))
    gradient = (polynomial * values[..., None, :n_below]).sum(-1)
    return gradient - direction * (gradient * direction).sum(-1, keepdim=True)


class Coupling(NamedTuple):
    """All products of edge harmonics (degree ≤ l_max) with neighbour tensors (≤ l_hidden) that are true tensors.

    Each path (l_edge, l_hidden -> l_out) has even l_edge + l_hidden + l_out: no pseudo-tensors.
    """

    matrix: Tensor  # [n_paths_m, n_components(l_max) * n_components(l_hidden)] float64, rows of length one
    component: Tensor  # [n_paths_m] the output component (l_out, m) of each row
    path: Tensor  # [n_paths_m] the path of each row


@lru_cache
def coupling(l_max: int, l_hidden: int, l_out: int) -> Coupling:
    """Source: Clebsch-Gordan coefficients from `e3nn.o3.wigner_3j`."""
    rows, component, path = [], [], []
    paths = [
        (a, b, c)
        for c in range(l_out + 1)
        for a in range(l_max + 1)
        for b in range(l_hidden + 1)
        if abs(a - b) <= c <= a + b and (a + b + c) % 2 == 0
    ]
    for number, (a, b, c) in enumerate(paths):
        block = torch.zeros(2 * c + 1, n_components(l_max), n_components(l_hidden), dtype=torch.float64)
        symbol = o3.wigner_3j(c, a, b, dtype=torch.float64) * math.sqrt(2 * c + 1)
        block[:, a**2 : (a + 1) ** 2, b**2 : (b + 1) ** 2] = symbol
        rows.append(block.flatten(1))
        component += range(c**2, (c + 1) ** 2)
        path += [number] * (2 * c + 1)
    return Coupling(torch.cat(rows), torch.tensor(component), torch.tensor(path))


class Sphere(NamedTuple):
    """A quadrature of the sphere, exact for polynomials up to a degree, as two matrices (float64)."""

    to_points: Tensor  # [n_points, n_components(l_in)]: a tensor becomes a function on the sphere
    to_tensor: Tensor  # [n_components(l_out), n_points]: the function's harmonic moments (means over the sphere)


@lru_cache
def sphere(l_in: int, l_out: int, degree: int) -> Sphere:
    """Source: Lebedev & Laikov 1999, by scipy.integrate.lebedev_rule."""
    points, weights = lebedev_rule(next(d for d in LEBEDEV if d >= degree))
    direction = torch.from_numpy(points.T.copy())
    weight = torch.from_numpy(weights) / (4 * math.pi)
    return Sphere(harmonics(direction, l_in), harmonics(direction, l_out).T * weight)


def power_gains(on_sphere: Sphere, power: int) -> Tensor:
    """[n_components(l_out)] what brings the moments of f^power to mean square 1, f a Gaussian function of variance 1.

    E[f(s)^p f(t)^p] = Σ_k C(p,k)² k! ((p-k-1)!!)² ρ(s,t)^k, p - k even (Isserlis 1918), ρ the correlation of f.
    """
    points = on_sphere.to_points
    correlation = points @ points.T / points.shape[1]
    covariance = torch.zeros_like(correlation)
    for k in range(power % 2, power + 1, 2):
        pairings = math.prod(range(power - k - 1, 0, -2))
        covariance += math.comb(power, k) ** 2 * math.factorial(k) * pairings**2 * correlation**k
    variance = torch.einsum("cs,st,ct->c", on_sphere.to_tensor, covariance, on_sphere.to_tensor)
    return variance.clamp(min=1e-12).rsqrt()
