"""What is minimised for each head, and what the engine measures and calibrates."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from isometry.objective import Labelled, Loss, Objective
from isometry.settings import Settings
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy

from isometry_genome.dataset import NO_LABEL, Window
from isometry_genome.gene_calls import called, evidence_of
from isometry_genome.genes import CLASSES, CODING, genes_of
from isometry_genome.letters import BASE_OF, N, ascii_of, one_hot
from isometry_genome.model import GenomeModel, ModelSettings, calibrated_heads
from isometry_genome.scores import DECIDES, score

BASES_CALIBRATED = 500
"""Bases of one window, about, by which a head that speaks of bases is calibrated."""


class LossSettings(Settings):
    """Weights of the heads, and what the training data say of their labels; a head without labels contributes zero."""

    classes: float = Field(default=1.0, ge=0)
    """weight of the windows' cross-entropy"""
    profile: float = Field(default=1.0, ge=0)
    """weight of the profile's deviance, or of its squared error in standard deviations"""
    segments: float = Field(default=1.0, ge=0)
    """weight of the bases' cross-entropy"""
    language: float = Field(default=1.0, ge=0)
    """weight of the cross-entropy of the guessed bases"""
    class_balance: float = Field(default=1.0, ge=0, le=1)
    """0: every window counts alike; 1: every class does"""
    segment_balance: float = Field(default=0.5, ge=0, le=1)
    """0: every base counts alike; 1: every class of bases does"""
    n_targets: int | None = Field(default=None, ge=1)
    """Tracks that are scored, the first ones; those behind them only help to learn. None: all."""
    aid: float = Field(default=1.0, ge=0)
    """weight of a track that only helps"""
    class_weights: tuple[float, ...] = ()
    """By class; filled from the data."""
    segment_weights: tuple[float, ...] = ()
    """By class of bases; filled from the data."""


def objective_of(settings: LossSettings, model: ModelSettings) -> Objective:
    """The loss and the scores as the engine wants them; the first head decides which weights are best."""

    def loss(net: nn.Module, batch: Window) -> Loss:
        return genome_loss(net, batch, settings)

    def rows(net: nn.Module, batch: Window) -> dict[str, Tensor]:
        return measure(net, batch, settings)

    decides, better = DECIDES[model.heads[0]]
    return Objective(loss, rows, score, decides, better, classes if calibrated_heads(model) else None)


# The loss


def genome_loss(net: nn.Module, batch: Window, settings: LossSettings) -> Loss:
    """One number per window: the heads' weighted means over what is known of it.

    With a language head that reads both ways, all heads read the window with its hidden bases hidden.
    """
    assert isinstance(net, GenomeModel)
    said = net(seen(batch, net))
    terms = {head: _TERMS[head](said[head], batch, settings, net) for head in net.settings.heads}
    weighted = {head: getattr(settings, head) * term for head, term in terms.items()}
    return Loss(torch.stack(list(weighted.values())).sum(0), {name: term.detach() for name, term in weighted.items()})


def seen(batch: Window, net: GenomeModel) -> Tensor:
    """[n, length, 4] probabilities of the bases that the network is shown while it learns a language."""
    is_hiding = "language" in net.settings.heads and not net.settings.is_causal
    return probabilities(batch.codes.masked_fill(batch.hidden, N) if is_hiding else batch.codes, net)


def probabilities(codes: Tensor, net: nn.Module) -> Tensor:
    """[..., 4] of codes, in the network's type."""
    return one_hot(codes).to(next(net.parameters()).dtype)


def _of_classes(logits: Tensor, batch: Window, settings: LossSettings, _net: GenomeModel) -> Tensor:
    return cross_entropy(
        logits, batch.label, _weights(settings.class_weights, logits), ignore_index=NO_LABEL, reduction="none"
    )


def _of_profile(said: Tensor, batch: Window, settings: LossSettings, net: GenomeModel) -> Tensor:
    is_known = ~batch.profile.isnan()
    each = _DEVIANCES[net.settings.profile_loss](said, batch.profile.nan_to_num(), net)
    if net.settings.reads == "elements":
        each = torch.cat([each[..., : -net.settings.n_shares], _of_shares(said, batch, net)], -1)
    weights = torch.ones_like(said[0, 0])
    if settings.n_targets is not None:
        weights[settings.n_targets :] = settings.aid
    return _mean((each * weights).flatten(1), is_known.flatten(1))


def _of_shares(said: Tensor, batch: Window, net: GenomeModel) -> Tensor:
    """Cross-entropy of shares over the root of their entropy: rare elements weigh more than their share."""
    n = net.settings.n_shares
    truth, means = batch.profile[..., -n:].nan_to_num(), net.track_means[-n:].clamp(1e-4, 0.9)
    entropy = -means * means.log() - (1 - means) * (1 - means).log()
    return binary_cross_entropy(said[..., -n:], truth, reduction="none") / entropy.sqrt()


def _gaussian(said: Tensor, truth: Tensor, net: GenomeModel) -> Tensor:
    return ((said - truth) / _of_tracks(net.settings.track_scales, truth)).square()


def _poisson(rate: Tensor, truth: Tensor, net: GenomeModel) -> Tensor:
    """Half the deviance (-log likelihood, less that of the best rate) in units of the track: tracks count alike."""
    each = rate - truth + torch.xlogy(truth, truth) - truth * rate.clamp(min=LEAST_RATE).log()
    return each / _of_tracks(net.settings.track_means, truth)


def _negative_binomial(mean: Tensor, truth: Tensor, net: GenomeModel) -> Tensor:
    """-log likelihood of counts of mean m and variance m + a m², less log of truth! (Cameron & Trivedi 2013, eq. 3.26);
    the term that a alone decides stays, since a is learnt."""
    a, mean = net.dispersions(), mean.clamp(min=LEAST_RATE)
    shape = 1 / a
    of_shape = torch.lgamma(shape) - torch.lgamma(truth + shape)
    each = of_shape + (truth + shape) * torch.log1p(a * mean) - truth * (a * mean).log()
    return each / _of_tracks(net.settings.track_means, truth)


_DEVIANCES: dict[str, Callable[[Tensor, Tensor, GenomeModel], Tensor]] = {
    "gaussian": _gaussian,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
}
LEAST_RATE = 1e-8


def _of_tracks(values: tuple[float, ...], like: Tensor) -> Tensor:
    return like.new_tensor(values or (1.0,))


def _of_segments(logits: Tensor, batch: Window, settings: LossSettings, _net: GenomeModel) -> Tensor:
    each = cross_entropy(
        logits.transpose(1, 2),
        batch.segments,
        _weights(settings.segment_weights, logits),
        ignore_index=NO_LABEL,
        reduction="none",
    )
    return _mean(each, batch.segments != NO_LABEL)


def _of_bases(logits: Tensor, batch: Window, _settings: LossSettings, net: GenomeModel) -> Tensor:
    labels = guessed(batch, net.settings)
    each = cross_entropy(logits.transpose(1, 2), labels, ignore_index=NO_LABEL, reduction="none")
    return _mean(each, labels != NO_LABEL)


_TERMS: dict[str, Callable[[Tensor, Window, LossSettings, GenomeModel], Tensor]] = {
    "classes": _of_classes,
    "profile": _of_profile,
    "segments": _of_segments,
    "language": _of_bases,
}


def guessed(batch: Window, model: ModelSettings) -> Tensor:
    """[n, length] the base that the language head is to guess at each place, -1 where none."""
    labels = BASE_OF.to(batch.codes.device)[batch.codes.long()]
    return labels if model.is_causal else labels.masked_fill(~batch.hidden, NO_LABEL)


def _weights(weights: tuple[float, ...], logits: Tensor) -> Tensor | None:
    return logits.new_tensor(weights) if weights else None


def _mean(each: Tensor, is_known: Tensor) -> Tensor:
    """[n] means over the known entries of [n, k]; 0 where none is."""
    return torch.where(is_known, each, 0.0).sum(1) / is_known.sum(1).clamp(min=1)


# The scores and the calibration


def measure(net: nn.Module, batch: Window, settings: LossSettings) -> dict[str, Tensor]:
    """Numbers from which every score follows, one row per window."""
    assert isinstance(net, GenomeModel)
    model = net.settings
    said = net(probabilities(batch.codes, net))
    rows: dict[str, Tensor] = {"group": batch.group}
    if "classes" in said:
        rows["class_logits"], rows["class_label"] = said["classes"], batch.label
    if "profile" in said:
        rows["profile"] = profile_row(said["profile"], batch.profile, settings)
    if "segments" in said:
        rows["segments"] = segment_row(said["segments"], batch.segments)
        if model.n_segments == len(CLASSES):
            rows["genes"] = gene_row(said["segments"], batch)
    if "language" in said:
        labels = guessed(batch, model)
        logits = said["language"] if model.is_causal else net(seen(batch, net))["language"]
        each = cross_entropy(logits.transpose(1, 2), labels, ignore_index=NO_LABEL, reduction="none")
        rows["language"] = torch.stack([each.sum(1) / math.log(2), (labels >= 0).sum(1)], -1)
    return rows


def profile_row(said: Tensor, truth: Tensor, settings: LossSettings) -> Tensor:
    """[n, targets, 6] sums over the known bins of 1, x, y, x², y², xy of prediction x and truth y."""
    n_targets = settings.n_targets or truth.shape[-1]
    said, truth = said[..., :n_targets].double(), truth[..., :n_targets].double()
    is_known = ~truth.isnan()
    x, y = (torch.where(is_known, v, 0.0) for v in (said, truth))
    return torch.stack([column.sum(1) for column in (is_known.double(), x, y, x * x, y * y, x * y)], -1)


def segment_row(logits: Tensor, labels: Tensor) -> Tensor:
    """[n, k, k] bases by label and verdict; of gene structure k is 3: nothing, plus and minus strand."""
    verdicts, k = logits.argmax(-1), logits.shape[-1]
    if k == len(CLASSES):
        merge, k = torch.tensor(CODING, device=logits.device), 3
        verdicts, labels = merge[verdicts], torch.where(labels >= 0, merge[labels.clamp(min=0)], labels)
    is_known = labels != NO_LABEL
    place = labels.clamp(min=0) * k + verdicts
    counts = torch.zeros(len(labels), k * k, device=labels.device).scatter_add(1, place, is_known.float())
    return counts.view(-1, k, k)


def gene_row(logits: Tensor, batch: Window) -> Tensor:
    """[n, 3] genes found exactly, true ones, found ones, of those that lie wholly where labels are known."""
    said = logits.detach().float().softmax(-1).cpu().numpy()
    rows = []
    for own, codes, classes in zip(said, batch.codes.cpu(), batch.segments.cpu().numpy(), strict=True):
        known = np.flatnonzero(classes != NO_LABEL)
        if not len(known):
            rows.append((0, 0, 0))
            continue
        first, end = int(known[0]), int(known[-1]) + 1
        letters = ascii_of(codes[first:end])
        found = {call.gene for call in called(evidence_of(own[first:end]), letters)}
        true = genes_of(classes[first:end], letters)
        rows.append((len(found & true), len(true), len(found)))
    return torch.tensor(rows, dtype=torch.float32, device=logits.device)


def classes(net: nn.Module, batch: Window) -> dict[str, Labelled]:
    """Logits and labels of each head with a temperature; of heads that speak of bases, those of some bases."""
    assert isinstance(net, GenomeModel)
    said, found = net(probabilities(batch.codes, net)), {}
    if "classes" in said:
        found["class"] = Labelled(said["classes"], batch.label)
    if "segments" in said:
        found["segment"] = _some(said["segments"], batch.segments)
    if "language" in said:
        logits = said["language"] if net.settings.is_causal else net(seen(batch, net))["language"]
        found["base"] = _some(logits, guessed(batch, net.settings))
    return found


def _some(logits: Tensor, labels: Tensor) -> Labelled:
    step = max(labels.shape[1] // BASES_CALIBRATED, 1)
    return Labelled(logits[:, ::step].flatten(0, 1), labels[:, ::step].flatten())
