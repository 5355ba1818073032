"""The network: a recurrent encoder of residues, and any subset of heads on what it says."""

from __future__ import annotations

from typing import Literal

import torch
from isometry.calibrate import Temperature
from isometry.initialise import Projection, initialise
from isometry.recurrent import Recurrent
from isometry.settings import Settings
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from isometry_protein.contacts import ContactHead
from isometry_protein.convolution import Dilated
from isometry_protein.letters import N_AMINO_ACIDS, N_LETTERS, PAD
from isometry_protein.states import N_STATES, groups_of, state_logs

Head = Literal["ss", "rsa", "disorder", "contacts", "regression", "classes", "language"]

OF_THE_WHOLE = ("regression", "classes")
LONG = 4096
"""Residues of a chunk: a protein with more of them is read chunk by chunk when predicting."""


class ModelSettings(Settings):
    """Size of the network, its heads, and what it learnt from the training data before the first step."""

    heads: tuple[Head, ...] = ("ss",)
    """ss: 8 and 3 states; rsa: relative accessibility; disorder; contacts; regression, classes: of the whole protein;
    language: the next residue, or a hidden one where both directions are read."""
    kind: Literal["lstm", "gru", "tanh", "conv", "none"] = "lstm"
    """The recurrent net; tanh shows how a gradient vanishes, conv puts dilated convolutions of as many weights as the
    LSTM in its place, none leaves the stem alone."""
    width: PositiveInt = 256
    """Of the state, in each direction."""
    n_layers: PositiveInt = 2
    is_bidirectional: bool = True
    embedding: PositiveInt = 64
    stem: NonNegativeInt = 0
    """Channels of a convolution over the residues, beside their embedding; 0: none."""
    kernel: PositiveInt = 9
    """Residues that the convolution sees; odd."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of each layer's input, one mask for all residues of a protein."""
    t_max: PositiveInt | None = Field(default=1000, ge=3)
    """Longest memory in residues with which the gates begin."""
    mapping: Literal["GHI/EB", "H/E"] = "GHI/EB"
    """Which of the eight states count as helix and strand; the rest is coil."""
    has_eight: bool = True
    """Whether the training labels tell eight states, and not only three; filled from the data."""
    rank: PositiveInt = 32
    """Hidden features of a pair, for contacts."""
    n_values: NonNegativeInt = 0
    """Numbers of a whole protein; filled from the data."""
    n_classes: NonNegativeInt = 0
    """Classes of a whole protein; filled from the data."""
    value_means: tuple[float, ...] = ()
    """Of those numbers; filled from the data."""
    value_scales: tuple[float, ...] = ()
    """Their standard deviations; filled from the data."""
    value_names: tuple[str, ...] = ()
    """Columns of the labels that those numbers are; filled from the data."""
    class_names: tuple[str, ...] = ()
    """Of a whole protein, in the network's order; filled from the data."""

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads are {self.heads}; expected at least one, each once")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; expected an odd number of residues")
        if self.kind == "none" and self.stem == 0:
            raise ValueError("kind is none and stem is 0; without either a residue sees no neighbour")
        if "language" in self.heads and not self.is_bidirectional and self.stem:
            raise ValueError("the language head of a one-way net guesses the next residue; set stem 0, which sees it")
        return self


def names_of_values(s: ModelSettings) -> tuple[str, ...]:
    """The columns of the labels, or their numbers where the checkpoint does not know them."""
    return s.value_names or tuple(str(i) for i in range(s.n_values))


def names_of_classes(s: ModelSettings) -> tuple[str, ...]:
    """As the labels call them, or their numbers where the checkpoint does not know them."""
    return s.class_names or tuple(str(i) for i in range(s.n_classes))


class ProteinModel(nn.Module):
    """Letters to what each head says, before its temperature."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        s = self.settings = settings
        self.embed = nn.Embedding(N_LETTERS, s.embedding, padding_idx=PAD)
        self.stem = nn.Conv1d(s.embedding, s.stem, s.kernel, padding=s.kernel // 2) if s.stem else None
        initialise(self, "linear")
        self.recurrent = _recurrent(s)
        self.n_features = s.embedding + s.stem if self.recurrent is None else self.recurrent.n_out
        self.norm = nn.LayerNorm(self.n_features)
        self.heads = nn.ModuleDict({head: _made(head, self.n_features, s) for head in s.heads})
        self.groups: Tensor
        self.value_means: Tensor
        self.value_scales: Tensor
        self.register_buffer("groups", groups_of(s.mapping), persistent=False)
        self.register_buffer("value_means", torch.tensor(s.value_means), persistent=False)
        self.register_buffer("value_scales", torch.tensor(s.value_scales), persistent=False)
        self.temperatures = nn.ModuleDict({name: Temperature() for name in calibrated_heads(s)})

    def encode(self, letters: Tensor, lengths: Tensor) -> Tensor:
        """[n, longest] codes and [n] lengths to [n, longest, n_features]; zeros beyond a protein's end."""
        is_there = (torch.arange(letters.shape[1], device=letters.device) < lengths[:, None])[..., None]
        x = self.embed(letters)
        if self.stem is not None:
            seen = nn.functional.gelu(self.stem(x.transpose(1, 2)).transpose(1, 2))
            x = torch.cat([x, seen], -1) * is_there
        if self.recurrent is not None:
            x = self._read(x, lengths)
        return self.norm(x) * is_there

    def _read(self, x: Tensor, lengths: Tensor) -> Tensor:
        assert self.recurrent is not None
        if len(x) == 1 and x.shape[1] > LONG and not torch.is_grad_enabled():
            return self.recurrent.read_in_chunks(x, LONG)
        return self.recurrent(x, lengths)

    def forward(self, letters: Tensor, lengths: Tensor, pairs: Tensor | None = None) -> dict[str, Tensor]:
        """What each head says, before its temperature.

        Args:
            letters: [n, longest] codes
            lengths: [n]
            pairs: [3, n_pairs] protein, i, j of which contacts are asked.
        Returns:
            ss [n, longest, 8] logits of GHIBESTC; rsa [n, longest] in [0, 1]; disorder [n, longest] logits; contacts
            [n_pairs] logits; regression [n, n_values] and classes [n, n_classes] logits of the whole protein; language
            [n, longest, 20] logits of the next residue or, reading both ways, of the one at hand.
        """
        return self.said(self.encode(letters, lengths), lengths, pairs)

    def said(self, features: Tensor, lengths: Tensor, pairs: Tensor | None = None) -> dict[str, Tensor]:
        """What the heads say of encoded proteins."""
        pooled = features.sum(1) / lengths.clamp(min=1)[:, None]
        said = {}
        for name, head in self.heads.items():
            if name != "contacts":
                said[name] = _full(head(pooled if name in OF_THE_WHOLE else features))
            elif pairs is not None:
                said[name] = _full(head(features, pairs))
        for name in said.keys() & {"rsa", "disorder"}:
            said[name] = said[name].squeeze(-1)
        if "rsa" in said:
            said["rsa"] = said["rsa"].sigmoid()
        if "regression" in said:
            said["regression"] = self.value_means + self.value_scales * said["regression"]
        return said

    def state_logs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrated log-probabilities [..., 3] of H, E, C and [..., 8] of GHIBESTC; the sums of these are those."""
        of_states = self.temperatures["ss8"] if self.settings.has_eight else nn.Identity()
        return state_logs(logits, self.groups, self.temperatures["ss3"], of_states)


def _full(x: Tensor) -> Tensor:
    """In fp32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def calibrated_heads(s: ModelSettings) -> list[str]:
    """The names of the temperatures: two for the states, one for each other head that classifies."""
    states = ["ss3", "ss8"] if s.has_eight else ["ss3"]
    named = {"ss": states, "disorder": ["disorder"], "contacts": ["contact"], "classes": ["class"]}
    return [name for head in s.heads for name in named.get(head, [])]


def _recurrent(s: ModelSettings) -> Recurrent | Dilated | None:
    if s.kind == "none":
        return None
    if s.kind == "conv":
        is_causal = not s.is_bidirectional
        return Dilated(s.embedding + s.stem, s.width, s.n_layers, is_causal=is_causal, dropout=s.dropout)
    return Recurrent(
        s.embedding + s.stem,
        s.width,
        s.n_layers,
        s.kind,
        is_bidirectional=s.is_bidirectional,
        is_normed=True,
        is_residual=True,
        dropout=s.dropout,
        t_max=s.t_max,
    )


def _made(head: Head, n_features: int, s: ModelSettings) -> nn.Module:
    if head == "contacts":
        return ContactHead(n_features, s.rank)
    sizes = {
        "ss": N_STATES,
        "rsa": 1,
        "disorder": 1,
        "regression": s.n_values,
        "classes": s.n_classes,
        "language": N_AMINO_ACIDS,
    }
    if sizes[head] == 0:
        raise ValueError(f"the head {head} needs labels of whole proteins, and the data have none; see data.labels")
    linear = Projection(n_features, sizes[head])
    initialise(linear, "linear")
    return linear
