"""The start of a run in fp16: its first loss scale, measured on its first batch instead of guessed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from isometry.first import at_first_level, first_of, mean_loss
from isometry.precision import USUAL_SCALE

if TYPE_CHECKING:
    from isometry.doctor.half import Half
    from isometry.fit import Fit


def choose_scale(fit: Fit) -> None:
    """Start at the loss scale that the doctor recommends for the first batch; only where the settings leave it open.

    The lead process measures and tells the others: all must scale alike.
    """
    if not fit.precision.has_scale or fit.task.precision.scale != "auto":
        return
    scale, why = fit.fleet.broadcast(_recommended(_forecast(fit)) if fit.fleet.is_lead else None)
    fit.precision.start_at(scale)
    message = f"loss scale starts at 2^{math.log2(scale):.0f}: {why}"
    fit.narrator.tell("note", fit.position, message=message)


def _forecast(fit: Fit) -> Half:
    from isometry.doctor.half import Half, measure_half
    from isometry.doctor.subject import Subject

    first, mean = first_of(fit.task, fit.fleet.world), mean_loss(fit.task.objective)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        """As a step scales it: a micro-batch's share of the mean over the global batch."""
        return mean(model, batch) * first.weight

    try:
        with at_first_level(fit.task), Subject.of(fit.model, first.batch, loss, seed=fit.task.seed) as subject:
            return measure_half(subject)
    except ValueError as error:
        return Half(reason=str(error))


def _recommended(half: Half) -> tuple[float, str]:
    if half.scale is None:
        return USUAL_SCALE, f"a guess, because of the first batch nothing could be foreseen ({half.reason})"
    flushed = (
        f"{_percent(half, 'unscaled')} of the weight gradients flush to zero without, {_percent(half, 'scaled')} with"
    )
    if half.start is None:
        return half.scale, f"forecast for the first batch: {half.reason}; bf16 has no such limit"
    assert half.need is not None
    assert half.allow is not None
    window = f"from 2^{math.log2(half.need):.0f} to 2^{math.log2(half.allow):.0f}"
    return half.start, f"forecast for the first batch: usable {window}; {flushed}"


def _percent(half: Half, at: str) -> str:
    return f"{100 * half.weights[at].flushed:.2g} %"
