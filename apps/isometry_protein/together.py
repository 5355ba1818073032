"""Several networks as one, whose probabilities are the means of theirs."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from isometry_protein.contacts import ContactHead
from isometry_protein.model import ModelSettings, ProteinModel, calibrated_heads
from isometry_protein.states import class_logits

_log = logging.getLogger(__name__)

_MEANINGFUL = ("heads", "is_bidirectional", "mapping", "n_values", "n_classes", "value_names", "class_names")


class ProteinEnsemble(ProteinModel):
    """Networks with the same heads, of any kinds and sizes, asked as one: a residue's features stand side by side.

    What a head says is calibrated member by member before it is averaged; the ensemble's own temperatures stay 1. The
    three states are the mean of all members, the eight within each of them of those that learnt eight: a line tells
    where some did not.

    Raises:
        ValueError: the members' heads, or what these mean, differ.
    """

    def __init__(self, members: Sequence[nn.Module]):
        nn.Module.__init__(self)
        own = [member for member in members if isinstance(member, ProteinModel)]
        self.settings = _common([member.settings for member in own])
        self.members = nn.ModuleList(own)
        self.n_features = sum(member.n_features for member in own)
        self.register_buffer("groups", own[0].groups, persistent=False)
        self.temperatures = nn.ModuleDict({name: nn.Identity() for name in calibrated_heads(self.settings)})
        heads = {"contacts": _Contacts(own)} if "contacts" in self.settings.heads else {}
        self.heads = nn.ModuleDict(heads)

    def encode(self, letters: Tensor, lengths: Tensor) -> Tensor:
        """As `ProteinModel.encode`: the members' features side by side."""
        return torch.cat([member.encode(letters, lengths) for member in self._own()], -1)

    def said(self, features: Tensor, lengths: Tensor, pairs: Tensor | None = None) -> dict[str, Tensor]:
        """As `ProteinModel.said`; logits are logarithms (log-odds) of mean probabilities."""
        parts = features.split([member.n_features for member in self._own()], -1)
        every = [
            _calibrated(member, member.said(part, lengths, pairs))
            for member, part in zip(self._own(), parts, strict=True)
        ]
        means = {name: torch.stack([said[name] for said in every]).mean(0) for name in every[0] if name != "ss"}
        told = {name: _as_logits(name, mean) for name, mean in means.items()}
        return told | {"ss": self._states([said["ss"] for said in every])} if "ss" in every[0] else told

    def _states(self, logits: Sequence[Tensor]) -> Tensor:
        """[..., 8] logarithms: p(class), the mean of all members, · p(state | class) of those that learnt eight."""
        logs = [member.state_logs(own) for member, own in zip(self._own(), logits, strict=True)]
        of_classes = _log_mean([three for three, _ in logs])
        knows = [member.settings.has_eight for member in self._own()]
        of_states = _log_mean([eight for (_, eight), does in zip(logs, knows, strict=True) if does or not any(knows)])
        return of_states + (of_classes - class_logits(of_states, self.groups))[..., self.groups]

    def state_logs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """As `ProteinModel.state_logs`."""
        of_classes = class_logits(logits, self.groups)
        return of_classes, logits

    def _own(self) -> Iterator[ProteinModel]:
        for member in self.members:
            assert isinstance(member, ProteinModel)
            yield member


class _Contacts(ContactHead):
    """The members' heads for contacts, each on its own features."""

    def __init__(self, members: Sequence[ProteinModel]):
        nn.Module.__init__(self)
        self.heads = nn.ModuleList(member.heads["contacts"] for member in members)
        self.temperatures = nn.ModuleList(member.temperatures["contact"] for member in members)
        self.sizes = [member.n_features for member in members]

    def forward(self, features: Tensor, pairs: Tensor) -> Tensor:
        parts = zip(self.heads, self.temperatures, features.split(self.sizes, -1), strict=True)
        return torch.stack([cool(head(part, pairs).float()).sigmoid() for head, cool, part in parts]).mean(0).logit()


def _calibrated(member: ProteinModel, said: dict[str, Tensor]) -> dict[str, Tensor]:
    """Probabilities, and numbers and states as they are."""
    told = dict(said)
    for head, temperature in (("disorder", "disorder"), ("contacts", "contact")):
        if head in said:
            told[head] = member.temperatures[temperature](said[head]).sigmoid()
    if "classes" in said:
        told["classes"] = member.temperatures["class"](said["classes"]).softmax(-1)
    if "language" in said:
        told["language"] = said["language"].softmax(-1)
    return told


def _as_logits(head: str, mean: Tensor) -> Tensor:
    if head in ("disorder", "contacts"):
        return mean.logit()
    return mean.clamp(min=torch.finfo(mean.dtype).tiny).log() if head in ("classes", "language") else mean


def _log_mean(logs: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean probability."""
    return torch.stack(list(logs)).logsumexp(0) - math.log(len(logs))


def _common(settings: Sequence[ModelSettings]) -> ModelSettings:
    first = settings[0]
    for number, other in enumerate(settings[1:], start=2):
        for name in _MEANINGFUL:
            if getattr(other, name) != getattr(first, name):
                raise ValueError(
                    f"member {number} has {name} {getattr(other, name)}, the first {getattr(first, name)}; "
                    "expected members that say the same; ask this one alone, or leave it out"
                )
    knowing = [own.has_eight for own in settings]
    if "ss" in first.heads and any(knowing) and not all(knowing):
        without = ", ".join(str(number) for number, does in enumerate(knowing, start=1) if not does)
        _log.warning(
            f"member {without} of {len(knowing)} learnt three states alone: the three are the mean of all members, the "
            "eight within each of them of those that learnt eight"
        )
    return first.changed(has_eight=any(knowing))
