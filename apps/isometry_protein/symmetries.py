"""What holds for every weight: neither padding nor the other proteins of a batch change what is said of one."""

from __future__ import annotations

from typing import Any

import torch
from isometry.symmetry import Outputs, Symmetry
from torch import Tensor, nn

from isometry_protein.dataset import PADDING, Protein
from isometry_protein.model import ProteinModel

TOLERANCE = 1e-4  # of the outputs' root mean square, in fp32
N_PADDED = 13


def symmetries(_settings: Any) -> tuple[Symmetry, ...]:
    return (
        Symmetry("padding", _padded, outputs, tolerance=TOLERANCE),
        Symmetry("order of the batch", _turned, outputs, _turned_outputs, TOLERANCE),
        Symmetry("company", _alone, outputs, _first_output, TOLERANCE),
    )


def outputs(model: nn.Module, batch: Protein) -> Outputs:
    """What each head says of the residues that are there, protein by protein."""
    assert isinstance(model, ProteinModel)
    said = model(batch.letters, batch.length)
    is_there = torch.arange(batch.letters.shape[1], device=batch.length.device) < batch.length[:, None]
    return {
        name: values[is_there]
        if values.shape[:2] == is_there.shape and name not in ("regression", "classes")
        else values
        for name, values in said.items()
    }


def _padded(batch: Protein) -> Protein:
    def longer(name: str, values: Tensor) -> Tensor:
        if name not in PADDING:
            return values
        more = values.new_full((len(values), N_PADDED, *values.shape[2:]), PADDING[name])
        return torch.cat([values, more], 1)

    return Protein(*(longer(name, values) for name, values in zip(Protein._fields, batch, strict=True)))


def _turned(batch: Protein) -> Protein:
    return Protein(*(values.flip(0) for values in batch))


def _turned_outputs(said: Outputs, batch: Protein) -> Outputs:
    lengths = batch.length.tolist()
    return {
        name: torch.cat(list(values.split(lengths))[::-1]) if len(values) == sum(lengths) else values.flip(0)
        for name, values in said.items()
    }


def _alone(batch: Protein) -> Protein:
    """The first protein without the others."""
    n = int(batch.length[0])
    return Protein(*(v[:1, :n] if name in PADDING else v[:1] for name, v in zip(Protein._fields, batch, strict=True)))


def _first_output(said: Outputs, batch: Protein) -> Outputs:
    n, total = int(batch.length[0]), int(batch.length.sum())
    return {name: values[:n] if len(values) == total else values[:1] for name, values in said.items()}
