"""Many small decoders of one shape, trained side by side as one batched network, each on samples of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BATCH = 256  # at most; and a quarter of the samples
CHUNK = 4096  # samples at once when predicting


@dataclass(frozen=True)
class NetSettings:
    """Shape and training of the decoders."""

    hidden: tuple[int, ...] = (48, 48)
    """Widths of the layers between; none: logistic regression."""
    rate: float = 6e-3
    decay: float = 1e-2
    n_steps: int = 600
    n_checks: int = 24
    """How often the held-out loss is looked at; the best weights of each decoder are kept."""
    patience: int = 8
    """Checks without a better one, of all decoders, after which training ends."""


class Nets:
    """n_nets multilayer perceptrons with a direct linear path, as batched weights."""

    def __init__(self, n_nets: int, n_features: int, n_classes: int, hidden: Sequence[int], seed: int):
        generator = torch.Generator().manual_seed(seed)
        widths = [n_features, *hidden, n_classes]
        self.weights, self.biases = [], []
        for before, after in pairwise(widths):
            is_last = len(self.weights) == len(hidden)
            scale = 0.0 if is_last else math.sqrt(2.0 / before)
            self.weights.append(scale * torch.randn(n_nets, before, after, generator=generator))
            self.biases.append(torch.zeros(n_nets, 1, after))
        self.direct = torch.zeros(n_nets, n_features, n_classes) if hidden else None
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def parameters(self) -> list[Tensor]:
        return [*self.weights, *self.biases, *([] if self.direct is None else [self.direct])]

    def __call__(self, x: Tensor) -> Tensor:
        """[n_nets, n, n_features] -> logits [n_nets, n, n_classes]"""
        h = x
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = functional.silu(torch.baddbmm(bias, h, weight))
        logits = torch.baddbmm(self.biases[-1], h, self.weights[-1])
        return logits if self.direct is None else torch.baddbmm(logits, x, self.direct)

    @torch.no_grad()
    def log_probabilities(self, features: Tensor, net: int) -> np.ndarray:
        """[n, n_classes] of one decoder, float64."""
        own = _one(self, net)
        parts = [own(chunk[None])[0].log_softmax(-1) for chunk in features.split(CHUNK)]
        return torch.cat(parts).double().numpy()


def train_nets(
    features: Tensor,
    labels: Tensor,
    n_classes: int,
    train: Sequence[np.ndarray],
    valid: Sequence[np.ndarray],
    settings: NetSettings,
    seed: int,
) -> Nets:
    """One decoder for each pair of training and held-out rows.

    Args:
        features: [n, n_features] float32.
        labels: [n] of 0 … n_classes - 1.
        train, valid: rows, one array for each decoder.
    """
    nets = Nets(len(train), features.shape[1], n_classes, settings.hidden, seed)
    batches = _Batches(train, seed)
    optimizer = torch.optim.AdamW(nets.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.n_steps, pct_start=0.15)
    best = _Best(nets)
    every = max(settings.n_steps // settings.n_checks, 1)
    for step in range(settings.n_steps):
        rows = batches.next()
        logits = nets(features[rows])
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[rows].flatten())
        optimizer.zero_grad(set_to_none=True)
        (loss * len(train)).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % every == 0 and best.look(nets, _held_out(nets, features, labels, valid)) >= settings.patience:
            break
    best.put_back(nets)
    return nets


class _Batches:
    """Rows [n_nets, batch]; each decoder goes through its own rows in an order of its own."""

    def __init__(self, train: Sequence[np.ndarray], seed: int):
        self.rng = np.random.default_rng(seed)
        self.train = train
        self.size = min(BATCH, max(min(map(len, train)) // 4, 32), min(map(len, train)))
        self.place, self.order = 0, np.zeros((len(train), 0), dtype=int)

    def next(self) -> Tensor:
        if self.place + self.size > self.order.shape[1]:
            n = min(map(len, self.train))
            self.order = np.stack([self.rng.permutation(rows)[:n] for rows in self.train])
            self.place = 0
        self.place += self.size
        return torch.from_numpy(self.order[:, self.place - self.size : self.place])


class _Best:
    """The weights of each decoder at its lowest held-out loss."""

    def __init__(self, nets: Nets):
        self.kept = [parameter.detach().clone() for parameter in nets.parameters()]
        self.loss = torch.full((len(self.kept[0]),), math.inf)
        self.n_waited = 0

    def look(self, nets: Nets, loss: Tensor) -> int:
        """Keep what is better; how many looks have passed since anything was."""
        better = loss < self.loss - 1e-5
        self.n_waited = 0 if better.any() else self.n_waited + 1
        self.loss = torch.where(better, loss, self.loss)
        for kept, parameter in zip(self.kept, nets.parameters(), strict=True):
            kept[better] = parameter.detach()[better]
        return self.n_waited

    def put_back(self, nets: Nets) -> None:
        for kept, parameter in zip(self.kept, nets.parameters(), strict=True):
            parameter.data.copy_(kept)


@torch.no_grad()
def _held_out(nets: Nets, features: Tensor, labels: Tensor, valid: Sequence[np.ndarray]) -> Tensor:
    """[n_nets] mean loss of each decoder on its held-out rows."""
    n = max(map(len, valid))
    padded = torch.from_numpy(np.stack([np.pad(rows, (0, n - len(rows))) for rows in valid]))
    is_own = torch.arange(n) < torch.tensor([len(rows) for rows in valid])[:, None]
    total = torch.zeros(len(valid))
    for rows, own in zip(padded.split(CHUNK, dim=1), is_own.split(CHUNK, dim=1), strict=True):
        loss = functional.cross_entropy(nets(features[rows]).transpose(1, 2), labels[rows], reduction="none")
        total += (loss * own).sum(1)
    return total / is_own.sum(1)


def _one(nets: Nets, net: int) -> Nets:
    own = object.__new__(Nets)
    own.weights = [weight.detach()[net : net + 1] for weight in nets.weights]
    own.biases = [bias.detach()[net : net + 1] for bias in nets.biases]
    own.direct = None if nets.direct is None else nets.direct.detach()[net : net + 1]
    return own
