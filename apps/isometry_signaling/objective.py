"""What a cell pays and what it gains: the bottleneck's Lagrangian, and the scores of held-out cells."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from isometry.objective import Labelled, Loss, Objective
from isometry.settings import Settings
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from isometry_signaling.certificate import certify
from isometry_signaling.dataset import Cell
from isometry_signaling.model import Kept, SignalingModel, log_posterior

NATS = math.log(2.0)  # per bit
SURE = 1 - 1e-6  # p(E | record) of an environment that is known


class LossSettings(Settings):
    """Minimised: (1 + price_bit) I(L; S) + price_activity · activity - beta I(S; E), divided by 1 + beta."""

    beta: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Bits of rate that a bit of relevance is worth."""
    price_bit: NonNegativeFloat = 0.0
    """What a bit of rate costs beside itself: with a price the cell stands where it would at beta / (1 + price)."""
    price_activity: NonNegativeFloat = 0.0
    """Bits that a unit of activity costs: the mean square of the state's signal, in units of its noise."""
    genes: float = Field(default=0.0, ge=0, le=1)
    """How much of what genes ask for reaches the state; 0: they are read off it and do not shape it."""


def objective_of(settings: LossSettings, environment: str = "numbers") -> Objective:
    """The loss and the scores as the engine wants them; an environment of classes is calibrated in the end."""
    return Objective(
        partial(_loss, settings),
        partial(measure, settings),
        partial(score, settings),
        "lagrangian",
        "smaller",
        classes if environment == "classes" else None,
    )


def signaling_loss(kept: Kept, settings: LossSettings) -> Tensor:
    """[n] nats of each cell; each part's mean is a bound, so that the sum is never below the true Lagrangian."""
    paid = (1 + settings.price_bit) * kept.state.rate + settings.price_activity * NATS * kept.state.activity
    return (paid - settings.beta * gain_of(kept)) / (1 + settings.beta) + kept.gene_loss


def gain_of(kept: Kept) -> Tensor:
    """[n] log q(e | s) / p(e) in nats, averaged over the state and the environments of each record."""
    return (kept.state.shares * kept.environment.gain).sum(1)


def _loss(settings: LossSettings, net: nn.Module, batch: Cell) -> Loss:
    kept = net(batch.ligand, batch.noise, batch.environment, batch.genes, settings.genes)
    parts = {"paid_bits": kept.state.rate / NATS, "gained_bits": gain_of(kept) / NATS, "genes_nll": kept.gene_loss}
    each = batch.weight * signaling_loss(kept, settings)
    return Loss(each, {name: (batch.weight * part).detach() for name, part in parts.items()})


def measure(_settings: LossSettings, net: nn.Module, batch: Cell) -> dict[str, Tensor]:
    """Bits paid and gained by each cell, and what it takes to average and to bound them."""
    assert isinstance(net, SignalingModel)
    kept = net(batch.ligand, batch.noise, batch.environment, batch.genes)
    rows = {
        "rate": kept.state.rate / NATS,
        "relevance": gain_of(kept) / NATS,
        "activity": kept.state.activity,
        "weight": batch.weight,
        "stratum": batch.stratum,
    }
    if net.settings.environment == "classes":
        rows["hit"] = batch.environment.gather(1, log_posterior(kept).argmax(1, keepdim=True))[:, 0]
    if net.genes is not None:
        scaled = net.scaled(batch.genes)
        rows["gene_error"], rows["gene_size"] = (kept.genes - scaled).square(), scaled.square()
    return rows


def classes(net: nn.Module, batch: Cell) -> dict[str, Labelled]:
    """What is read off the state of each cell, averaged; of cells whose environment is sure, its number.

    The temperature comes after the average. The decoder within it, by which relevance is bounded, stays as it is.
    """
    assert isinstance(net, SignalingModel)
    kept = net(batch.ligand, batch.noise, batch.environment, batch.genes)
    share, place = batch.environment.max(1)
    return {"posterior": Labelled(log_posterior(kept), torch.where(share > SURE, place, -1))}


def score(settings: LossSettings, rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Bits: rate and relevance are means, rate_upper and relevance_lower hold with 99 % confidence together.

    efficiency: bits gained for a bit paid. accuracy: share of cells whose most probable environment is theirs.
    genes_r2: share of the variance of expression that the state explains.
    """
    is_known = np.isfinite(rows["relevance"])
    if not is_known.any():
        return {}
    rows = {name: row[is_known] for name, row in rows.items()}
    found = certify(rows["rate"], rows["relevance"], rows["weight"], rows["stratum"])
    weight = rows["weight"] / rows["weight"].sum()
    activity = float(weight @ rows["activity"])
    paid = (1 + settings.price_bit) * found.rate + settings.price_activity * activity
    scores = {
        "lagrangian": paid - settings.beta * found.relevance,
        "rate": found.rate,
        "relevance": found.relevance,
        "rate_upper": found.rate_upper,
        "relevance_lower": found.relevance_lower,
        "activity": activity,
    }
    if found.rate > 1e-6:
        scores["efficiency"] = found.relevance / found.rate
    if "hit" in rows:
        scores["accuracy"] = float(weight @ rows["hit"])
    return scores | _of_genes(rows)


def _of_genes(rows: dict[str, np.ndarray]) -> dict[str, float]:
    if "gene_error" not in rows or np.isnan(rows["gene_size"]).all():
        return {}
    return {"genes_r2": float(1 - np.nanmean(rows["gene_error"]) / np.nanmean(rows["gene_size"]))}
