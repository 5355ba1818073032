"""What of a dependence correlations do not show, by a network that tells pairs (x, y) from pairs of other samples.

The critic T(x, y) starts as the log-ratio of Gaussian variables and learns a correction g(x)·h(y) + a(x) + b(y). Any
critic gives a lower bound, E[T] over pairs - log E[exp T] over strangers ≤ I(X; Y), on samples it has not seen.

Source: Donsker and Varadhan 1983; Belghazi et al. 2018, arXiv:1801.04062; the separable critic: van den Oord et al.
2018, arXiv:1807.03748.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

WIDTH, N_PRODUCTS = 64, 32
BATCH = 256
MOST_STEPS, STEPS_PER_CHECK, PATIENCE = 800, 50, 3
RATE, DECAY, LARGEST_GRADIENT = 3e-3, 1e-2, 1.0
MEMORY = 0.98  # of the mean of weights along training
BELOW_CEILING = 0.99  # of the known pairs
BLOCK = 1000  # samples whose pairs are held at once


@dataclass(frozen=True)
class Views:
    """What the critic sees of each sample."""

    x: Tensor
    """[n, n_features_x]"""
    y: Tensor
    """[n, n_features_y]"""
    canonical_x: Tensor
    """[n, n_significant] of variance 1, paired with canonical_y"""
    canonical_y: Tensor
    correlations: Tensor
    """[n_significant]"""

    def rows(self, index: Tensor) -> Views:
        canonical = self.canonical_x[index], self.canonical_y[index]
        return Views(self.x[index], self.y[index], *canonical, self.correlations)

    def gaussian(self) -> Tensor:
        """[n, n] log p(x, y) / p(x) p(y) of Gaussian variables, nats."""
        rest = 1 - self.correlations**2
        alone = (self.correlations**2 / rest / 2)[:, None]
        crossed = (self.canonical_x * (self.correlations / rest)) @ self.canonical_y.T
        return crossed - self.canonical_x**2 @ alone - (self.canonical_y**2 @ alone).T - rest.log().sum() / 2


class Side(nn.Module):
    """One side's features and its own term [n, N_PRODUCTS + 1], products of inputs among them."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(n_features, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.gate = nn.Linear(n_features, WIDTH)
        self.last = nn.Linear(WIDTH, N_PRODUCTS + 1)
        self.direct = nn.Linear(n_features, N_PRODUCTS + 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        hidden = nn.functional.silu(self.first(features))
        hidden = hidden + nn.functional.silu(self.second(hidden)) * self.gate(features)
        return self.last(hidden) + self.direct(features)


class Critic(nn.Module):
    """T(x, y) of all pairs; the Gaussian log-ratio until it is trained."""

    ceiling: Tensor

    def __init__(self, n_features_x: int, n_features_y: int) -> None:
        super().__init__()
        self.of_x, self.of_y = Side(n_features_x), Side(n_features_y)
        for layer in (self.of_x.last, self.of_x.direct):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.of_x.last.bias)
        with torch.no_grad():
            for part in (self.of_y.last.weight, self.of_y.direct.weight, self.of_y.last.bias):
                part[-1] = 0
        self.register_buffer("ceiling", torch.tensor(torch.inf))

    def forward(self, views: Views) -> Tensor:
        """[n, n] nats; the diagonal holds the pairs, all else strangers."""
        return self.uncut(views).clamp(max=self.ceiling)

    def uncut(self, views: Views) -> Tensor:
        """The same without the ceiling."""
        x, y = self.of_x(views.x), self.of_y(views.y)
        learned = x[:, :-1] @ y[:, :-1].T + x[:, -1:] + y[:, -1]
        return views.gaussian() + learned


def bound(critic: Tensor) -> Tensor:
    """E[T] - log E[exp T] from a table [n, n] of T, nats. Donsker and Varadhan 1983."""
    n = len(critic)
    strangers = critic.masked_fill(torch.eye(n, dtype=torch.bool), -torch.inf)
    return critic.diagonal().mean() - strangers.logsumexp((0, 1)) + np.log(n * (n - 1))


@torch.no_grad()
def contributions(critic: Critic, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's part in the bound [n], whose mean is the bound, and its Gaussian log-ratio [n]; nats.

    To first order in 1/n the parts are independent, so their spread gives the standard error.
    """
    parts, gaussian = [], []
    for rows in torch.arange(len(views.x)).tensor_split(-(-len(views.x) // BLOCK)):
        block = views.rows(rows)
        table = critic(block)
        ratio = table.exp().fill_diagonal_(0) / (len(rows) - 1)
        mean = ratio.sum() / len(rows)
        parts.append(table.diagonal() - mean.log() - (ratio.sum(0) + ratio.sum(1)) / mean + 2)
        gaussian.append(block.gaussian().diagonal())
    return torch.cat(parts).numpy(), torch.cat(gaussian).double().numpy()


def fitted(views: Views, train: Tensor, check: Tensor, seed: int) -> Critic:
    """The critic that does best on the samples `check`; the Gaussian one where no other is better beyond chance."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        critic = Critic(views.x.shape[1], views.y.shape[1])
        gaussian = copy.deepcopy(critic)
        untrained = contributions(critic, views.rows(check))[0]
        learned = _trained(critic, views, train, check, float(untrained.mean()))
    gain = contributions(learned, views.rows(check))[0] - untrained
    return learned if gain.mean() > gain.std() / len(gain) ** 0.5 else gaussian


def _trained(critic: Critic, views: Views, train: Tensor, check: Tensor, untrained: float) -> Critic:
    """The critic of the best check, of weights averaged along training; the one of the last, where none was better."""
    optimizer = torch.optim.AdamW(critic.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, MOST_STEPS, pct_start=0.1)
    mean = copy.deepcopy(critic)
    weights: list[Tensor] = list(critic.parameters())
    mean_weights: list[Tensor] = list(mean.parameters())
    most, best_step, best = untrained, 0, mean
    for step in range(1, MOST_STEPS + 1):
        loss = -bound(critic(views.rows(train[torch.randperm(len(train))[:BATCH]])))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(mean_weights, weights, 1 - MEMORY)
        if step % STEPS_PER_CHECK:
            continue
        found = _checked(mean, views, train, check)
        if found > most:
            most, best_step, best = found, step, copy.deepcopy(mean)
        if step - max(best_step, STEPS_PER_CHECK) >= PATIENCE * STEPS_PER_CHECK:
            break
    return best


@torch.no_grad()
def _checked(critic: Critic, views: Views, train: Tensor, check: Tensor) -> float:
    """The bound on `check`, T cut where few known pairs are beyond, and at the most that so many samples can show.

    One stranger must not outweigh all. No bound from n samples can exceed log n: McAllester and Stratos 2020,
    arXiv:1811.04251.
    """
    critic.ceiling.fill_(torch.inf)
    known = critic(views.rows(train[:BLOCK])).diagonal()
    critic.ceiling.copy_(known.quantile(BELOW_CEILING).clamp(max=float(np.log(len(train)))))
    return float(contributions(critic, views.rows(check))[0].mean())
