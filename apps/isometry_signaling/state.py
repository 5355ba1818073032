"""The state that a cell keeps, the marginal it is coded by, and the bits that this takes.

The rate KL(p(s | l) | m(s)), averaged over ligands, is never below I(L; S), whatever the marginal m; it is I(L; S)
where m is the state's own distribution (Alemi et al. 2017, arXiv:1612.00410, eq. 14).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["gaussian", "categorical"]

FIRST_SPREAD = 0.5  # of the noise, with which training begins
WIDEST = 4.0  # |log| of the spread that a cell adds or takes by what it meets
N_PLACE = 4  # dimensions of the space in which kinds have their places
TINY = 1e-9  # no value is farther out than six deviations
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class State(NamedTuple):
    """What cells keep, as values with their shares: averages over values are expectations over the state."""

    values: Tensor  # [n, n_values, n_state]
    shares: Tensor  # [n, n_values] sum 1
    rate: Tensor  # [n] nats; by a mixture as the values drawn have it. Its mean over cells bounds I(L; S) from above
    activity: Tensor  # [n] mean square of the signal in units of its noise; 0 for kinds
    told: Tensor  # [n, n_state] mean state, or probabilities of kinds: what a prediction shows


class GaussianState(nn.Module):
    """S = f(L) + noise: continuous, the noise as large for all cells or by what a cell meets.

    Args:
        n_state: dimensions.
        has_own_noise: whether the encoder sets the noise of each cell.
        n_components: of the marginal; 0: one Gaussian of any covariance, whose rate is known without drawing.
        is_exact: averages over the noise by 2 n_state points, exact for all that is quadratic in the state.
    """

    def __init__(self, n_state: int, has_own_noise: bool, n_components: int, is_exact: bool):
        super().__init__()
        self.n_state, self.has_own_noise, self.is_exact = n_state, has_own_noise, is_exact
        self.n_raw = 2 * n_state if has_own_noise else n_state
        self.log_spread = nn.Parameter(torch.full((n_state,), math.log(FIRST_SPREAD)))
        self.marginal = Mixture(n_components, n_state) if n_components else FullGaussian(n_state)

    def forward(self, raw: Tensor, noise: Tensor) -> State:
        """Encoder outputs [n, n_raw] and noise [n, n_draws, n_state] of unit variance."""
        mean, log_spread = raw[:, : self.n_state], self.log_spread.expand(len(raw), -1)
        if self.has_own_noise:
            log_spread = log_spread + WIDEST * torch.tanh(raw[:, self.n_state :] / WIDEST)
        unit = self._cubature(raw) if self.is_exact else noise
        spread = log_spread.exp()
        values = mean[:, None] + spread[:, None] * unit
        shares = values.new_full(values.shape[:2], 1 / values.shape[1])
        if isinstance(self.marginal, FullGaussian):
            rate = self.marginal.divergence(mean, log_spread)
        else:
            own = -log_spread.sum(1) - self.n_state * (0.5 + HALF_LOG_2PI)
            rate = own - self.marginal.log_density(values).mean(1)
        return State(values, shares, rate, (mean / spread).square().mean(1), mean)

    def _cubature(self, like: Tensor) -> Tensor:
        eye = torch.eye(self.n_state, dtype=like.dtype, device=like.device) * math.sqrt(self.n_state)
        return torch.cat([eye, -eye])[None]


def evenly_drawn(n_values: int, n_state: int) -> Tensor:
    """[n_values, n_state] standard normal values that fill the space evenly, the same whenever asked for.

    An average over 1,024 of them in two dimensions is as good as one over a hundred thousand drawn at random; mean and
    variance of each dimension are exact. Source: Sobol 1967, scrambled.

    Args:
        n_values: twice a power of two.
    """
    even = torch.quasirandom.SobolEngine(n_state, scramble=True, seed=0).draw(n_values // 2, dtype=torch.float64)
    half = torch.special.ndtri(even.clamp(TINY, 1 - TINY))
    both = torch.cat([half, -half])
    return both / both.square().mean(0).sqrt()


class CategoricalState(nn.Module):
    """The state is one of `n_state` kinds, as a promoter's is: every expectation is a sum.

    A kind has a place, and a cell takes kinds that are near to where the encoder puts it: p(s | l) in proportion to
    m(s) exp(-sharpness |f(l) - place|²). The best encoder of any table has this form, with β for the sharpness and
    relative entropy for the distance (Tishby et al. 1999, eq. 16).
    """

    def __init__(self, n_state: int):
        super().__init__()
        self.n_state, self.n_raw = n_state, N_PLACE
        self.marginal = nn.Parameter(torch.zeros(n_state))  # logits
        self.places = nn.Parameter(torch.randn(n_state, N_PLACE))
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, raw: Tensor, _noise: Tensor) -> State:
        """Encoder outputs [n, n_raw]: where in the space of places a cell is put."""
        log_m = self.marginal.log_softmax(0)
        distance = (raw[:, None] - self.places).square().sum(-1)
        log_p = (log_m - self.log_sharpness.exp() * distance).log_softmax(1)
        p = log_p.exp()
        kinds = torch.eye(self.n_state, dtype=raw.dtype, device=raw.device).expand(len(raw), -1, -1)
        return State(kinds, p, (p * (log_p - log_m)).sum(1), torch.zeros_like(raw[:, 0]), p)

    def warm(self, ratio: float) -> None:
        """Follow beta by this ratio: the best state at another beta is nearly the same one at another sharpness."""
        with torch.no_grad():
            self.log_sharpness += math.log(ratio)


class FullGaussian(nn.Module):
    """A marginal of any mean and covariance, held as the root of its precision."""

    def __init__(self, n: int):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(n))
        self.root = PrecisionRoot(n)

    def divergence(self, mean: Tensor, log_spread: Tensor) -> Tensor:
        """[n_cells] KL(N(mean, spread²) | this), nats."""
        root = self.root()
        moved = ((mean - self.mean) @ root.T).square().sum(1)
        spread = ((2 * log_spread).exp() * root.square().sum(0)).sum(1)
        return 0.5 * (moved + spread - mean.shape[1]) - self.root.log_determinant() - log_spread.sum(1)


class Mixture(nn.Module):
    """A marginal of Gaussians with a spread for each dimension."""

    def __init__(self, n_components: int, n: int):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(torch.randn(n_components, n))
        self.log_spreads = nn.Parameter(torch.zeros(n_components, n))

    def log_density(self, values: Tensor) -> Tensor:
        """[...] of values [..., n]."""
        scaled = (values[..., None, :] - self.means) * (-self.log_spreads).exp()
        of_each = -0.5 * scaled.square().sum(-1) - self.log_spreads.sum(-1) - values.shape[-1] * HALF_LOG_2PI
        return (of_each + self.logits.log_softmax(0)).logsumexp(-1)


class PrecisionRoot(nn.Module):
    """A lower triangular matrix of positive diagonal, R with RᵀR a precision."""

    def __init__(self, n: int):
        super().__init__()
        self.below = nn.Parameter(torch.zeros(n, n))
        self.log_diagonal = nn.Parameter(torch.zeros(n))

    def forward(self) -> Tensor:
        return self.below.tril(-1) + torch.diag(self.log_diagonal.exp())

    def log_determinant(self) -> Tensor:
        return self.log_diagonal.sum()
