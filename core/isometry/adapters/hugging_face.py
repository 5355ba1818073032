"""The doctor as a callback of Hugging Face's Trainer: examines before the first step, looks at the health in training.

trainer = transformers.Trainer(model=model, train_dataset=data, callbacks=[DoctorCallback(every=100)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from isometry.adapters.telling import OnFatal, Tell, examined, tell_all, to_stderr
from isometry.doctor.health import Health, HealthRecord, Look, unwrapped
from isometry.order import to_device
from isometry.randomness import preserved_randomness

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError(
        "the callback for Trainer needs Transformers; run: pip install 'isometry[transformers]'"
    ) from error


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that models of Transformers return where the batch has labels."""
    return model(**batch).loss


class DoctorCallback(TrainerCallback):
    """Examines by the first records of the training set; the numbers of each look go into the trainer's log history.

    In a run of several processes the lead looks at its own copy of the network and nothing is examined; a network in
    shards is not looked at. Gradients are read as the optimizer gets them: clipped to `max_grad_norm`.

    Args:
        every: steps between two looks, the first at step 1; 0: none.
        on_fatal: "raise" ends the run with a ValueError at a fatal finding, "warn" tells it.
        examines: whether to examine before the first step (costs some 25 steps).
        tell: is handed each finding as one line.
        log: is handed the summary of each look; `trainer.log` sends it wherever the trainer reports to. None: only the
            trainer's log history gets it.
        loss: `loss(model, batch)`, for trainers with a loss of their own.
    """

    def __init__(
        self,
        every: int = 100,
        on_fatal: OnFatal = "warn",
        *,
        examines: bool = True,
        tell: Tell = to_stderr,
        log: Callable[[dict[str, float]], None] | None = None,
        loss: Callable[[nn.Module, Any], Tensor] = own_loss,
    ) -> None:
        self.every, self.examines = every, examines
        self.on_fatal: OnFatal = on_fatal
        self.tell, self.log, self.loss = tell, log, loss
        self.examination: Any = None
        """What `isometry.doctor.examine` found; None before it, and where it could not."""
        self.last: HealthRecord | None = None
        """What the latest look showed."""
        self._health: Health | None = None
        self._look: Look | None = None
        self._is_untold = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        self._health = Health(model, self.every if state.is_world_process_zero else 0)
        if self.examines and args.world_size == 1 and state.global_step == 0:
            with preserved_randomness():
                batch = _first_batch(kwargs["train_dataloader"], args.train_batch_size)
            network = unwrapped(model)
            batch = to_device(batch, next(network.parameters()).device)
            self.examination = examined(network, batch, self.loss, self.tell, self.on_fatal)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._health is not None and self._health.is_due(state.global_step + 1):
            self._look = self._health.begin()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._look is not None:
            self._look.gradients()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        look, self._look = self._look, None
        if look is None:
            return
        optimizer = kwargs["optimizer"]
        if not getattr(optimizer, "step_was_skipped", False):  # an overflow shows the loss scale, not the network
            look.updates()
            self.last, self._is_untold = look.record(_loss_scale(optimizer)), True
        look.close()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._is_untold and self.last is not None:
            self._is_untold = False
            self._report(self.last, state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._look is not None:
            self._look.close()
        self._health = self._look = None

    def _report(self, record: HealthRecord, state: TrainerState) -> None:
        numbers = {f"health_{name}": x for name, x in record.summary().items()}
        if self.log is not None:
            self.log(numbers)
        else:
            state.log_history.append({**numbers, "epoch": state.epoch, "step": state.global_step})
        tell_all(record.findings, self.tell, self.on_fatal, f"step {state.global_step}")


def _first_batch(loader: torch.utils.data.DataLoader[Any], size: int) -> Any:
    """Made by hand: an iterator of the loader would count as one of its epochs."""
    data: Any = loader.dataset
    items: Iterable[Any] = (data[i] for i in range(min(size, len(data)))) if hasattr(data, "__getitem__") else data
    return loader.collate_fn(list(islice(items, size)))


def _loss_scale(optimizer: Any) -> float | None:
    scaler = getattr(optimizer, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else None
