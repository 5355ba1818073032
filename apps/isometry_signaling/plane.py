"""The information plane of a network: one point for each beta, each from its neighbour's solution.

The engine trains the network at one beta. From there it is followed to the largest beta and then down to the smallest:
each beta begins with the solution of the one before, and quasi-Newton steps (L-BFGS, strong Wolfe line search) over all
training cells at once, with their noise held, bring it to rest. Where a beta was met twice, the lower loss stays.
Held-out cells say where each solution stands, by bounds that hold for all points together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry.order import to_device
from torch import Tensor, nn

from isometry_signaling.certificate import CONFIDENCE, Certificate, certify
from isometry_signaling.dataset import Cell, Cells
from isometry_signaling.model import SignalingModel
from isometry_signaling.objective import LossSettings, measure, objective_of
from isometry_signaling.state import GaussianState

AT_ONCE = 8192
N_STEPS = 300
HISTORY = 20
AT_REST = 1e-9  # of the gradient, and of a step's change, in nats


@dataclass(frozen=True)
class PlanePoint:
    """Where the network stands at one beta."""

    beta: float
    certificate: Certificate
    n_evaluations: int
    """Of the loss and its gradient, until it was at rest."""


def follow(
    model: SignalingModel,
    loss: LossSettings,
    train: Cells,
    held_out: Cells,
    betas: Sequence[float],
    *,
    n_steps: int = N_STEPS,
    confidence: float = CONFIDENCE,
) -> list[PlanePoint]:
    """Points by ascending beta; `model`, trained at `loss.beta`, is moved along in float64.

    Args:
        held_out: cells that training never saw; all points are certified on them together.
        n_steps: quasi-Newton steps for each beta, at most.
    """
    model.double().eval()
    batch = to_device(train.all(), next(model.parameters()).device, torch.float64)
    ascending, before = sorted(map(float, betas)), loss.beta
    found: dict[float, _Solution] = {}
    for beta in [beta for beta in ascending if beta > before] + ascending[::-1]:
        model.warm(beta / before)
        solution = settle(model, loss.changed(beta=beta), batch, n_steps)
        if beta not in found or solution.loss < found[beta].loss:
            found[beta] = solution
        before = beta
    points = []
    for beta in ascending:
        model.load_state_dict(found[beta].weights)
        at = certified(model, loss, held_out, len(ascending), confidence)
        points.append(PlanePoint(beta, at, found[beta].n_evaluations))
    return points


class _Solution(NamedTuple):
    loss: float  # nats
    weights: dict[str, Tensor]
    n_evaluations: int


def settle(model: nn.Module, loss: LossSettings, batch: Cell, n_steps: int) -> _Solution:
    """Minimise the mean loss of a batch, and leave the model where it was lowest."""
    objective = objective_of(loss)
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=n_steps,
        history_size=HISTORY,
        tolerance_grad=AT_REST,
        tolerance_change=AT_REST**1.5,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def closure() -> float:
        optimizer.zero_grad()
        mean = objective.loss(model, batch).each.mean()
        mean.backward()
        losses.append(float(mean.detach()))
        return losses[-1]

    before, kept = closure(), _copied(model)
    optimizer.step(closure)
    after = closure()
    optimizer.zero_grad()
    if not after <= before:  # a line search that failed, or a number that is none
        model.load_state_dict(kept)
        return _Solution(before, kept, len(losses))
    return _Solution(after, _copied(model), len(losses))


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def certified(
    model: SignalingModel, loss: LossSettings, cells: Cells, n_points: int = 1, confidence: float = CONFIDENCE
) -> Certificate:
    """Where the model stands, from all of these cells."""
    with torch.no_grad():
        rows = [measure(loss, model, batch) for batch in _batches(model, cells)]
    table = cells.table
    paid, gained = (torch.cat([row[name] for row in rows]).double().numpy() for name in ("rate", "relevance"))
    return certify(
        paid,
        gained,
        np.asarray(table.weight, dtype=float),
        table.stratum,
        controls=_controls(model, cells),
        n_points=n_points,
        confidence=confidence,
    )


def _controls(model: SignalingModel, cells: Cells) -> np.ndarray | None:
    """What is known to have mean 0: the table's own, and the noise's squares less 1, which a rate swings with."""
    found = [] if cells.table.controls is None else [cells.table.controls]
    if isinstance(model.state, GaussianState) and not model.state.is_exact:
        found.append((cells.all().noise.square().mean(1) - 1).numpy())
    return np.concatenate(found, axis=1) if found else None


def _batches(model: nn.Module, cells: Cells) -> Iterator[Cell]:
    first = next(model.parameters())
    for part in zip(*(column.split(AT_ONCE) for column in cells.all()), strict=True):
        yield to_device(Cell(*part), first.device, first.dtype)


def betas_between(first: float, last: float, n: int) -> list[float]:
    """`n` values of beta, ascending, equally spaced in log(beta - 1): dense where directions are taken up."""
    if not 1 < first <= last < np.inf or n < 1:
        raise ValueError(
            f"betas are to go from {first:g} to {last:g} in {n}; expected 1 < first ≤ last < ∞, and at least 1 of them"
        )
    return (1 + np.geomspace(first - 1, last - 1, n)).tolist()


def as_rows(points: Sequence[PlanePoint], relevance_at: Callable[[Any], Any] | None) -> list[dict[str, float]]:
    """A row for each point; `gap`: bits of relevance that the exact curve has more at the certified rate."""
    rows = []
    for point in sorted(points, key=lambda point: point.beta):
        found = point.certificate
        row = {"beta": point.beta, **found._asdict()}
        if relevance_at is not None:
            row["exact_relevance"] = float(relevance_at(found.rate_upper))
            row["gap"] = row["exact_relevance"] - found.relevance_lower
        rows.append(row)
    return rows
