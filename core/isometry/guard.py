"""Guard: what to do when a loss or a gradient is not finite, and a word when a loss is on its way there.

One bad step is skipped and its records are named. Several in a row send the run back to its last good state, past the
records that caused them. When that does not help either, the run ends with the reason. A loss that grows and grows is
named as diverging while it is still finite; nothing is stopped for that.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from isometry.settings import Settings

Verdict = Literal["step", "overflow", "skip", "rollback", "stop"]

WINDOW = 10  # steps whose losses are averaged before they are compared
RISING = 3  # windows in a row that must be higher than the one before
GROWN = 10.0  # times the loss's own scale above its lowest window: no healthy run rises so far


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
        self.growth = Growth()

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

    def state_dict(self) -> dict[str, Any]:
        return {
            "in_a_row": self.in_a_row,
            "n_skipped": self.n_skipped,
            "n_rollbacks": self.n_rollbacks,
            "n_overflows": self.n_overflows,
            "growth": self.growth.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.in_a_row, self.n_skipped = state["in_a_row"], state["n_skipped"]
        self.n_rollbacks, self.n_overflows = state["n_rollbacks"], state["n_overflows"]
        self.growth.load_state_dict(state.get("growth", {}))


class Growth:
    """Notices a training loss that diverges long before it overflows.

    The losses of every `WINDOW` steps are averaged. A run diverges once `RISING` means in a row are each above the one
    before and the last is `GROWN` times the loss's own scale above the lowest. The scale is the larger of the lowest
    mean and of what the run had gained down to it, so that a loss may be negative, or wander where it is almost zero.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.first: float | None = None
        self.lowest = self.last = 0.0
        self.n_rising = 0
        self.is_told = False

    def has_begun(self, loss: float) -> bool:
        """Takes the loss of the next step; True once when a divergence begins, and again if it ends and returns."""
        self.losses.append(loss)
        if len(self.losses) < WINDOW:
            return False
        mean, self.losses = sum(self.losses) / WINDOW, []
        if self.first is None:
            self.first = self.lowest = self.last = mean
        self.n_rising = self.n_rising + 1 if mean > self.last else 0
        self.lowest, self.last = min(self.lowest, mean), mean
        is_high = mean - self.lowest > GROWN * max(abs(self.lowest), self.first - self.lowest)
        is_new = is_high and self.n_rising >= RISING and not self.is_told
        self.is_told = is_high and (self.is_told or is_new)
        return is_new

    def state_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, list) else value for name, value in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, list(value) if isinstance(value, list) else value)
