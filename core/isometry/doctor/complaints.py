"""What is wrong with a network in training, told from the numbers of one look at it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from isometry.doctor.findings import Finding

LARGEST_DEAD = 0.5  # share of a layer's units
LARGEST_UPDATE, SMALLEST_UPDATE = 0.1, 1e-7  # of a layer's weights in one step; fp32 resolves 6e-8
LOWEST_SCALE = 1.0  # of the loss: at 1 nothing is lifted any more

AT_ONCE = "not finite"
"""The one finding that need not hold at two looks in a row."""


def complaints(
    layers: Mapping[str, Mapping[str, float]], matrices: frozenset[str], scale: float | None
) -> list[Finding]:
    """The findings of one look.

    Args:
        layers: by name, in the order of execution: the numbers of `isometry.doctor.health`.
        matrices: the layers that have a matrix; biases and norms alone may stand still or leap.
        scale: of the loss; None without one.
    """
    found = [*_not_finite(layers), *_scale(scale)]
    for (name, seen), after in zip(layers.items(), [*layers.values(), {}][1:], strict=True):
        is_told_below = "gradient" not in after and after.get("dead", 0.0) > LARGEST_DEAD  # by its own activation
        found += _dead(name, seen.get("dead", 0.0)) if not is_told_below else ()
        if name in matrices and "gradient" in seen:
            found += _gradient(name, seen["gradient"])
            found += _update(name, seen.get("update"), seen["gradient"])
    return found


def _not_finite(layers: Mapping[str, Mapping[str, float]]) -> Iterator[Finding]:
    """Where they begin: forward at the first layer whose outputs are not finite, else backward at the last."""
    remedy = "Look at the batch's values and labels, lower the learning rate, or clip the gradient."
    forward = [name for name, seen in layers.items() if seen.get("not_finite", 0.0) > 0]
    backward = [name for name, seen in layers.items() if not math.isfinite(seen.get("gradient", 0.0))]
    if forward:
        share = layers[forward[0]]["not_finite"]
        reason = f"{share:.2g} of this layer's outputs are NaN or infinite, the first layer with any."
        yield Finding("fatal", AT_ONCE, forward[0], share, reason, remedy)
    elif backward:
        size = layers[backward[-1]]["gradient"]
        reason = f"The gradient of this layer is {size}, though all outputs are finite; it comes from the loss side."
        yield Finding("fatal", AT_ONCE, backward[-1], size, reason, remedy)


def _scale(scale: float | None) -> Iterator[Finding]:
    if scale is not None and scale <= LOWEST_SCALE:
        reason = f"The loss scale fell to {scale:g}: gradients overflow fp16 even without being lifted."
        remedy = "Use bf16 or fp32, or lower the learning rate or the size of the loss."
        yield Finding("warning", "loss scale at its floor", "network", scale, reason, remedy)


def _dead(name: str, share: float) -> Iterator[Finding]:
    if share > LARGEST_DEAD:
        reason = f"{share:.0%} of this layer's units gave only 0, or passed no gradient, for every record lately seen."
        remedy = "Lower the learning rate, or take an activation without a flat side (leaky ReLU, GELU, SiLU)."
        yield Finding("warning", "dead units", name, share, reason, remedy)


def _gradient(name: str, gradient: float) -> Iterator[Finding]:
    if gradient == 0:
        reason = "The gradient of all weights of this layer is exactly 0: it does not learn."
        remedy = "Look for dead or saturated layers above it, a detached tensor, or gradients that underflow."
        yield Finding("warning", "zero gradient", name, 0.0, reason, remedy)


def _update(name: str, update: float | None, gradient: float) -> Iterator[Finding]:
    if update is not None and update > LARGEST_UPDATE:
        reason = f"One step changes this layer's weights by {update:.2g} of their size (1e-3 is usual)."
        yield Finding("warning", "leaping weights", name, update, reason, "Lower the learning rate or warm it up.")
    if update is not None and update < SMALLEST_UPDATE and gradient != 0:
        reason = f"One step changes this layer's weights by {update:.2g} of their size: below what fp32 resolves."
        remedy = "Raise the learning rate, look whether the optimizer holds these weights, or initialise them smaller."
        yield Finding("warning", "standing weights", name, update, reason, remedy)
