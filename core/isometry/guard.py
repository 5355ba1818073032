"""Guard: what to do when a loss or a gradient is not finite.

One bad step is skipped and its records are named. Several in a row send the run back to its last good state, past the
records that caused them. When that does not help either, the run ends with the reason.
"""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from isometry.settings import Settings

Verdict = Literal["step", "overflow", "skip", "rollback", "stop"]


class GuardSettings(Settings):
    patience: PositiveInt = 5
    """Non-finite steps in a row before the run goes back to its last checkpoint."""
    rollbacks: NonNegativeInt = 3
    """Times a run may go back before it ends with an error."""
    smallest_scale: float = 2.0**-10
    """fp16: overflows are expected and only lower the loss scale; below this one they count as faults."""


class Guard:
    """Counts the faults of a run and says what follows from each."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.in_a_row = self.n_skipped = self.n_rollbacks = self.n_overflows = 0

    def judge(self, *, loss_is_finite: bool, gradient_is_finite: bool, scale: float | None) -> Verdict:
        """What to do with the step just computed.

        Args:
            scale: the loss scale it was computed with; None without loss scaling.
        """
        if loss_is_finite and gradient_is_finite:
            self.in_a_row = 0
            return "step"
        if loss_is_finite and scale is not None and scale >= self.settings.smallest_scale:
            self.n_overflows += 1
            return "overflow"
        self.in_a_row += 1
        self.n_skipped += 1
        if self.in_a_row < self.settings.patience:
            return "skip"
        self.in_a_row = 0
        self.n_rollbacks += 1
        return "rollback" if self.n_rollbacks <= self.settings.rollbacks else "stop"

    def state_dict(self) -> dict[str, int]:
        return {
            "in_a_row": self.in_a_row,
            "n_skipped": self.n_skipped,
            "n_rollbacks": self.n_rollbacks,
            "n_overflows": self.n_overflows,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.in_a_row, self.n_skipped = state["in_a_row"], state["n_skipped"]
        self.n_rollbacks, self.n_overflows = state["n_rollbacks"], state["n_overflows"]
