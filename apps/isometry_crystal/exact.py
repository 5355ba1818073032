"""What must not be rounded: constants kept in float64, and the regions that stay out of autocast."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager:
    """A region without autocast: geometry, sums over neighbours and energies keep the precision of the parameters."""
    return torch.autocast(x.device.type, enabled=False)


class Exact:
    """A constant that no cast of the model can round: `model.float().double()` still works with all its digits."""

    def __init__(self, exact: Tensor):
        self.exact = exact.double()
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The constant in the precision and on the device of x."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            self._copies[key] = self.exact.to(device=x.device, dtype=x.dtype)
        return self._copies[key]
