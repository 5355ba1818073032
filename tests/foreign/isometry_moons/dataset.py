"""Points around two half-circles, each a row of Gaussians, so that the true probability of a class is known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_ANGLES = np.linspace(0, np.pi, 12)
CENTRES = np.stack(
    [
        np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1),
        np.stack([1 - np.cos(_ANGLES), 0.5 - np.sin(_ANGLES)], 1),
    ]
)
"""[2 classes, 12 Gaussians, 2]"""


class Points:
    """xy [n, 2] and label [n]: 0 or 1, -1 where it is not known."""

    def __init__(self, xy: np.ndarray, label: np.ndarray) -> None:
        self.xy, self.label = torch.from_numpy(xy).float(), torch.from_numpy(label).long()

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.xy[index], self.label[index]


def simulated(n: int, seed: int, noise: float, unknown: float = 0.0) -> Points:
    """`noise`: standard deviation of each Gaussian; `unknown`: share of points without a label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    centre = CENTRES[label, rng.integers(0, CENTRES.shape[1], n)]
    xy = centre + noise * rng.normal(size=(n, 2))
    return Points(xy, np.where(rng.random(n) < unknown, -1, label))


def posterior(xy: np.ndarray, noise: float) -> np.ndarray:
    """[n, 2]: the true probability of each class at points [n, 2], by Bayes' rule."""
    squares = ((xy[:, None, None] - CENTRES) ** 2).sum(-1)
    densities = np.exp(-(squares - squares.min((1, 2), keepdims=True)) / (2 * noise**2)).sum(-1)
    return densities / densities.sum(1, keepdims=True)


def read_points(files: Sequence[Path]) -> Points:
    """CSV files with columns x, y and perhaps label; empty or -1 where it is not known."""
    rows = []
    for file in files:
        with open(file, newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                rows.append(_parsed(row, f"{file}, line {number}"))
    if not rows:
        raise ValueError(f"{files[0]}: no rows; expected a CSV file with columns x and y")
    return Points(np.array([row[:2] for row in rows]), np.array([row[2] for row in rows]))


def _parsed(row: dict[str, str], where: str) -> tuple[float, float, int]:
    try:
        x, y, label = float(row["x"]), float(row["y"]), int(row.get("label") or -1)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{where}: found {dict(row)}, expected numbers x and y, and a label 0, 1 or none") from None
    if not np.isfinite([x, y]).all() or label not in (-1, 0, 1):
        raise ValueError(f"{where}: found {dict(row)}, expected finite x and y, and a label 0, 1 or none")
    return x, y, label


def collate(items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {"xy": torch.stack([xy for xy, _ in items]), "label": torch.stack([label for _, label in items])}
