"""How much a bound by critics may lack: an estimate from what they differ in, not a bound.

Three things are added up. Their optimism: what the bound is higher on samples that a critic has learnt from, twice what
learning from so few costs, where the critic could be the truth (as in Takeuchi's criterion). Their disagreement: half
the variance of the difference of two folds' critics on pairs that one of them has not seen, the divergence of one from
the other to second order. And what the ceiling of the critics cuts off known pairs. What all critics miss alike, none
of it shows.

Source of optimism: Efron 1983, "Estimating the error rate of a prediction rule".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isometry.information.bits import Array
from isometry.information.critic import BLOCK, Critic, Views, contributions


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
    found = []
    for own in critics:
        rows = own.test[:BLOCK]
        learned = [_learned(one, rows) for one in critics]
        found += [(learned[j] - _learned(own, rows)).var() / 2 for j, one in enumerate(critics) if one is not own]
    return float(np.mean(found))


def _learned(one: FoldCritic, rows: Array) -> Tensor:
    """[n_rows] of pairs, what the critic adds to the Gaussian log-ratio."""
    views = one.seen(rows)
    return (one.critic(views) - views.gaussian()).diagonal()


def _cut(one: FoldCritic, rows: Array) -> float:
    views = one.seen(rows)
    return float((one.critic.uncut(views) - one.critic(views)).diagonal().mean())
