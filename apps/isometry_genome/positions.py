"""A readout that knows where in a window each bin lies: for windows of one length, aligned at what they are about.

Motifs count by their distance from, say, the start of transcription, and a base more or less hardly matters: features
of each bin, few of them, then the largest among neighbours, then a map with weights of its own for every place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isometry.initialise import Projection, initialise
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from isometry_genome.model import ModelSettings


class Positions(nn.Module):
    """[n, n_bins, width] to [n, width], for windows of `length` bases alone.

    Raises ValueError where the settings have no length: it is filled from the data.
    """

    def __init__(self, s: ModelSettings):
        super().__init__()
        if not s.length:
            raise ValueError(
                "the pool 'positions' needs the windows' length (model.length); it is filled from the data"
            )
        self.length, self.n_bins = s.length, -(-s.length // s.bin)
        self.stride = min(s.neighbours, self.n_bins)
        # A remainder widens all cells alike, so that the window's two ends lie alike: the other strand sees the same.
        self.size = self.stride + self.n_bins % self.stride
        self.few = Projection(s.width, s.rank)
        self.own = nn.Linear(self.n_bins // self.stride * s.rank, s.width)
        initialise(self.few, "linear")
        initialise(self.own, "gelu", keep=1 - s.dropout / 2)
        self.before, self.behind = nn.Dropout(s.dropout / 2), nn.Dropout(s.dropout)

    def forward(self, bins: Tensor) -> Tensor:
        features = functional.gelu(self.few(bins))
        cells = functional.max_pool1d(features.transpose(1, 2), self.size, self.stride).transpose(1, 2)
        return self.behind(functional.gelu(self.own(self.before(cells.flatten(1)))))

    def check(self, length: int) -> None:
        """Raises ValueError for windows of another length: its bins would be read as those of other places."""
        if length != self.length:
            raise ValueError(
                f"windows of {length} bases; this model's pool 'positions' was trained on windows of {self.length}, "
                "and has weights for each place of them: choose windows of that length"
            )
