"""Points of a noisy sine wave."""

from __future__ import annotations

import csv
import itertools
import os
import time
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


class Staged(Points):
    """The wave's points for a curriculum: those far from 0 only at a high level; noise drawn anew in each epoch."""

    def __init__(self) -> None:
        points = simulated(60, 1, 0.1)
        self.x, self.y = points.x, points.y

    def draw(self, index: int, rng: np.random.Generator, level: float) -> tuple[Tensor, Tensor]:
        x, y = self[index]
        return x * level, y + 0.1 * float(rng.normal())


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


def poisoned(points: Points, indices: Sequence[int]) -> Points:
    """The same points, some with an infinite label: a loss that no guard may let pass."""
    y = points.y.clone()
    y[list(indices)] = float("inf")
    points.y = y
    return points


def collate(items: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    _disturb()
    return {"x": torch.stack([x for x, _ in items]), "y": torch.stack([y for _, y in items])}


_n_collated = itertools.count(1)


def _disturb() -> None:
    """For tests: WAVE_SLEEP=seconds makes each batch slow, WAVE_SIGNAL=number@n signals this process at its nth."""
    if seconds := os.environ.get("WAVE_SLEEP"):
        time.sleep(float(seconds))
    if order := os.environ.get("WAVE_SIGNAL"):
        number, _, batch = order.partition("@")
        if next(_n_collated) == int(batch):
            os.kill(os.getpid(), int(number))
