"""A symmetry: how a network's outputs must move when its input is moved, whatever its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Symmetry:
    """Declared by an app, measured by the doctor."""

    name: str
    """What is done to the input, such as "rotation"."""
    move: Callable[[Any], Any]
    """`move(batch)`: the moved batch; the given one stays as it is."""
    outputs: Callable[[nn.Module, Any], Outputs]
    """`outputs(model, batch)`: what the network says, by name."""
    expected: Callable[[Outputs, Any], Outputs] = lambda outputs, batch: outputs
    """`expected(outputs, batch)`: what the moved batch must give, told from what the batch gave."""
    tolerance: float = 1e-4
    """Largest allowed deviation, relative to the root mean square of the output, in fp32."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """By output, in its unit: a size that counts as small. Deviations are relative to it where the output itself is
    smaller: of an output that must be 0, rounding is all there is. An output without one is compared with itself."""


def violation(symmetry: Symmetry, model: nn.Module, batch: Any) -> dict[str, float]:
    """By output: the largest deviation from what the symmetry demands, relative to the output's root mean square (or
    to its floor, if that is larger).

    Raises:
        ValueError: the moved outputs have another shape than expected.
    """
    expected = symmetry.expected(symmetry.outputs(model, batch), batch)
    found = symmetry.outputs(model, symmetry.move(batch))
    return {name: _deviation(symmetry, name, expected[name], found[name]) for name in expected}


def _deviation(symmetry: Symmetry, name: str, expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        shapes = f"{tuple(found.shape)}, expected {tuple(expected.shape)}"
        raise ValueError(f"symmetry {symmetry.name}: output '{name}' of the moved batch has shape {shapes}")
    expected, found = expected.detach().double(), found.detach().double()
    size = expected.square().mean().sqrt()
    deviation = (found - expected).abs().max()
    return float(deviation / size.clamp_min(max(symmetry.floors.get(name, 0.0), torch.finfo(torch.float32).tiny)))
