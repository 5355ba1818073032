"""The doctor as a Lightning callback: examines the network before the first step, looks at its health while it trains.

trainer = lightning.pytorch.Trainer(callbacks=[DoctorCallback(every=100, on_fatal="raise")])
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from isometry.adapters.telling import OnFatal, Tell, examined, tell_all, to_stderr
from isometry.doctor.health import Health, HealthRecord, Look

try:
    from lightning.pytorch import Callback, LightningModule, Trainer  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("the Lightning callback needs Lightning; run: pip install 'isometry[lightning]'") from error


class DoctorCallback(Callback):
    """Examines by `training_step` and the first batch; sends the numbers of each look to the trainer's loggers.

    In a run of several processes the lead looks at its own copy of the network and nothing is examined; a network in
    shards is not looked at. Gradients are read unscaled and before Lightning clips them.

    Args:
        every: steps between two looks, the first at step 1; 0: none.
        on_fatal: "raise" ends the run with a ValueError at a fatal finding, "warn" tells it.
        examines: whether to examine before the first step (costs some 25 steps).
        tell: is handed each finding as one line.
    """

    def __init__(
        self, every: int = 100, on_fatal: OnFatal = "warn", *, examines: bool = True, tell: Tell = to_stderr
    ) -> None:
        self.every, self.examines, self.tell = every, examines, tell
        self.on_fatal: OnFatal = on_fatal
        self.examination: Any = None
        """What `isometry.doctor.examine` found; None before it, and where it could not."""
        self.last: HealthRecord | None = None
        """What the latest look showed."""
        self._health: Health | None = None
        self._look: Look | None = None
        self._has_gradients = False
        self._saved: dict[str, Any] | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._health is None:
            self._begin(trainer, pl_module, batch)
        if self._look is None and self._health is not None and self._health.is_due(trainer.global_step + 1):
            self._look, self._has_gradients = self._health.begin(), False

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if self._look is not None:
            parameters = {parameter for group in optimizer.param_groups for parameter in group["params"]}
            self._look.gradients(only=parameters)
            self._has_gradients = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._look is None or not self._has_gradients:
            return
        look, self._look = self._look, None
        look.updates()
        self.last = look.record(_loss_scale(trainer))
        look.close()
        for logger in trainer.loggers:
            numbers = {f"health/{name}": x for name, x in self.last.scalars().items()}
            logger.log_metrics(numbers, step=trainer.global_step)
        tell_all(self.last.findings, self.tell, self.on_fatal, f"step {trainer.global_step}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave()

    def state_dict(self) -> dict[str, Any]:
        return {} if self._health is None else {"health": self._health.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict.get("health")

    def _begin(self, trainer: Trainer, pl_module: LightningModule, batch: Any) -> None:
        self._health = Health(pl_module, self.every if trainer.is_global_zero else 0)
        self._health.load_state_dict(self._saved)
        if self.examines and trainer.world_size == 1 and trainer.global_step == 0:
            with _silent(pl_module):
                self.examination = examined(pl_module, batch, _training_loss, self.tell, self.on_fatal)

    def _leave(self) -> None:
        """Another `fit` begins anew, with whatever network it is given."""
        if self._look is not None:
            self._look.close()
        self._health = self._look = None


def _training_loss(module: LightningModule, batch: Any) -> Tensor:
    takes_index = len(inspect.signature(module.training_step).parameters) > 1
    output: Any = module.training_step(batch, 0) if takes_index else module.training_step(batch)
    return output["loss"] if isinstance(output, Mapping) else output


@contextmanager
def _silent(module: LightningModule) -> Iterator[None]:
    """What the examined step logs belongs to no step of the run, nor do the metrics that it feeds."""
    vars(module)["log"] = vars(module)["log_dict"] = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        del vars(module)["log"], vars(module)["log_dict"]
        for metric in module.modules():
            _reset(metric)


def _reset(metric: nn.Module) -> None:
    if hasattr(metric, "metric_state") and callable(getattr(metric, "reset", None)):  # torchmetrics, before step 1
        metric.reset()  # pyright: ignore[reportCallIssue]


def _loss_scale(trainer: Trainer) -> float | None:
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else None
