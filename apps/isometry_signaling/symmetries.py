"""What holds for every network of this app: cells do not know of each other."""

from __future__ import annotations

from typing import Any

import torch
from isometry.symmetry import Outputs, Symmetry
from torch import nn

from isometry_signaling.dataset import Cell
from isometry_signaling.objective import gain_of

TOLERANCE = 1e-4  # of the outputs' root mean square, in fp32


def symmetries(_settings: Any) -> tuple[Symmetry, ...]:
    return (
        Symmetry("order of the cells", _turned, outputs, _turned_outputs, TOLERANCE),
        Symmetry("company", _alone, outputs, _first_output, TOLERANCE),
        Symmetry("order of the noise", _noise_turned, _without_values, tolerance=TOLERANCE),
    )


def outputs(model: nn.Module, batch: Cell) -> Outputs:
    """Bits paid and gained, and what is read off the state."""
    kept = model(batch.ligand, batch.noise, batch.environment, batch.genes)
    return {"rate": kept.state.rate, "gain": gain_of(kept), "state": kept.state.told, "read": kept.environment.told}


def _without_values(model: nn.Module, batch: Cell) -> Outputs:
    return {name: value for name, value in outputs(model, batch).items() if name != "read"}


def _turned(batch: Cell) -> Cell:
    return Cell(*(column.flip(0) for column in batch))


def _turned_outputs(found: Outputs, _batch: Cell) -> Outputs:
    return {name: value.flip(0) for name, value in found.items()}


def _alone(batch: Cell) -> Cell:
    """The first cell without the others."""
    return Cell(*(column[:1] for column in batch))


def _first_output(found: Outputs, _batch: Cell) -> Outputs:
    return {name: value[:1] for name, value in found.items()}


def _noise_turned(batch: Cell) -> Cell:
    return batch._replace(noise=torch.flip(batch.noise, [1]))
