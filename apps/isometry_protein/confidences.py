"""How sure a head is against how often it is right, counted so that calibration errors follow from a data set's rows.

The same numbers as `isometry.calibrate.calibration` gives of all probabilities at once, but protein by protein: they
can be measured batch by batch, of an ensemble too, and resampled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from isometry.calibrate import Temperature, at_temperature
from torch import Tensor

from isometry_protein.dataset import NO_LABEL
from isometry_protein.model import ProteinModel

N_BINS = 15  # of equal width, from 0 to 1
AFTER, BEFORE = "_sure", "_sure_before"  # endings of the rows' names, behind the head's; before its temperature
Told = dict[str, tuple[Tensor, Tensor]]
"""By head: probabilities and labels, as `sure_row` takes them."""


def sure_rows(net: ProteinModel, tell: Callable[[], Told]) -> dict[str, Tensor]:
    """A row of counts for each head with the temperatures and, where the network has its own, without them.

    Args:
        tell: what the network says of a batch, at the temperatures that it has when called.
    """
    rows = {f"{head}{AFTER}": sure_row(*of) for head, of in tell().items()}
    if any(isinstance(module, Temperature) for module in net.temperatures.values()):  # an ensemble's are its members'
        with uncalibrated(net):
            rows |= {f"{head}{BEFORE}": sure_row(*of) for head, of in tell().items()}
    return rows


def uncalibrated(net: ProteinModel) -> AbstractContextManager[None]:
    """A context in which the network's own temperatures are 1."""
    return at_temperature((own for own in net.temperatures.values() if isinstance(own, Temperature)), 1.0)


def sure_row(p: Tensor, labels: Tensor) -> Tensor:
    """[n, N_BINS, 3] residues by the probability of the likeliest class: count, sum of that probability, right ones.

    Args:
        p: [n, longest, n_classes] probabilities, or [n, longest] those of the second of two classes.
        labels: [n, longest], -1 where unknown.
    """
    p = torch.stack([1 - p, p], -1) if p.ndim == labels.ndim else p
    confidence, verdict = p.max(-1)
    is_known = labels != NO_LABEL
    place = ((confidence * N_BINS).ceil().long() - 1).clamp(0, N_BINS - 1)
    columns = (is_known, torch.where(is_known, confidence, 0.0), is_known & (verdict == labels))
    zeros = p.new_zeros(len(p), N_BINS)
    return torch.stack([zeros.scatter_add(1, place, column.to(p)) for column in columns], -1)


def calibration_errors(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Of each head `head/ece`, with its temperature, and where it has one `head/ece_before`, without.

    Mean of |share of right ones - mean probability| over the bins, by count (ECE: Guo et al. 2017, eq. 3).
    """
    errors = {}
    for ending, score in ((AFTER, "ece"), (BEFORE, "ece_before")):
        for name, counts in rows.items():
            if name.endswith(ending):
                n, sure, right = counts.sum(0).T
                if n.sum() > 0:
                    errors[f"{name.removesuffix(ending)}/{score}"] = float(np.abs(right - sure).sum() / n.sum())
    return errors
