"""Two perceptrons that play against each other: one makes points of noise, one tells them from real ones."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from isometry.activations import activation_named
from isometry.initialise import initialise
from isometry.lipschitz import spectrally_normalised
from isometry.settings import Settings
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from isometry_mixture.dataset import Pair


class MixtureModelSettings(Settings):
    width: PositiveInt = 64
    n_layers: PositiveInt = 2
    """Hidden layers of either player."""
    activation: Literal["relu", "leaky_relu"] = "leaky_relu"
    slope: float = Field(default=0.2, gt=0, lt=1)
    """Of leaky ReLU's negative side."""
    bound: PositiveFloat | None = None
    """Lipschitz constant of the discriminator (logits per unit of data spread), by spectral normalisation of every
    layer. None: no normalisation."""
    latent: PositiveInt | None = None
    """Dimensions of the noise; filled by the data."""
    scale: PositiveFloat | None = None
    """Root mean square of the real points' coordinates; filled by the data."""


class Played(NamedTuple):
    """One round. Logits are large for "real"."""

    fake: Tensor
    """[n, 2]"""
    real_logit: Tensor
    """[n] what the discriminator learns from, as `caught_logit`."""
    caught_logit: Tensor
    """[n] of the fakes; no gradient to the generator."""
    passed_logit: Tensor
    """[n] of the fakes; no gradient to the discriminator."""


class MixtureModel(nn.Module):
    def __init__(self, settings: MixtureModelSettings) -> None:
        super().__init__()
        self.scale = settings.scale or 1.0
        self.generator = _perceptron(settings.latent or 1, 2, settings)
        self.discriminator = _perceptron(2, 1, settings)
        if settings.bound is not None:
            spectrally_normalised(self.discriminator, settings.bound ** (1 / (settings.n_layers + 1)))

    def forward(self, pair: Pair) -> Played:
        """A whole round in one call, so that wrappers which exchange gradients see each weight once."""
        fake = self.generator(pair.latent)
        real, seen = pair.real / self.scale + pair.blur_real / self.scale, fake + pair.blur_fake / self.scale
        real_logit, caught_logit = self._logits(torch.cat([real, seen.detach()])).chunk(2)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        passed_logit = torch.func.functional_call(self.discriminator, frozen, (seen,))[:, 0].float()
        return Played(fake * self.scale, real_logit, caught_logit, passed_logit)

    def samples(self, latent: Tensor) -> Tensor:
        """[n, latent] -> [n, 2] in the ring's unit."""
        return self.generator(latent) * self.scale

    def responses(self, latent: Tensor) -> Tensor:
        """[n, units] outputs of the generator's hidden units; 0 from ReLU: nothing passes, forward or backward."""
        hidden = []
        for layer in self.generator:
            latent = layer(latent)
            if not isinstance(layer, nn.Linear):
                hidden.append(latent)
        return torch.cat(hidden, dim=1)

    def _logits(self, points: Tensor) -> Tensor:
        return self.discriminator(points)[:, 0].float()


def _perceptron(n_in: int, n_out: int, settings: MixtureModelSettings) -> nn.Sequential:
    sizes = [n_in, *[settings.width] * settings.n_layers]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation_named(settings.activation, settings.slope)]  # type: ignore[list-item]
    net = nn.Sequential(*layers, nn.Linear(sizes[-1], n_out))
    initialise(net, settings.activation, method="orthogonal", slope=settings.slope, first="linear")
    return net
