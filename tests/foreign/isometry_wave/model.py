"""A perceptron of one variable."""

from __future__ import annotations

from isometry.settings import Settings
from torch import Tensor, nn


class WaveModelSettings(Settings):
    width: int = 16
    dropout: float = 0.1
    depth: int = 1
    """Hidden layers after the first; 50 of them are a patient for the doctor."""
    offset: float | None = None
    """Mean of y over the training set; filled by the data."""


class WaveModel(nn.Module):
    def __init__(self, settings: WaveModelSettings) -> None:
        super().__init__()
        self.offset = settings.offset or 0.0
        w = settings.width
        hidden = [part for _ in range(settings.depth) for part in (nn.Linear(w, w), nn.Tanh())]
        self.layers = nn.Sequential(nn.Linear(1, w), nn.Tanh(), nn.Dropout(settings.dropout), *hidden, nn.Linear(w, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, None])[:, 0].float() + self.offset
