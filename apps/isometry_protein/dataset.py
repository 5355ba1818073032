"""Records of proteins to tensors and padded batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from isometry_data.protein_records import EIGHT_STATES, THREE_STATES, ProteinRecord, three_states
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from isometry_protein.letters import PAD, letters_of

NO_LABEL = -1


class Protein(NamedTuple):
    """One chain of n residues; -1 and NaN where a label is unknown. In a batch, [n_proteins, longest] of each."""

    letters: Tensor  # [n] codes
    length: Tensor  # []
    ss3: Tensor  # [n] index into HEC
    ss8: Tensor  # [n] index into GHIBESTC
    accessibility: Tensor  # [n] relative
    disorder: Tensor  # [n] 0 or 1
    positions: Tensor  # [n, 3] Å
    hidden: Tensor  # [n] bool: residues that the language head guesses and nobody sees
    value: Tensor  # [n_values] numbers of the whole protein
    kind: Tensor  # [] class of the whole protein


PADDING = {"letters": PAD, "ss3": NO_LABEL, "ss8": NO_LABEL, "accessibility": torch.nan, "disorder": NO_LABEL}
PADDING |= {"positions": torch.nan, "hidden": False}


class ProteinDataset:
    """Proteins of records, an indexable sequence that knows their lengths.

    Args:
        mapping: from eight states to three, a key of `THREE_OF_EIGHT`.
        hidden: share of residues that are hidden for the language head; each epoch draws others.
        values: numbers of a whole protein by its name; all of the same count.
        kinds: class of a whole protein by its name.
        value_names, class_names: what those numbers and classes are.
    """

    def __init__(
        self,
        records: Sequence[ProteinRecord],
        mapping: str = "GHI/EB",
        hidden: float = 0.0,
        values: Mapping[str, Sequence[float]] | None = None,
        kinds: Mapping[str, int] | None = None,
        value_names: Sequence[str] = (),
        class_names: Sequence[str] = (),
    ):
        self.records, self.mapping, self.hidden = list(records), mapping, hidden
        self.values, self.kinds = values or {}, kinds or {}
        self.value_names, self.class_names = tuple(value_names), tuple(class_names)
        self._n_values = len(next(iter(self.values.values()), self.value_names))
        self._proteins: dict[int, Protein] = {}

    def __len__(self) -> int:
        return len(self.records)

    def length(self, index: int) -> int:
        return len(self.records[index])

    def name(self, index: int) -> str:
        """File, line and name, for messages."""
        return self.records[index].label

    def __getitem__(self, index: int) -> Protein:
        """The protein as it is evaluated: always the same residues are hidden."""
        return self.draw(index, np.random.default_rng(index))

    def draw(self, index: int, rng: np.random.Generator) -> Protein:
        """The protein as it is trained on."""
        if not 0 <= index < len(self.records):
            raise IndexError(f"protein {index} of a data set of {len(self.records)}")
        if index not in self._proteins:
            self._proteins[index] = self._protein(self.records[index])
        protein = self._proteins[index]
        if self.hidden == 0:
            return protein
        return protein._replace(hidden=torch.from_numpy(rng.random(len(protein.letters)) < self.hidden))

    def _protein(self, record: ProteinRecord) -> Protein:
        n = len(record)
        states = record.ss3 if record.ss8 is None else three_states(record.ss8, self.mapping)
        unknown = [torch.nan] * self._n_values
        return Protein(
            letters=letters_of(record.sequence),
            length=torch.tensor(n),
            ss3=_states(states, THREE_STATES, record),
            ss8=_states(record.ss8, EIGHT_STATES, record),
            accessibility=_counted(_numbers(record.accessibility, (n,)), record),
            disorder=_flags(record.disorder, n),
            positions=_numbers(record.positions, (n, 3)),
            hidden=torch.zeros(n, dtype=torch.bool),
            value=torch.tensor(self.values.get(record.name, unknown), dtype=torch.float32),
            kind=torch.tensor(self.kinds.get(record.name, NO_LABEL)),
        )


def collate(proteins: list[Protein]) -> Protein:
    """A batch, padded to its longest protein."""
    columns = zip(Protein._fields, zip(*proteins, strict=True), strict=True)
    return Protein(*(_padded(list(parts), PADDING.get(name)) for name, parts in columns))


def _padded(parts: list[Tensor], padding: float | None) -> Tensor:
    return torch.stack(parts) if padding is None else pad_sequence(parts, batch_first=True, padding_value=padding)


def _states(states: str | None, alphabet: str, record: ProteinRecord) -> Tensor:
    if states is None:
        return torch.full((len(record),), NO_LABEL)
    return _counted(torch.tensor([alphabet.find(state) for state in states]), record)


def _counted(labels: Tensor, record: ProteinRecord) -> Tensor:
    """Labels without those that the record's mask tells not to count."""
    if record.mask is None:
        return labels
    unknown = torch.nan if labels.is_floating_point() else NO_LABEL
    return labels.masked_fill(~torch.from_numpy(record.mask), unknown)


def _numbers(values: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, torch.nan) if values is None else torch.from_numpy(values.astype(np.float32))


def _flags(values: np.ndarray | None, n: int) -> Tensor:
    return torch.full((n,), NO_LABEL) if values is None else torch.from_numpy(values.astype(np.int64))
