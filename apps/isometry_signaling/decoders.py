"""What is read off a state: the environment, and the genes that are expressed.

For any decoder q, the mean of log q(e | s) / p(e) is never above I(S; E), and I(S; E) where q is the state's own
posterior (Barber and Agakov 2003).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from isometry.blocks import mlp
from isometry.initialise import Projection, initialise
from torch import Tensor, nn

from isometry_signaling.state import HALF_LOG_2PI, PrecisionRoot


class Environment(NamedTuple):
    """What a decoder says of each value of a state."""

    gain: Tensor  # [n, n_values] log q(e | s) / p(e), nats, averaged over the environments of the record
    told: Tensor  # [n, n_values, n_environments] log-probabilities, or [n, n_values, n_env] means


class ClassDecoder(nn.Module):
    """Environments that are kinds, of known frequency."""

    prior: Tensor

    def __init__(self, n_state: int, prior: tuple[float, ...], width: int):
        super().__init__()
        self.net = reader(n_state, len(prior), width)
        self.register_buffer("prior", torch.tensor(prior), persistent=False)

    def forward(self, values: Tensor, environment: Tensor) -> Environment:
        """Values [n, n_values, n_state]; p(E | record) [n, n_environments]."""
        log_p = self.net(values).log_softmax(-1)
        of_each = environment[:, None] * (log_p - self.prior.log())
        return Environment(of_each.sum(-1), log_p)


class VectorDecoder(nn.Module):
    """An environment of numbers, standard normal, whose posterior is taken to be Gaussian with one covariance."""

    def __init__(self, n_state: int, n_numbers: int, width: int):
        super().__init__()
        self.net = reader(n_state, n_numbers, width)
        self.root = PrecisionRoot(n_numbers)

    def forward(self, values: Tensor, environment: Tensor) -> Environment:
        """Values [n, n_values, n_state]; environment [n, n_numbers]."""
        mean = self.net(values)
        error = ((environment[:, None] - mean) @ self.root().T).square().sum(-1)
        prior = environment.square().sum(-1, keepdim=True)
        return Environment(0.5 * (prior - error) + self.root.log_determinant(), mean)


class GeneDecoder(nn.Module):
    """Expression in standard deviations, Gaussian with a spread for each gene."""

    def __init__(self, n_state: int, n_genes: int, width: int):
        super().__init__()
        self.net = reader(n_state, n_genes, width)
        self.log_spread = nn.Parameter(torch.zeros(n_genes))

    def forward(self, values: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """-log q(genes | s) [n, n_values] in nats, 0 for what is unknown, and the means [n, n_values, n_genes]."""
        mean = self.net(values)
        is_known = ~genes.isnan()[:, None]
        error = (genes.nan_to_num()[:, None] - mean) * (-self.log_spread).exp()
        each = 0.5 * error.square() + self.log_spread + HALF_LOG_2PI
        return torch.where(is_known, each, 0.0).sum(-1), mean


def reader(n_state: int, n_out: int, width: int) -> nn.Module:
    """From a state to numbers: linear, or with one hidden layer of `width`."""
    if width:
        return mlp([n_state, width, n_out])
    linear = Projection(n_state, n_out)
    initialise(linear, "linear")
    return linear
