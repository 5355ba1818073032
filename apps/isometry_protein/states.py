"""Secondary structure: eight states, of which helix, strand and coil are sums.

Labels of three classes train the same logits as labels of eight. p(state) = p(class) · p(state | class): calibrated
apart, the two keep the sums right, and data with three classes alone can calibrate the first.
"""

from __future__ import annotations

import torch
from isometry_data.protein_records import EIGHT_STATES, THREE_OF_EIGHT, THREE_STATES
from torch import Tensor, nn

N_STATES, N_CLASSES = len(EIGHT_STATES), len(THREE_STATES)


def groups_of(mapping: str) -> Tensor:
    """[8] the class (index into HEC) of each state of GHIBESTC."""
    helix, strand = THREE_OF_EIGHT[mapping]
    return torch.tensor([0 if state in helix else 1 if state in strand else 2 for state in EIGHT_STATES])


def class_logits(logits: Tensor, groups: Tensor) -> Tensor:
    """[..., 8] to [..., 3]: the logarithm of the sum of exponentials over each class's states."""
    is_in_class = groups == torch.arange(N_CLASSES, device=groups.device)[:, None]
    return logits[..., None, :].masked_fill(~is_in_class, -torch.inf).logsumexp(-1)


def logits_within(logits: Tensor, groups: Tensor, labels: Tensor) -> Tensor:
    """[n, 8] with -inf for the states of other classes than that of the labels [n]; of -1, as it is."""
    is_other = (groups != groups[labels.clamp(min=0)][:, None]) & (labels >= 0)[:, None]
    return logits.masked_fill(is_other, -torch.inf)


def state_logs(logits: Tensor, groups: Tensor, classes: nn.Module, states: nn.Module) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the three classes [..., 3] and of the eight states [..., 8], whose sums agree.

    Args:
        classes, states: the temperatures of p(class) and of p(state | class).
    """
    of_classes = classes(class_logits(logits, groups)).log_softmax(-1)
    cooled = states(logits)
    given_class = cooled - class_logits(cooled, groups)[..., groups]
    return of_classes, of_classes[..., groups] + given_class
