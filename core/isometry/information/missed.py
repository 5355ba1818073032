"""How much a bound by critics may lack: an estimate from what they differ in, not a bound.

Three things are added up. Their optimism: what the bound is higher on samples that a critic has learnt from, twice what
learning from so few costs, where the critic could be the truth (as in Takeuchi's criterion). Their disagreement: the
divergence of two folds' critics, half the variance of their difference, by as much as their mean is better than they
are (so that a single strange pair does not make it). And what the ceiling of the critics cuts off known pairs, up to
the most that so many samples can show. What all critics miss alike, none of it shows.

Which parts are summed was chosen after looking at what intervals of chance alone had missed on the tasks of
`beyond_normal`, seeds 0, 1 and 100; no factor was fitted. Only other seeds and other tasks judge it.

Source of optimism: Efron 1983, "Estimating the error rate of a prediction rule".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isometry.information.bits import Array
from isometry.information.critic import BLOCK, Critic, Views, bound, contributions


@dataclass(frozen=True)
class FoldCritic:
    """A critic, what it sees of all samples, and rows that it has and has not learnt from."""

    critic: Critic
    views: Views
    train: Array
    test: Array

    def seen(self, rows: Array) -> Views:
        return self.views.rows(torch.from_numpy(rows))

    def beyond_gaussian(self, rows: Array) -> float:
        """The bound on those rows less their Gaussian log-ratio, nats."""
        parts, gaussian = contributions(self.critic, self.seen(rows))
        return float((parts - gaussian).mean())


@torch.no_grad()
def possibly_missed(critics: Sequence[FoldCritic]) -> float:
    """Nats, ≥ 0."""
    optimism = np.mean(
        [one.beyond_gaussian(one.train[: len(one.test)]) - one.beyond_gaussian(one.test) for one in critics]
    )
    cut = np.mean([_cut(one, one.train[:BLOCK]) for one in critics])
    return float(max(optimism, 0.0) + _disagreement(critics) + cut)


def _disagreement(critics: Sequence[FoldCritic]) -> float:
    gains = []
    for own in critics:
        rows = own.test[:BLOCK]
        # Gaussian starts differ, too; what all samples say of them is known.
        tables = torch.stack([_learned(one, rows) for one in critics]) + own.seen(rows).gaussian()
        gains.append(float(bound(tables.mean(0)) - torch.stack([bound(table) for table in tables]).mean()))
    n = len(critics)
    return max(float(np.mean(gains)), 0.0) * 2 * n / (n - 1)  # the mean of n gains (n - 1) / 2n of the divergence


def _learned(one: FoldCritic, rows: Array) -> Tensor:
    """[n_rows, n_rows] what the critic adds to the Gaussian log-ratio."""
    views = one.seen(rows)
    return one.critic(views) - views.gaussian()


def _cut(one: FoldCritic, rows: Array) -> float:
    views = one.seen(rows)
    uncut = one.critic.uncut(views).clamp(max=float(np.log(len(one.train))))
    return float((uncut - one.critic(views)).diagonal().clamp(min=0).mean())
