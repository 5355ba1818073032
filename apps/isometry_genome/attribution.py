"""What each base is worth by the gradient of one output: gradient × input, and gradients integrated along a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isometry_genome.heads import N_BASES

N_NODES = 32
"""Of Gauss and Legendre's rule, along the path."""

Value = Callable[[Tensor], Tensor]
"""Windows [n, length, 4] to [n]."""


class Gradients(NamedTuple):
    """Of a region of n bases."""

    estimates: np.ndarray
    """[n, 4] what the gradient says of each substitution; exact where the output is linear"""
    contributions: np.ndarray
    """[n] gradient × input, the gradient less its mean over the four bases"""
    integrated: np.ndarray
    """[n] integrated gradients from the region unknown (N) to the region as it is"""
    incomplete: float
    """By how much these miss the difference of the output that they are to share out"""


def gradients(x: Tensor, first: int, n: int, value: Value) -> Gradients:
    """Of the bases first … first + n - 1 of a window [length, 4].

    Source: gradients less their mean: Majdandzic et al. 2023, Genome Biol. 24, 109; integrated: Sundararajan, Taly &
    Yan 2017, arXiv:1703.01365, eq. 1.
    """
    own = x[first : first + n]
    slope = _slope(x, own, first, value)
    centred = slope - slope.mean(1, keepdim=True)
    unknown = torch.full_like(own, 1 / N_BASES)
    nodes, weights = np.polynomial.legendre.leggauss(N_NODES)
    total = torch.zeros_like(own)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += weight * _slope(x, unknown + float(node) * (own - unknown), first, value)
    integrated = ((own - unknown) * total).sum(1)
    with torch.no_grad():
        gained = value(_with(x, own, first)) - value(_with(x, unknown, first))
    return Gradients(
        _numbers(slope - (own * slope).sum(1, keepdim=True)),
        _numbers((own * centred).sum(1)),
        _numbers(integrated),
        abs(float(integrated.sum() - gained[0])),
    )


def _slope(x: Tensor, own: Tensor, first: int, value: Value) -> Tensor:
    """[n, 4] derivatives by the region's probabilities, where the region is `own`."""
    own = own.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(value(_with(x, own, first)).sum(), own)
    return slope.detach()


def _with(x: Tensor, own: Tensor, first: int) -> Tensor:
    """[1, length, 4], the region replaced."""
    return torch.cat([x[:first], own, x[first + len(own) :]])[None]


def _numbers(values: Tensor) -> np.ndarray:
    return values.cpu().double().numpy()
