"""Both players' losses as one per record, and scores against the density that is known."""

from __future__ import annotations

from functools import partial

import numpy as np
from isometry.objective import Loss, Objective
from torch import Tensor, nn
from torch.nn.functional import softplus

from isometry_mixture.dataset import Pair
from isometry_mixture.ring import RingSettings, scores_of


def loss(model: nn.Module, pair: Pair) -> Loss:
    """The discriminator's cross-entropy plus the generator's, non-saturating (Goodfellow et al. 2014).

    Neither has a gradient with respect to the other player's weights, so one sum serves both.
    """
    played = model(pair)
    discriminator = softplus(-played.real_logit) + softplus(played.caught_logit)
    generator = softplus(-played.passed_logit)
    return Loss(discriminator + generator, {"discriminator": discriminator.detach(), "generator": generator.detach()})


def measure(model: nn.Module, pair: Pair) -> dict[str, Tensor]:
    latent = pair.latent
    return {"sample": model.samples(latent), "is_silent": model.responses(latent) == 0}  # type: ignore[operator]


def score(ring: RingSettings, rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Beside those of the samples: the share of the generator's responses that are 0, and of its units that are
    always 0."""
    is_silent = rows["is_silent"].astype(bool)
    alive = {"silent": float(is_silent.mean()), "dead": float(is_silent.all(0).mean())}
    return {**scores_of(ring, rows["sample"]), **alive}


def objective_of(ring: RingSettings) -> Objective:
    return Objective(loss, measure, partial(score, ring), decides="js")
