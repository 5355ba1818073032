"""What a channel carries when its noise is small beside the range of its responses.

C ≈ log2( ∫ |dμ/dx| / σ(x) dx / √(2πe) ): inputs are told apart where the mean response moves by about a spread. It is
neither an upper nor a lower bound, and it can be negative. It wants responses that are Gaussian at every input, a mean
that rises or falls all the way (or outputs that tell the branches apart), and noise small beside the range over which
mean and spread change: for Poisson counts of mean up to N it is too low by
0.53 bits at N = 20 and by 0.12 at N = 500.

Source: Tkačik, Callan and Bialek 2008, doi:10.1073/pnas.0806077105; Clarke and Barron 1994 for the general form.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from isometry.information.bits import Array


def small_noise_capacity(mean: ArrayLike, spread: ArrayLike) -> float:
    """Bits, from the mean response and its standard deviation [n_x] along the input, in the order of the inputs.

    The input itself does not enter: nothing changes when it is measured on another scale.
    """
    total = _path(mean, spread).sum()
    if total <= 0:
        raise ValueError("the mean response is the same at every input: the small-noise formula has no value")
    return float(np.log2(total / np.sqrt(2 * np.pi * np.e)))


def small_noise_inputs(mean: ArrayLike, spread: ArrayLike) -> Array:
    """[n_x] the input distribution of the formula, p(x) ∝ |dμ/dx| / σ, as weights of the given inputs."""
    path = _path(mean, spread)
    weights = np.zeros(len(path) + 1)
    weights[:-1] += path / 2
    weights[1:] += path / 2
    return weights / weights.sum()


def fisher_capacity(information: ArrayLike, inputs: ArrayLike) -> float:
    """Bits, from the Fisher information [n_x] about the input at each of `inputs`: log2( ∫ √I(x) dx / √(2πe) )."""
    root = np.sqrt(np.asarray(information, dtype=float))
    return float(np.log2(np.trapezoid(root, np.asarray(inputs, dtype=float)) / np.sqrt(2 * np.pi * np.e)))


def _path(mean: ArrayLike, spread: ArrayLike) -> Array:
    """[n_x - 1] steps of the mean response in units of the spread."""
    means, spreads = np.asarray(mean, dtype=float), np.asarray(spread, dtype=float)
    if means.ndim != 1 or means.shape != spreads.shape or len(means) < 2:
        raise ValueError(f"mean and spread need one number per input, two inputs at least; found {means.shape}")
    if not (spreads > 0).all():
        raise ValueError(f"a spread must be above 0, found {spreads.min():g}")
    # The mean of two spreads, not of their inverses: exact where the spread is the root of the mean, as of counts.
    return 2 * np.abs(np.diff(means)) / (spreads[1:] + spreads[:-1])
