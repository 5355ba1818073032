"""Evaluation: every record once, scores over all of them, without disturbing the training it interrupts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from isometry.fleet import Fleet
from isometry.lengths import in_batches
from isometry.objective import Objective
from isometry.order import Loader, Records, to_device
from isometry.precision import Precision
from isometry.randomness import preserved_randomness


def evaluate(
    model: nn.Module,
    objective: Objective,
    records: Records,
    collate: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    tokens: int | None = None,
    precision: Precision,
    fleet: Fleet,
    loader: Loader | None = None,
    keep_going: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Scores of a data set and the rows they come from, in the data set's order.

    Args:
        model: on `fleet.device`; left in the mode (training or evaluation) in which it came.
        tokens: padded positions of a batch, in place of `batch_size`, for records that know their length.
        loader: of these records, where one with worker processes is kept for many evaluations.
        keep_going: called between batches; may raise to abandon the evaluation.

    Raises:
        ValueError: for a data set without records.
    """
    if len(records) == 0:
        raise ValueError("there is no record to evaluate")
    loader = loader or Loader(records, collate, is_drawn=False)
    batches = in_batches(records, _own_indices(len(records), fleet), batch_size, tokens)
    indices = np.concatenate(batches)
    pieces: list[dict[str, np.ndarray]] = []
    with evaluating(model, precision):
        for batch in loader.fetch(batches):
            rows = objective.measure(model, to_device(batch, precision.device, precision.parameter_dtype))
            pieces.append({name: row.detach().cpu().to(_storable(row)).numpy() for name, row in rows.items()})
            keep_going()
    own = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    rows = _in_order(fleet.gather((indices, own)))
    return objective.score(rows), rows


@contextmanager
def evaluating(model: nn.Module, precision: Precision) -> Iterator[None]:
    """A context for asking a network: in evaluation mode, without gradients; nothing of it is left behind."""
    was_training = model.training
    model.eval()
    try:
        with preserved_randomness(), torch.no_grad(), precision.autocast():
            yield
    finally:
        model.train(was_training)


def _own_indices(n_records: int, fleet: Fleet) -> np.ndarray:
    """This process's records; every process gets equally many, so the last ones may be met twice."""
    per_process = -(-n_records // fleet.world)
    return (np.arange(per_process) * fleet.world + fleet.rank) % n_records


def _in_order(gathered: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    indices = np.concatenate([index for index, _ in gathered])
    _, first = np.unique(indices, return_index=True)
    return {name: np.concatenate([rows[name] for _, rows in gathered])[first] for name in gathered[0][1]}


def _storable(row: torch.Tensor) -> torch.dtype:
    return torch.float64 if row.is_floating_point() else row.dtype
