"""Cells to tensors: what a cell meets, what it should know of, and the noise of its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


class Cell(NamedTuple):
    """A batch of cells, or of kinds of cells where a data set is a table of probabilities."""

    ligand: Tensor  # [n, length, channels] what the cell meets: length 1, or a time course
    environment: Tensor  # [n, n_environments] p(E | this record), or [n, n_values] in standard deviations
    genes: Tensor  # [n, n_genes]; NaN where unknown
    noise: Tensor  # [n, n_draws, n_state] of the state, standard normal
    weight: Tensor  # [n] how often, 1 on average
    stratum: Tensor  # [n] integers: what the sampling was fixed by


@dataclass(frozen=True)
class CellTable:
    """Cells as arrays; shapes as in `Cell`."""

    ligand: Array
    environment: Array
    genes: Array
    weight: Array
    stratum: Array
    controls: Array | None = None
    """[n, n_controls] functions of ligand and environment whose mean is known to be 0."""
    numbers: Array | None = None
    """[n] of each cell in the table that it was read from, where cells of it were left out."""

    def __len__(self) -> int:
        return len(self.ligand)


class Names(NamedTuple):
    """What the columns of a table are called."""

    ligands: tuple[str, ...]
    genes: tuple[str, ...]
    environment: str
    labels: tuple[str, ...]
    """Of classes; empty: numbers."""


class Cells:
    """Cells of a table, an indexable sequence; each has noise of its own, the same whenever it is fetched.

    Draws come in pairs of opposite sign, which takes the noise of the mean out of whatever is linear.
    """

    def __init__(self, table: CellTable, names: Names, n_draws: int, n_state: int, seed: int = 0):
        self.table, self.names = table, names
        half = np.random.default_rng(seed).standard_normal((len(table), -(-n_draws // 2), n_state), dtype=np.float32)
        noise = np.concatenate([half, -half], axis=1)[:, :n_draws]
        self.columns = Cell(
            ligand=_real(table.ligand),
            environment=_real(table.environment),
            genes=_real(table.genes),
            noise=torch.from_numpy(noise),
            weight=_real(table.weight),
            stratum=torch.from_numpy(table.stratum.astype(np.int64)),
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Cells, int]:
        """The data set and the place in it: `collate` takes all of a batch at once."""
        if not 0 <= index < len(self):
            raise IndexError(f"cell {index} of a data set of {len(self)}")
        return self, index

    def all(self) -> Cell:
        """Every cell as one batch."""
        return self.columns


def collate(cells: list[tuple[Cells, int]]) -> Cell:
    """A batch of cells of one data set."""
    indices = torch.tensor([index for _, index in cells])
    return Cell(*(column[indices] for column in cells[0][0].columns))


def _real(values: Array) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
