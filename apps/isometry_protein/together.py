"""Several networks as one, whose probabilities are the means of theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from isometry_protein.contacts import ContactHead
from isometry_protein.model import ModelSettings, ProteinModel
from isometry_protein.states import class_logits

_MEANINGFUL = ("heads", "is_bidirectional", "mapping", "n_values", "n_classes", "value_names", "class_names")


class ProteinEnsemble(ProteinModel):
    """Networks with the same heads, of any sizes, asked as one: a residue's features stand side by side.

    What a head says is calibrated member by member before it is averaged; the ensemble's own temperatures stay 1.

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
        self.temperatures = nn.ModuleDict({name: nn.Identity() for name in own[0].temperatures})
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
        means = {name: torch.stack([said[name] for said in every]).mean(0) for name in every[0]}
        return {name: _as_logits(name, mean) for name, mean in means.items()}

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
    """Probabilities, and numbers as they are."""
    told = dict(said)
    if "ss" in said:
        told["ss"] = member.state_logs(said["ss"])[1].exp()
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
    return mean.clamp(min=torch.finfo(mean.dtype).tiny).log() if head in ("ss", "classes", "language") else mean


def _common(settings: Sequence[ModelSettings]) -> ModelSettings:
    first = settings[0]
    for number, other in enumerate(settings[1:], start=2):
        for name in _MEANINGFUL:
            if getattr(other, name) != getattr(first, name):
                raise ValueError(
                    f"member {number} has {name} {getattr(other, name)}, the first {getattr(first, name)}; "
                    "expected members that say the same"
                )
    return first.changed(has_eight=all(own.has_eight for own in settings))
