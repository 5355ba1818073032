"""What is minimised for each head, and what the engine measures and calibrates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from isometry.objective import Labelled, Loss, Objective
from isometry.settings import Settings
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from isometry_protein.confidences import sure_rows
from isometry_protein.contacts import known_pairs
from isometry_protein.dataset import NO_LABEL, Protein
from isometry_protein.letters import HIDDEN, N_AMINO_ACIDS
from isometry_protein.model import ModelSettings, ProteinModel, calibrated_heads
from isometry_protein.scores import (
    DECIDES,
    accessibility_row,
    contact_rows,
    disorder_row,
    score,
    state_rows,
    told,
    value_rows,
)
from isometry_protein.states import class_logits, groups_of, logits_within

MOST_PAIRS = 20_000
"""Pairs of residues of one protein in a training step."""
PAIRS_CALIBRATED = 2_000
"""Pairs of residues of one protein by which contacts are calibrated."""


class LossSettings(Settings):
    """Weights of the heads; a head without labels contributes zero."""

    ss: float = Field(default=1.0, ge=0)
    """weight of the states' cross-entropy: of eight where they are known, else of three"""
    rsa: float = Field(default=4.0, ge=0)
    """weight of the squared error of relative accessibility"""
    disorder: float = Field(default=0.5, ge=0)
    contacts: float = Field(default=1.0, ge=0)
    regression: float = Field(default=1.0, ge=0)
    """weight of the squared error, in standard deviations of the training set"""
    classes: float = Field(default=1.0, ge=0)
    language: float = Field(default=0.5, ge=0)
    """weight of the cross-entropy of the guessed residues"""


def objective_of(settings: LossSettings, model: ModelSettings) -> Objective:
    """The loss and the scores as the engine wants them; the first head decides which weights are best."""

    def loss(net: nn.Module, batch: Protein) -> Loss:
        return protein_loss(net, batch, settings, model)

    decides, better = DECIDES[model.heads[0]]
    return Objective(loss, measure, score, decides, better, classes if calibrated_heads(model) else None)


# The loss


def protein_loss(net: nn.Module, batch: Protein, settings: LossSettings, model: ModelSettings) -> Loss:
    """One number per protein: the heads' weighted means over its residues (pairs) whose label is known.

    With a language head that reads both ways, all heads read the sequence with its hidden residues hidden.
    """
    pairs, touch = None, None
    if "contacts" in model.heads:
        pairs, touch = known_pairs(batch.positions, MOST_PAIRS, is_random=net.training)
    said = net(seen(batch, model), batch.length, pairs)
    terms = {head: _TERMS[head](said[head], batch, model) for head in model.heads if head != "contacts"}
    if pairs is not None and touch is not None:
        each = binary_cross_entropy_with_logits(said["contacts"], touch.to(said["contacts"]), reduction="none")
        terms["contacts"] = _mean_by_protein(each, pairs[0], len(batch.length))
    weighted = {head: getattr(settings, head) * term for head, term in terms.items()}
    return Loss(torch.stack(list(weighted.values())).sum(0), {name: term.detach() for name, term in weighted.items()})


def _of_states(logits: Tensor, batch: Protein, model: ModelSettings) -> Tensor:
    """-log p(state) where the state is known, else -log p(class)."""
    groups = groups_of(model.mapping).to(logits.device)
    of_states = _entropy(logits, batch.ss8)
    of_classes = _entropy(class_logits(logits, groups), batch.ss3)
    is_known = (batch.ss8 != NO_LABEL) | (batch.ss3 != NO_LABEL)
    return _mean(torch.where(batch.ss8 != NO_LABEL, of_states, of_classes), is_known)


def _of_accessibility(predicted: Tensor, batch: Protein, _model: ModelSettings) -> Tensor:
    is_known = ~batch.accessibility.isnan()
    return _mean((predicted - batch.accessibility.nan_to_num()).square(), is_known)


def _of_disorder(logits: Tensor, batch: Protein, _model: ModelSettings) -> Tensor:
    labels = batch.disorder.clamp(min=0).to(logits)
    each = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return _mean(each, batch.disorder != NO_LABEL)


def _of_values(predicted: Tensor, batch: Protein, model: ModelSettings) -> Tensor:
    is_known = ~batch.value.isnan()
    errors = (predicted - batch.value.nan_to_num()) / predicted.new_tensor(model.value_scales)
    return _mean(errors.square(), is_known)


def _of_kinds(logits: Tensor, batch: Protein, _model: ModelSettings) -> Tensor:
    return cross_entropy(logits, batch.kind, ignore_index=NO_LABEL, reduction="none")


def _of_letters(logits: Tensor, batch: Protein, model: ModelSettings) -> Tensor:
    labels = guessed(batch, model)
    return _mean(_entropy(logits, labels), labels != NO_LABEL)


_TERMS: dict[str, Callable[[Tensor, Protein, ModelSettings], Tensor]] = {
    "ss": _of_states,
    "rsa": _of_accessibility,
    "disorder": _of_disorder,
    "regression": _of_values,
    "classes": _of_kinds,
    "language": _of_letters,
}


def seen(batch: Protein, model: ModelSettings) -> Tensor:
    """[n, longest] the letters that the network is shown while it learns a language."""
    is_hiding = "language" in model.heads and model.is_bidirectional
    return batch.letters.masked_fill(batch.hidden, HIDDEN) if is_hiding else batch.letters


def guessed(batch: Protein, model: ModelSettings) -> Tensor:
    """[n, longest] the amino acid that the language head is to guess at each residue, -1 where none."""
    is_asked = batch.letters < N_AMINO_ACIDS
    labels = batch.letters.masked_fill(~is_asked, NO_LABEL)
    if model.is_bidirectional:
        return labels.masked_fill(~batch.hidden, NO_LABEL)
    return nn.functional.pad(labels[:, 1:], (0, 1), value=NO_LABEL)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """[n, longest] from logits [n, longest, k]; 0 where the label is -1."""
    return cross_entropy(logits.transpose(1, 2), labels, ignore_index=NO_LABEL, reduction="none")


def _mean(each: Tensor, is_known: Tensor) -> Tensor:
    """[n] means over the known entries of [n, k]; 0 where none is."""
    return torch.where(is_known, each, 0.0).sum(1) / is_known.sum(1).clamp(min=1)


def _mean_by_protein(each: Tensor, protein: Tensor, n: int) -> Tensor:
    sums = each.new_zeros(n).index_add(0, protein, each)
    return sums / each.new_zeros(n).index_add(0, protein, torch.ones_like(each)).clamp(min=1)


# The scores and the calibration


def measure(net: nn.Module, batch: Protein) -> dict[str, Tensor]:
    """Counts from which every score follows, one row per protein."""
    assert isinstance(net, ProteinModel)
    model = net.settings
    features = net.encode(batch.letters, batch.length)
    said = net.said(features, batch.length)
    rows: dict[str, Tensor] = sure_rows(net, lambda: told(net, said, batch))
    if "ss" in said:
        log3, log8 = net.state_logs(said["ss"])
        rows |= state_rows(log3, log8 if model.has_eight else None, batch)
    if "rsa" in said:
        rows["rsa"] = accessibility_row(said["rsa"], batch)
    if "disorder" in said:
        rows["disorder"] = disorder_row(said["disorder"], batch)
    if "contacts" in model.heads:
        rows |= contact_rows(net, features, batch)
    if "regression" in said:
        rows |= value_rows(said["regression"], batch, model)
    if "classes" in said:
        rows["kind"], rows["kind_label"] = said["classes"].argmax(-1), batch.kind
    if "language" in said:
        if model.is_bidirectional:
            said = net(seen(batch, model), batch.length)
        labels = guessed(batch, model)
        rows["language"] = torch.stack([_entropy(said["language"], labels).sum(1), (labels >= 0).sum(1)], -1)
    return rows


def classes(net: nn.Module, batch: Protein) -> dict[str, Labelled]:
    """Logits and labels of each head with a temperature; eight states given their class, see `states`."""
    assert isinstance(net, ProteinModel)
    pairs, touch = None, None
    if "contacts" in net.settings.heads:
        pairs, touch = known_pairs(batch.positions, PAIRS_CALIBRATED)
    said = net(batch.letters, batch.length, pairs)
    found: dict[str, Labelled] = {}
    if "ss" in said:
        is_known = (batch.ss3 != NO_LABEL) | (batch.ss8 != NO_LABEL)
        logits, ss8 = said["ss"][is_known], batch.ss8[is_known]
        found["ss3"] = Labelled(class_logits(logits, net.groups), batch.ss3[is_known])
        if net.settings.has_eight:
            found["ss8"] = Labelled(logits_within(logits, net.groups, ss8), ss8)
    if "disorder" in said:
        found["disorder"] = Labelled(said["disorder"].flatten(), batch.disorder.flatten())
    if touch is not None:
        found["contact"] = Labelled(said["contacts"], touch)
    if "classes" in said:
        found["class"] = Labelled(said["classes"], batch.kind)
    return found
