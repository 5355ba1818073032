"""Sequence decoders between teacher forcing and free running: scheduled sampling, and the gap between the two.

Trained on the true previous output (teacher forcing), a decoder learns stably but never meets its own errors; run on
its own outputs it must live with them. Scheduled sampling feeds the truth with a probability, the *forcing*, that falls
from 1 to 0. As a curriculum: `forcing_at(level)` in the training set's `draw(index, rng, level)` or in the model's
`set_level`.
Source: Bengio et al. 2015, arXiv:1506.03099.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from isometry.settings import Settings

Step = Callable[[Any, Tensor], tuple[Any, Tensor]]
"""`step(state, previous)` -> the next state and the output, [n, ...] each."""
Feed = Callable[[Tensor], Tensor]


class Start(NamedTuple):
    """Where a decoder begins."""

    state: Any
    previous: Tensor
    """[n, ...] the first input, of the form of one target."""


class SamplingSettings(Settings):
    """How the probability of feeding the truth falls."""

    schedule: Literal["linear", "exponential", "sigmoid", "forced", "free"] = "linear"
    """linear; exponential: at once, then slowly; sigmoid (inverse): late, then at once; forced and free stay at 1 and
    0."""
    sharpness: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """exponential: decades of e from beginning to end; sigmoid: half of them, to either side of the middle."""


def forcing_at(progress: float, settings: SamplingSettings | None = None) -> float:
    """The probability of feeding the truth: 1 at progress 0, 0 at progress 1, never rising.

    Args:
        progress: in [0, 1]: the share of the training that lies behind, or a curriculum's level, which is 1 whenever
            the model is scored, so that scores are those of free running.
    Source: arXiv:1506.03099, section 2.4: k^i and k / (k + exp(i / k)), here over progress, shifted and stretched so
        that they begin at 1 and end at 0.
    """
    of = settings or SamplingSettings()
    if of.schedule in ("forced", "free"):
        return float(of.schedule == "forced")
    x = min(max(progress, 0.0), 1.0)
    if of.schedule == "linear":
        return 1.0 - x

    def fall(at: float) -> float:
        return math.exp(-of.sharpness * at) if of.schedule == "exponential" else _logistic(of.sharpness * (1 - 2 * at))

    return (fall(x) - fall(1.0)) / (fall(0.0) - fall(1.0))


def decode(
    step: Step,
    start: Start,
    targets: Tensor,
    forcing: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    *,
    feed: Feed | None = None,
    through: bool = False,
) -> Tensor:
    """The outputs of a decoder that is fed the truth or its own output, decided for every token of every sequence.

    Output t is computed from `start.previous` (t = 0) or from what is fed after t - 1: target t - 1, or
    `feed(output t - 1)`. A target that is not finite is never fed.

    Gradients flow along the state always. What is fed back counts as given data (as published): the gradient then
    leaves out that earlier weights chose it, so it is no gradient of the free-running loss, and what it reaches varies
    from run to run. With `through` it also flows along outputs fed back, where `feed` is differentiable: exact at
    forcing 0, the better choice for real-valued outputs, and as prone to explode as any long recurrence. The coin
    itself has no gradient.

    Args:
        targets: [n, n_steps, ...]
        forcing: the probability of feeding the truth, or coins already tossed, [n, n_steps] bool: drawn with the
            records, they are the same for any number of processes. Coin t decides what follows output t.
        generator: of the coins; default the global one. At 0 and 1 none is tossed.
        feed: output [n, ...] -> input of the next step; default the output itself. For logits `chosen`, or a draw.
    Returns:
        outputs [n, n_steps, ...]
    """
    feed = feed or _itself
    coins = _coins(forcing, targets, generator)
    state, previous = start
    outputs = []
    for t in range(targets.shape[1]):
        state, output = step(state, previous)
        outputs.append(output)
        if t + 1 < targets.shape[1]:
            own = feed(output) if through else feed(output.detach())
            previous = _mixed(coins[:, t], targets[:, t], own)
    return torch.stack(outputs, dim=1)


def free_run(step: Step, start: Start, n_steps: int, *, feed: Feed | None = None) -> Tensor:
    """[n, n_steps, ...] outputs of a decoder that only hears itself: what prediction does."""
    feed = feed or _itself
    state, previous = start
    outputs = []
    for _ in range(n_steps):
        state, output = step(state, previous)
        outputs.append(output)
        previous = feed(output)
    return torch.stack(outputs, dim=1)


def chosen(logits: Tensor) -> Tensor:
    """The likeliest token: a `feed` for logits [n, n_classes]."""
    return logits.argmax(-1)


class Exposure(NamedTuple):
    """What a decoder loses when nobody corrects it."""

    forced: float
    free: float

    @property
    def gap(self) -> float:
        """Above 0: errors accumulate."""
        return self.free - self.forced


def exposure_gap(
    step: Step, start: Start, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor], *, feed: Feed | None = None
) -> Exposure:
    """The mean loss free running and teacher forced, of the same sequences.

    Args:
        loss: `loss(outputs, targets)` of [n, n_steps, ...] each, a tensor whose mean counts.
    """
    with torch.no_grad():
        forced, free = (decode(step, start, targets, rate, feed=feed) for rate in (1.0, 0.0))
        return Exposure(loss(forced, targets).mean().item(), loss(free, targets).mean().item())


def error_by_step(outputs: Tensor, targets: Tensor) -> Tensor:
    """[n_steps] root mean square error after 1, 2, … steps; steps whose target is not finite do not count."""
    known = targets.isfinite()
    squared = torch.where(known, outputs - targets.nan_to_num(), 0.0) ** 2
    axes = [axis for axis in range(targets.ndim) if axis != 1]
    return (squared.sum(axes) / known.sum(axes)).sqrt()


def _coins(forcing: float | Tensor, targets: Tensor, generator: torch.Generator | None) -> Tensor:
    shape = targets.shape[:2]
    if isinstance(forcing, Tensor):
        if forcing.shape != shape or forcing.dtype != torch.bool:
            raise ValueError(f"coins are {list(forcing.shape)} {forcing.dtype}; expected {list(shape)} bool")
        return forcing
    if not 0 <= forcing <= 1:
        raise ValueError(f"forcing is {forcing}; expected a probability from 0 (free running) to 1 (teacher forcing)")
    if forcing in (0, 1):
        return torch.full(shape, bool(forcing), device=targets.device)
    return torch.rand(shape, generator=generator, device=targets.device) < forcing


def _mixed(is_true: Tensor, target: Tensor, own: Tensor) -> Tensor:
    """Row by row the target, where it is known, or the model's own."""
    is_true = is_true.reshape(-1, *[1] * (target.ndim - 1)) & target.isfinite()
    return torch.where(is_true, target.nan_to_num() if target.is_floating_point() else target, own)


def _itself(output: Tensor) -> Tensor:
    return output


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
