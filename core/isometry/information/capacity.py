"""The capacity of a channel given as a table p(y|x), with a certificate, and what it costs at a price per input.

For any inputs p, with D(x) = KL(p(y|x) | p(y)): I(p) ≤ C ≤ max D(x). The distance of the two bounds is the duality gap;
every answer carries it. Blahut-Arimoto multiplies p by 2^D; its stride grows while I(p) rises and falls back to the
plain step, which cannot lower it, as soon as it does not. Where that is still slow (many inputs that are nearly as
good), an active set of inputs is solved by Newton's method and grows by the input that violates the bound most.

Source: Blahut 1972, doi:10.1109/TIT.1972.1054855; Arimoto 1972, doi:10.1109/TIT.1972.1054753; strides: Matz and Duhamel
2004; active set: cutting planes as in Huang and Meyn 2005.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from isometry.information.bits import NATS, Array, conditional_distribution

TOLERANCE = 1e-10  # bits
GROWTH = 1.3
SMALLEST = 1e-300
N_STEPS_BEFORE_NEWTON = 200
N_ROUNDS = 400
N_NEWTON = 60
MOST_ACTIVE = 48  # inputs the active set starts with
N_HALVINGS = 200
FLAT = 1e-12  # curvature in units of √p, bits


@dataclass(frozen=True)
class Capacity:
    """What a channel carries: between `bits`, which `inputs` reach, and `upper`, which no inputs exceed."""

    bits: float
    upper: float
    inputs: Array
    """[n_x] p(x)"""
    cost: float = 0.0
    """Mean cost of the inputs, in units of the given costs."""
    price: float = 0.0
    """Bits per unit of cost at this point of the capacity-cost curve: its slope."""

    @property
    def gap(self) -> float:
        """Duality gap, bits: how far `bits` can be from the truth."""
        return self.upper - self.bits


class Channel:
    """p(y|x) and what every evaluation needs of it."""

    def __init__(self, table: ArrayLike):
        self.rows = conditional_distribution(table)
        self.negentropy = xlogy(self.rows, self.rows).sum(1) / NATS

    def divergences(self, inputs: Array) -> Array:
        """[n_x] KL(p(y|x) | p(y)), bits."""
        outputs = np.maximum(inputs @ self.rows, SMALLEST)
        return self.negentropy - self.rows @ np.log2(outputs)

    def information(self, inputs: ArrayLike) -> float:
        """I(X; Y) at these inputs, bits."""
        p = np.asarray(inputs, dtype=float)
        return float(max(p @ np.where(p > 0, self.divergences(p), 0), 0.0))


def capacity(
    channel: ArrayLike,
    *,
    cost: ArrayLike | None = None,
    budget: float | None = None,
    tolerance: float = TOLERANCE,
    max_steps: int = 2000,
) -> Capacity:
    """The most that any inputs send through the channel, at a mean cost of at most `budget` where one is given.

    Args:
        channel: [n_x, n_y] p(y|x).
        cost: [n_x] of each input; with `budget`.
        budget: in units of `cost`.
        tolerance: duality gap, bits, at which to stop. An answer whose `gap` is larger could not be had in `max_steps`.
    Raises:
        ValueError: not a channel; cost without budget or the reverse; a budget below the cheapest input.
    """
    table = Channel(channel)
    if (cost is None) != (budget is None):
        raise ValueError("cost and budget belong together: give both, or neither")
    if cost is None or budget is None:
        return _at_price(table, np.zeros(len(table.rows)), 0.0, tolerance, max_steps)
    costs = _costs(cost, len(table.rows))
    if budget < costs.min():
        raise ValueError(f"a budget of {budget:g} is below the cheapest input, which costs {costs.min():g}")
    return _within_budget(table, costs, float(budget), tolerance, max_steps)


def capacity_cost_curve(
    channel: ArrayLike, cost: ArrayLike, prices: ArrayLike, *, tolerance: float = TOLERANCE, max_steps: int = 2000
) -> list[Capacity]:
    """Points of the capacity-cost curve: for each price s (bits per unit of cost) the maximum of I - s · cost."""
    table = Channel(channel)
    costs = _costs(cost, len(table.rows))
    return [_at_price(table, costs, float(price), tolerance, max_steps) for price in np.ravel(prices)]


def _costs(cost: ArrayLike, n_inputs: int) -> Array:
    costs = np.asarray(cost, dtype=float)
    if costs.shape != (n_inputs,) or not np.isfinite(costs).all():
        raise ValueError(f"cost must be {n_inputs} finite numbers, one per input; found shape {costs.shape}")
    return costs


def _at_price(
    channel: Channel, costs: Array, price: float, tolerance: float, max_steps: int, start: Array | None = None
) -> Capacity:
    penalty = price * costs
    inputs, is_done = blahut_arimoto(channel, penalty, tolerance, min(max_steps, N_STEPS_BEFORE_NEWTON), start)
    if not is_done and max_steps > N_STEPS_BEFORE_NEWTON:
        inputs = _better(channel, penalty, inputs, _by_active_set(channel, penalty, inputs, tolerance))
        if _gap(channel, penalty, inputs) > tolerance:
            again = 0.999 * inputs + 0.001 / len(inputs)  # a zero would stay zero
            again, _ = blahut_arimoto(channel, penalty, tolerance, max_steps - N_STEPS_BEFORE_NEWTON, again)
            inputs = _better(channel, penalty, inputs, again)
    scores = channel.divergences(inputs) - penalty
    bits, mean_cost = channel.information(inputs), float(inputs @ costs)
    return Capacity(bits, max(float(scores.max()) + price * mean_cost, bits), inputs, mean_cost, price)


def blahut_arimoto(
    channel: Channel, penalty: Array, tolerance: float, max_steps: int, start: Array | None = None
) -> tuple[Array, bool]:
    """Inputs [n_x] that maximise I(p) - Σ p · penalty, from uniform ones or `start`, and whether the gap closed."""
    inputs = np.full(len(penalty), 1 / len(penalty)) if start is None else start
    stride, last = 1.0, (inputs, np.zeros_like(inputs), -np.inf)
    for _ in range(max_steps):
        scores = channel.divergences(inputs) - penalty
        value = float(inputs @ scores)
        if scores.max() - value < tolerance:
            return inputs, True
        if value < last[2]:
            if stride == 1.0:  # rounding: as good as it gets
                return last[0], False
            (inputs, scores, value), stride = last, 1.0
        else:
            last, stride = (inputs, scores, value), stride * GROWTH
        grown = np.maximum(inputs, SMALLEST) * np.exp2(stride * (scores - scores.max()))
        inputs = grown / grown.sum()
    return inputs, False


def _gap(channel: Channel, penalty: Array, inputs: Array) -> float:
    scores = channel.divergences(inputs) - penalty
    return float(scores.max() - inputs @ scores)


def _better(channel: Channel, penalty: Array, one: Array, other: Array) -> Array:
    return min(one, other, key=lambda inputs: _gap(channel, penalty, inputs))


def _by_active_set(channel: Channel, penalty: Array, start: Array, tolerance: float) -> Array:
    active = np.flatnonzero(start > 1e-4 * start.max())
    if len(active) > MOST_ACTIVE:
        active = active[np.argsort(start[active])[-2:]]
    inputs = np.zeros_like(start)
    inputs[active] = start[active] / start[active].sum()
    for _ in range(N_ROUNDS):
        inputs = _newton(channel, penalty, inputs, np.flatnonzero(inputs > 0))
        scores = channel.divergences(inputs) - penalty
        newcomer = int(scores.argmax())
        if scores[newcomer] - inputs @ scores < tolerance:
            break
        # The newcomer's share, before Newton sets it: small enough to raise the sum, not zero, so that it is active.
        share = _share(channel, penalty, inputs, newcomer)
        inputs = inputs * (1 - share)
        inputs[newcomer] += share
    return inputs


def _share(channel: Channel, penalty: Array, inputs: Array, newcomer: int) -> float:
    unit = np.zeros_like(inputs)
    unit[newcomer] = 1.0
    return _rising_share(channel, penalty, inputs, unit - inputs, 0.5)


def _rising_share(channel: Channel, penalty: Array, inputs: Array, direction: Array, largest: float) -> float:
    """A share of `direction` along which the concave sum rises: its slope there is still ≥ 0."""
    share = largest
    for _ in range(N_HALVINGS):
        slope = direction @ (channel.divergences(inputs + share * direction) - penalty)
        if slope >= 0:
            return share
        share /= 2
    return 0.0


def _newton(channel: Channel, penalty: Array, inputs: Array, active: np.ndarray) -> Array:
    """The best weights of the active inputs; those that reach zero leave."""
    for _ in range(N_NEWTON):
        rows, p = channel.rows[active], inputs[active]
        scores = channel.divergences(inputs)[active] - penalty[active]
        spread = scores.max() - p @ scores
        if spread < TOLERANCE / 100:
            break
        step = _newton_step(rows, p, np.maximum(inputs @ channel.rows, SMALLEST), scores)
        if len(active) == 1 or not step @ scores > 0:  # rounding
            break
        falling = step < 0
        to_zero = np.min(-p[falling] / step[falling], initial=np.inf)
        direction = np.zeros_like(inputs)
        direction[active] = step
        share = _rising_share(channel, penalty, inputs, direction, min(1.0, to_zero))
        moved = np.maximum(inputs + share * direction, 0)
        if share == to_zero:
            moved[active[int(np.argmin(np.where(falling, -p / np.where(falling, step, -1), np.inf)))]] = 0
        elif share == 0:
            break
        inputs = moved / moved.sum()
        active = np.flatnonzero(inputs > 0)
    return inputs


def _newton_step(rows: Array, inputs: Array, outputs: Array, scores: Array) -> Array:
    """Of the sum's second-order model under Σ p = 1. Where inputs are redundant the model is flat: a long way up.

    In units of √p no curvature is above 1 / ln 2, however rare an input.
    """
    unit = np.sqrt(inputs)
    # Steps that keep the sum: the columns of this reflection but its first, which is along √p.
    mirror = unit.copy()
    mirror[0] += 1.0
    keep = (np.eye(len(unit)) - np.outer(mirror, mirror) / mirror[0])[:, 1:]
    scaled = rows * unit[:, None]
    curvature, directions = np.linalg.eigh(keep.T @ (scaled / outputs @ scaled.T) @ keep / NATS)
    slopes = directions.T @ (keep.T @ (unit * scores))
    return unit * (keep @ (directions @ (slopes / np.maximum(curvature, FLAT))))


def _within_budget(channel: Channel, costs: Array, budget: float, tolerance: float, max_steps: int) -> Capacity:
    """Halve the interval of prices until the certificate at the budget is tight."""
    free = _at_price(channel, costs, 0.0, tolerance, max_steps)
    if free.cost <= budget:
        return free
    dear = _dear_enough(channel, costs, budget, tolerance, max_steps)
    cheap, best = free, _mixed(channel, costs, budget, free, dear)
    for _ in range(N_HALVINGS):
        if best.gap < tolerance or dear.price - cheap.price < 1e-15 * dear.price:
            break
        start = 0.999 * best.inputs + 0.001 / len(costs)
        middle = _at_price(channel, costs, (cheap.price + dear.price) / 2, tolerance / 4, max_steps, start)
        cheap, dear = (middle, dear) if middle.cost > budget else (cheap, middle)
        best = _mixed(channel, costs, budget, cheap, dear)
    return best


def _dear_enough(channel: Channel, costs: Array, budget: float, tolerance: float, max_steps: int) -> Capacity:
    price = 1.0 / max(float(np.ptp(costs)), SMALLEST)
    for _ in range(N_HALVINGS):
        dear = _at_price(channel, costs, price, tolerance, max_steps)
        if dear.cost <= budget:
            return dear
        price *= 2
    # A budget that pays for the cheapest inputs only.
    cheapest = costs <= costs.min() + 1e-12 * np.ptp(costs)
    inner = _at_price(Channel(channel.rows[cheapest]), costs[cheapest], 0.0, tolerance, max_steps)
    inputs = np.zeros_like(costs)
    inputs[cheapest] = inner.inputs
    return replace(inner, inputs=inputs, price=price)


def _mixed(channel: Channel, costs: Array, budget: float, cheap: Capacity, dear: Capacity) -> Capacity:
    """Inputs between two prices' that spend the budget exactly, under the tighter of the two prices' upper bounds."""
    share = (budget - dear.cost) / (cheap.cost - dear.cost)
    inputs = share * cheap.inputs + (1 - share) * dear.inputs
    upper, price = min((side.upper + side.price * (budget - side.cost), side.price) for side in (cheap, dear))
    bits = channel.information(inputs)
    return Capacity(bits, max(upper, bits), inputs, float(inputs @ costs), price)
