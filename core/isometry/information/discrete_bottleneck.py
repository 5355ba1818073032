"""The information bottleneck of a table p(x, y), by self-consistent iteration and reverse annealing.

Minimise I(T; X) - β I(T; Y) over p(t|x). The iteration p(t|x) ∝ p(t) exp(-β KL(p(y|x) | p(y|t))) never raises that
Lagrangian, but it stops at any stationary point. Therefore β goes down from its largest value, where T = X is a good
start, every β is started from its neighbour's solution and from random encoders, and in the end every β may take over
any solution found for another one.

Convergence: an encoder is done when a step of the plain iteration changes its Lagrangian by less than `tolerance` bits
and its p(t|x) by less than √tolerance anywhere. There is no certificate of the global optimum: more restarts are.

Source: Tishby, Pereira and Bialek 1999, arXiv:physics/0004057; reverse annealing: Slonim 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, xlogy

from isometry.information.bits import NATS, Array, joint_distribution

GROWTH, LONGEST_STRIDE = 1.3, 30.0
LOWEST = -700.0  # log of the smallest probability that exp still tells from 0
NEVER_SEEN = 1e-300  # stands for log 0 of p(y|t) in sums that p(y|x) = 0 leaves out


@dataclass(frozen=True)
class InformationCurve:
    """Solutions along β, in the order of `betas`."""

    betas: Array
    """[n_betas]"""
    rate: Array
    """[n_betas] I(T; X), bits"""
    relevance: Array
    """[n_betas] I(T; Y), bits"""
    encoders: Array
    """[n_betas, n_x, n_t] p(t|x)"""
    is_converged: Array
    """[n_betas] bool"""
    information: float
    """I(X; Y), bits: the relevance that β → inf tends to"""

    @property
    def lagrangian(self) -> Array:
        """[n_betas] I(T; X) - β I(T; Y), bits"""
        return self.rate - self.betas * self.relevance

    def relevance_at(self, rate: ArrayLike) -> Array:
        """No encoder with I(T; X) = rate has more than this I(T; Y), bits; shape of `rate`.

        Every solution's Lagrangian F is a supporting line of the curve, relevance ≤ (rate - F) / β: this is the lowest
        of them, the tighter the more β, and as true as each solution is the best one. Add β where it has to be tight.
        """
        given, positive = np.asarray(rate, dtype=float), self.betas > 0
        lines = (given[..., None] - self.lagrangian[positive]) / self.betas[positive]
        return np.minimum(lines.min(axis=-1, initial=self.information), given)


class Table:
    """p(x, y) of which symbols that never occur were left out, and what the iteration needs of it."""

    def __init__(self, joint: ArrayLike):
        table = joint_distribution(joint)
        if table.ndim != 2:
            raise ValueError(f"the bottleneck needs a table [n_x, n_y], found shape {table.shape}")
        self.seen = table.sum(1) > 0
        table = table[self.seen][:, table.sum(0) > 0]
        self.of_x = table.sum(1)  # [n_x]
        self.given_x = table / self.of_x[:, None]  # [n_x, n_y]
        self.surprise_x = xlogy(self.given_x, self.given_x).sum(1)  # [n_x] nats, -H(Y|x)
        self.of_y = table.sum(0)

    def decoded(self, encoders: Array) -> tuple[Array, Array]:
        """p(t) [..., n_t] and p(y|t) [..., n_t, n_y] of p(t|x) [..., n_x, n_t]."""
        joint = np.swapaxes(encoders * self.of_x[:, None], -1, -2)  # [..., n_t, n_x]
        of_t = joint.sum(-1)
        given_t = joint @ self.given_x / np.maximum(of_t, NEVER_SEEN)[..., None]
        return of_t, given_t

    def divergence(self, given_t: Array) -> Array:
        """[..., n_x, n_t] KL(p(y|x) | p(y|t)) in nats."""
        log_given_t = np.log(np.maximum(given_t, NEVER_SEEN))
        return self.surprise_x[:, None] - self.given_x @ np.swapaxes(log_given_t, -1, -2)

    def information(self, encoders: Array) -> tuple[Array, Array]:
        """I(T; X) and I(T; Y) [...] in bits."""
        of_t, given_t = self.decoded(encoders)
        entropy_t = -xlogy(of_t, of_t).sum(-1)
        rate = entropy_t + xlogy(encoders, encoders).sum(-1) @ self.of_x
        relevance = (of_t * xlogy(given_t, given_t).sum(-1)).sum(-1) - xlogy(self.of_y, self.of_y).sum()
        return np.maximum(rate, 0) / NATS, np.maximum(relevance, 0) / NATS

    def lagrangian(self, encoders: Array, beta: float) -> Array:
        rate, relevance = self.information(encoders)
        return rate - beta * relevance

    def step(self, encoders: Array, beta: float) -> Array:
        """log p(t|x) after one self-consistent iteration, [..., n_x, n_t]."""
        of_t, given_t = self.decoded(encoders)
        logits = np.log(np.maximum(of_t, NEVER_SEEN))[..., None, :] - beta * self.divergence(given_t)
        return np.maximum(logits - logsumexp(logits, axis=-1, keepdims=True), LOWEST)


def bottleneck_curve(
    joint: ArrayLike,
    betas: ArrayLike,
    *,
    n_states: int | None = None,
    n_restarts: int = 4,
    tolerance: float = 1e-10,
    max_steps: int = 3000,
    seed: int = 0,
) -> InformationCurve:
    """Trace the information curve from the largest β to the smallest.

    Args:
        joint: [n_x, n_y] p(x, y). The encoder of an x that never occurs is uniform.
        betas: [n_betas] ≥ 0, any order.
        n_states: n_t; n_x where not given, which the optimum never needs more than.
        n_restarts: random encoders tried at every β beside the neighbour's.
        tolerance: bits, see above.
        max_steps: per β.
    """
    table, order = Table(joint), np.argsort(-np.ravel(np.asarray(betas, dtype=float)))
    sorted_betas = np.ravel(np.asarray(betas, dtype=float))[order]
    if not len(sorted_betas) or not np.isfinite(sorted_betas).all() or sorted_betas[-1] < 0:
        raise ValueError(f"betas must be finite and ≥ 0, at least one; found {sorted_betas[::-1]}")
    n_x = len(table.of_x)
    n_t = n_states or n_x
    rng = np.random.default_rng(seed)
    warm, found, done = _identity(n_x, n_t), [], []
    for beta in sorted_betas:
        starts = np.concatenate([warm[None], rng.dirichlet(np.full(n_t, 0.3), size=(n_restarts, n_x))])
        encoders, is_done = iterate(table, starts, beta, tolerance, max_steps)
        best = int(np.argmin(table.lagrangian(encoders, beta)))
        warm = encoders[best]
        found.append(warm)
        done.append(is_done[best])
    chosen = _exchanged(table, np.array(found), sorted_betas)
    # A solution of another β is stationary there, not here.
    for i in np.flatnonzero(chosen != np.arange(len(found))):
        better, is_done = iterate(table, found[chosen[i]][None], sorted_betas[i], tolerance, max_steps)
        found[i], done[i] = better[0], is_done[0]
    return _curve(table, sorted_betas, np.array(found), np.array(done), np.argsort(order))


def iterate(table: Table, starts: Array, beta: float, tolerance: float, max_steps: int) -> tuple[Array, Array]:
    """Encoders at rest and whether they are, from [n_starts, n_x, n_t].

    Over-relaxed in log p(t|x): a stride grows while the Lagrangian falls, and falls back to the plain iteration, which
    cannot raise it, as soon as it does not.
    """
    logs = np.log(np.maximum(starts, np.exp(LOWEST)))
    encoders = starts.copy()
    lagrangian = table.lagrangian(encoders, beta)
    stride, is_done = np.ones(len(starts)), np.zeros(len(starts), dtype=bool)
    for _ in range(max_steps):
        live = np.flatnonzero(~is_done)
        if not len(live):
            break
        plain = table.step(encoders[live], beta)
        far, far_encoders = _strided(logs[live], plain, stride[live])
        plain_encoders = np.exp(plain)
        plain_lagrangian = table.lagrangian(plain_encoders, beta)
        far_lagrangian = table.lagrangian(far_encoders, beta)
        pays = far_lagrangian < plain_lagrangian
        change = np.abs(plain_encoders - encoders[live]).max(axis=(1, 2))
        is_done[live] = (np.abs(lagrangian[live] - plain_lagrangian) < tolerance) & (change < tolerance**0.5)
        logs[live] = np.where(pays[:, None, None], far, plain)
        encoders[live] = np.where(pays[:, None, None], far_encoders, plain_encoders)
        lagrangian[live] = np.where(pays, far_lagrangian, plain_lagrangian)
        stride[live] = np.where(pays, np.minimum(stride[live] * GROWTH, LONGEST_STRIDE), 1 + (stride[live] - 1) / 2)
        stride[live] = np.maximum(stride[live], 1.1)
    return encoders, is_done


def _strided(logs: Array, plain: Array, stride: Array) -> tuple[Array, Array]:
    far = logs + stride[:, None, None] * (plain - logs)
    far = np.maximum(far - logsumexp(far, axis=-1, keepdims=True), LOWEST)
    return far, np.exp(far)


def _identity(n_x: int, n_t: int) -> Array:
    return np.eye(n_t)[np.arange(n_x) * n_t // max(n_x, n_t)]


def _exchanged(table: Table, encoders: Array, betas: Array) -> Array:
    """[n_betas] of which β the encoder is that serves each β best."""
    rate, relevance = table.information(encoders)
    value = rate[None] - betas[:, None] * relevance[None]
    own = np.diagonal(value)
    best = value.argmin(axis=1)
    return np.where(value.min(axis=1) < own - 1e-12, best, np.arange(len(betas)))


def _curve(table: Table, betas: Array, found: Array, done: Array, back: Array) -> InformationCurve:
    rate, relevance = table.information(found)
    encoders = np.full((len(found), len(table.seen), found.shape[-1]), 1 / found.shape[-1])
    encoders[:, table.seen] = found
    whole = float(table.information(np.eye(len(table.of_x)))[1])
    return InformationCurve(betas[back], rate[back], relevance[back], encoders[back], done[back], whole)


def first_critical_beta(joint: ArrayLike) -> float:
    """Where T = nothing stops being stable: 1 / σ², σ the second singular value of p(x, y) / √(p(x) p(y)).

    For jointly Gaussian variables this is the first critical β of the closed form. A first-order transition may come
    before it. inf: X and Y are independent.
    """
    table = Table(joint)
    scaled = table.given_x * np.sqrt(table.of_x)[:, None] / np.sqrt(table.of_y)
    singular = np.linalg.svd(scaled, compute_uv=False)
    return float(1 / singular[1] ** 2) if len(singular) > 1 and singular[1] > 1e-12 else float("inf")
