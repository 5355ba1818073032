"""A perceptron of two variables with a calibrated head."""

from __future__ import annotations

from typing import Literal

from isometry.calibrate import Temperature
from isometry.settings import Settings
from torch import Tensor, nn


class MoonsModelSettings(Settings):
    width: int = 32
    columns: Literal[1, 2] = 2
    """Logits of the head: one for each class, or one for the second class."""
    has_temperature: bool = True


class MoonsModel(nn.Module):
    def __init__(self, settings: MoonsModelSettings) -> None:
        super().__init__()
        w = settings.width
        self.layers = nn.Sequential(nn.Linear(2, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU())
        self.head = nn.ModuleDict({"linear": nn.Linear(w, settings.columns)})
        if settings.has_temperature:
            self.head["moon"] = Temperature()

    def logits(self, xy: Tensor) -> Tensor:
        """[n, columns], before the temperature."""
        return self.head["linear"](self.layers(xy)).float()

    def forward(self, xy: Tensor) -> Tensor:
        """[n, 2] logits of the two classes."""
        z = self.logits(xy)
        z = self.head["moon"](z) if "moon" in self.head else z
        return z if z.shape[1] == 2 else nn.functional.pad(z, (1, 0))
