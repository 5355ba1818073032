"""Listeners: who hears of a run (its event log, the terminal, TensorBoard on request), and its first and last word."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Self

from isometry.display import display
from isometry.events import Broadcast, Ledger, TensorBoard, event
from isometry.fit import Fit
from isometry.fleet import Fleet
from isometry.interrupt import Interrupted
from isometry.runfolder import RunFolder


class Listeners:
    """The listeners of a run: its event log, the terminal, TensorBoard on request; silent on all but the lead."""

    def __init__(self, run: RunFolder, settings: Any, fleet: Fleet, is_quiet: bool) -> None:
        self.is_lead, self.emit = fleet.is_lead, Broadcast()
        self.tensorboard = run.path / "tensorboard" if settings.log.tensorboard else None
        if fleet.is_lead:
            self.ledger = Ledger(run.events)
            self.emit.listeners.append(self.ledger)
            if not is_quiet:
                self.emit.listeners.append(display())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.emit.close()

    def note(self, message: str) -> None:
        self.emit(event("note", message=message))

    def bookmark(self) -> int:
        return self.ledger.sync()

    def begin(self, size: int, resumed_at: int | None) -> None:
        """Keep `size` bytes of the log and drop the lines of steps that will be taken again."""
        if not self.is_lead:
            return
        self.ledger.truncate_to(size)
        if self.tensorboard is not None:
            self.emit.listeners.append(TensorBoard(self.tensorboard, resumed_at=resumed_at))

    def until_end(self, fit: Fit) -> str:
        """Run the training and say how it ended, also when it ends with an error."""
        started = time.monotonic()
        try:
            reason = fit.run()
        except BaseException as error:
            with suppress(OSError):  # a full disk: the error that ends the run is the one to report
                self._stop(fit, started, _reason(error), str(error))
            raise
        self._stop(fit, started, reason, "")
        return reason

    def _stop(self, fit: Fit, started: float, reason: str, message: str) -> None:
        where = {"step": fit.position.step, "epoch": fit.position.epoch}
        self.emit(event("stop", reason=reason, seconds=time.monotonic() - started, message=message, **where))


def _reason(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return error.name
    return "SIGINT" if isinstance(error, KeyboardInterrupt) else "error"
