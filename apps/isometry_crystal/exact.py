"""Numbers that come from mathematics, not from training: kept in float64, lent in the precision of the signal."""

from __future__ import annotations

import torch
from torch import Tensor


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
