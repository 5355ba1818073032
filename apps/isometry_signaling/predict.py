"""Cells in; state, decoded environment, expected expression and bits out, a row for each cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry.order import to_device
from torch import nn

from isometry_signaling.dataset import Cell, Cells
from isometry_signaling.model import SignalingModel, log_posterior
from isometry_signaling.objective import NATS
from isometry_signaling.state import Mixture, evenly_drawn

AT_ONCE = 4096
"""Cells of one batch: bounds the memory, whatever the number of cells."""
N_EVEN, EVEN_AT_ONCE = 1024, 256
"""Values of the state over which a divergence from a mixture is averaged, and cells of which they are held at once."""


class Prediction(NamedTuple):
    """What a model says of n cells."""

    state: np.ndarray
    """[n, n_state] mean state, or probabilities of the kinds"""
    environment: np.ndarray
    """[n, n_environments] probabilities, or [n, n_numbers] expected values in standard deviations"""
    genes: np.ndarray
    """[n, n_genes] expected expression, in the unit of the training data"""
    paid: np.ndarray
    """[n] bits: KL(p(s | l) | m(s)), what the state tells of what this cell met beyond what any cell's state tells"""
    gained: np.ndarray
    """[n] bits that the decoded environment, not calibrated, differs from the prior by; NaN for one of numbers"""


def predictions(model: nn.Module, cells: Cells) -> Prediction:
    """Of all cells, in order; the model stays where it is."""
    assert isinstance(model, SignalingModel)
    model.eval()
    batches = [_of_batch(model, batch) for batch in _batches(model, cells)]
    return Prediction(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def predict(model: nn.Module, settings: Any, cells: Cells, _out: Path | None) -> list[dict[str, Any]]:
    """A row for each cell, by its number in the table read."""
    found, s = predictions(model, cells), settings.model
    state = "p_state" if s.state == "categorical" else "state"
    columns: dict[str, Any] = {f"{state}_{i + 1}": column for i, column in enumerate(found.state.T)}
    if s.environment == "classes":
        best = found.environment.argmax(1)
        columns[cells.names.environment] = np.array(s.labels, dtype=object)[best]
        columns |= {f"p_{label}": p for label, p in zip(s.labels, found.environment.T, strict=True)}
        columns["gained_bits"] = found.gained
    else:
        columns |= {f"environment_{i + 1}": column for i, column in enumerate(found.environment.T)}
    columns |= dict(zip(s.genes, found.genes.T, strict=True))
    columns["paid_bits"] = found.paid
    names, values = list(columns), [column.tolist() for column in columns.values()]
    numbers = range(1, len(cells) + 1) if cells.table.numbers is None else cells.table.numbers.tolist()
    return [
        {"cell": number} | dict(zip(names, row, strict=True))
        for number, row in zip(numbers, zip(*values, strict=True), strict=True)
    ]


def _batches(model: nn.Module, cells: Cells) -> list[Cell]:
    first = next(model.parameters())
    parts = zip(*(column.split(AT_ONCE) for column in cells.columns), strict=True)
    return [to_device(Cell(*part), first.device, first.dtype) for part in parts]


def _of_batch(model: SignalingModel, batch: Cell) -> Prediction:
    s = model.settings
    with torch.no_grad():
        kept = model(batch.ligand, batch.noise, batch.environment, batch.genes)
        gained = torch.full_like(kept.state.rate, torch.nan)
        if s.environment == "classes":
            environment, log_p = model.told(kept), log_posterior(kept)
            gained = (log_p.exp() * (log_p - log_p.new_tensor(s.prior).log())).sum(1) / NATS
        else:
            environment = (kept.state.shares[..., None] * kept.environment.told).sum(1)
        genes = kept.genes
        if s.genes:
            genes = genes * genes.new_tensor(s.gene_scales) + genes.new_tensor(s.gene_means)
        found = (kept.state.told, environment, genes, _paid(model, batch, kept.state.rate) / NATS, gained)
    return Prediction(*(values.cpu().double().numpy() for values in found))


def _paid(model: SignalingModel, batch: Cell, rate: torch.Tensor) -> torch.Tensor:
    """[n] nats: the divergence itself, where the rate of the few values drawn in training is only one on average."""
    if not isinstance(getattr(model.state, "marginal", None), Mixture):
        return rate
    even = evenly_drawn(N_EVEN, model.settings.n_state).to(rate)
    parts = batch.ligand.split(EVEN_AT_ONCE)
    return torch.cat([model.keep(part, even.expand(len(part), -1, -1)).rate for part in parts])
