"""Pairs of a real point and the noise of a fake one; in training the noise is drawn anew in each epoch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from isometry.curriculum import length_at
from isometry.settings import Settings
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from isometry_mixture.ring import RingSettings, point


class NoiseSettings(Settings):
    """What a generator starts from, and what a curriculum makes easier."""

    size: PositiveInt = 16
    """Latent dimensions, all of them at level 1."""
    smallest: PositiveInt | None = None
    """Latent dimensions at the lowest level of a curriculum; the others are 0 there. None: `size`."""
    blur: NonNegativeFloat = 0.0
    """Noise on real and fake points before the discriminator sees them: times 1 - level, so none at the end. In
    the ring's unit."""


class Pair(NamedTuple):
    """A batch; of a single pair the parts are arrays without the first dimension."""

    real: Tensor
    """[n, 2] in the ring's unit."""
    latent: Tensor
    """[n, size] standard normal, or 0 where a curriculum has not got so far."""
    blur_real: Tensor
    """[n, 2] what is added before the discriminator sees the real points."""
    blur_fake: Tensor
    """[n, 2] likewise the fake ones."""


class Pairs:
    """The pairs that belong to whole numbers: the same number, the same point and the same noise."""

    def __init__(self, ring: RingSettings, noise: NoiseSettings, seeds: Sequence[int]) -> None:
        self.noise, self.seeds = noise, list(seeds)
        self.points = np.array([point(ring, np.random.default_rng(seed)) for seed in self.seeds], dtype=np.float32)

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self.pair(index, np.random.default_rng((self.seeds[index], 1)), 1.0)

    def pair(self, index: int, rng: np.random.Generator, level: float) -> tuple[np.ndarray, ...]:
        """The parts of a `Pair`, with this generator's noise, as easy as the level says."""
        size, smallest = self.noise.size, self.noise.smallest or self.noise.size
        noise = rng.standard_normal(size + 4, dtype=np.float32)
        noise[length_at(level, smallest, size) : size] = 0
        noise[size:] *= self.noise.blur * (1 - level)
        return self.points[index], noise[:size], noise[size : size + 2], noise[size + 2 :]


class TrainingPairs(Pairs):
    """The same points, with noise drawn anew in each epoch: a pure function of seed, epoch and record."""

    def draw(self, index: int, rng: np.random.Generator, level: float) -> tuple[np.ndarray, ...]:
        return self.pair(index, rng, level)


def collate(pairs: list[tuple[np.ndarray, ...]]) -> Pair:
    return Pair(*(torch.from_numpy(np.stack(column)) for column in zip(*pairs, strict=True)))


def read_seeds(files: Sequence[Path]) -> list[int]:
    """The column `seed` of CSV files: one sample is made for each."""
    seeds = []
    for file in files:
        with open(file, newline="", encoding="utf-8") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                if not (row.get("seed") or "").strip().isdigit():
                    raise ValueError(f"{file}, line {number}: found {dict(row)}, expected a column seed, 0 or more")
                seeds.append(int(row["seed"]))
    if not seeds:
        raise ValueError(f"{files[0]}: no rows; expected a CSV file with a column seed")
    return seeds
