"""Points of a noisy sine wave."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Points:
    """x [n] and, where known, y [n]; NaN stands for a missing label."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = torch.from_numpy(x).float(), torch.from_numpy(y).float()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def simulated(n: int, seed: int, noise: float) -> Points:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, n)
    return Points(x, np.sin(x) + noise * rng.normal(size=n))


def read_points(files: Sequence[Path]) -> Points:
    """CSV files with a column x and perhaps a column y."""
    rows = []
    for file in files:
        with open(file, newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                try:
                    rows.append((float(row["x"]), float(row.get("y") or "nan")))
                except (KeyError, ValueError):
                    raise ValueError(f"{file}, line {number}: found {dict(row)}, expected a number x") from None
    if not rows:
        raise ValueError(f"{files[0]}: no rows; expected a CSV file with a column x")
    x, y = np.array(rows).T
    return Points(x, y)


def collate(items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {"x": torch.stack([x for x, _ in items]), "y": torch.stack([y for _, y in items])}
