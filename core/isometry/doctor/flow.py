"""How the layers of a network are joined, read off the tensors of one pass: what enters a layer, whence does it come?

The module tree does not say it and a traced graph is not always to be had; but what enters a layer is mostly the very
tensor that another handed on, or a known function of it, or the sum of two. What is none of these stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from isometry.doctor.leaves import float_leaves
from isometry.doctor.records import coprime_step
from isometry.doctor.subject import Layer, Seen

Kind = Literal["layer", "function", "sum", "view", "data", "unknown"]

FUNCTIONS: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "leaky_relu": nn.LeakyReLU(),
    "elu": nn.ELU(),
    "selu": nn.SELU(),
    "softplus": nn.Softplus(),
    "mish": nn.Mish(),
}
"""Looked for between two layers."""

NUMBERS_COMPARED = 1024
FEWEST_NUMBERS = 8  # below, a sum with a free factor fits anything
SAME = 3e-6  # relative to the largest number compared
RECENT, OLDER = 4, 24  # tensors back, for the later and the earlier part of a sum


@dataclass(frozen=True)
class Step:
    """How one tensor came about; tensors are known by their place in `Flow.tensors`."""

    kind: Kind
    made: int
    of: tuple[int, ...] = ()
    name: str = ""
    """Of the layer, or, for others than layers, of the layer that the tensor enters."""
    module: nn.Module | None = None
    """The layer, or the function."""
    scale: float = 1.0
    """s in a sum a + s b."""


@dataclass(frozen=True)
class Flow:
    steps: list[Step]
    """In the order of execution: each after those that made what it is made of."""
    tensors: list[Tensor]
    inputs: dict[str, int]
    outputs: dict[str, int]


def flow_of(layers: Sequence[Layer], seen: Seen, batch: Any) -> Flow:
    """How what `seen` shows hangs together."""
    builder = _Builder(batch)
    with torch.no_grad():
        for layer in layers:
            if layer.name in seen.outputs:
                builder.add(layer, seen.inputs, seen.outputs[layer.name])
    return builder.flow


class _Builder:
    def __init__(self, batch: Any) -> None:
        self.flow = Flow([], [], {}, {})
        self.places: dict[int, int] = {}
        self.samples: dict[int, Tensor] = {}
        self.data = {leaf.data_ptr() for leaf in float_leaves(batch).values()}

    def add(self, layer: Layer, inputs: Mapping[str, Tensor], output: Tensor) -> None:
        entered = inputs.get(layer.name)
        of: tuple[int, ...] = ()
        if entered is not None:
            of = (self._place(entered, layer.name),)
            self.flow.inputs[layer.name] = of[0]
        if id(output) not in self.places:
            step = self._origin(output, layer.name) if layer.is_container else None
            opaque = Step("layer", 0, of, layer.name, layer.module)
            self._note(output, opaque if step is None or step.kind == "unknown" else step)
        self.flow.outputs[layer.name] = self.places[id(output)]

    def _place(self, x: Tensor, enters: str) -> int:
        if id(x) not in self.places:
            self._note(x, self._origin(x, enters))
        return self.places[id(x)]

    def _note(self, x: Tensor, step: Step) -> None:
        place = len(self.flow.tensors)
        self.places[id(x)] = place
        self.flow.tensors.append(x)
        self.flow.steps.append(Step(step.kind, place, step.of, step.name, step.module, step.scale))

    def _origin(self, x: Tensor, enters: str) -> Step:
        if x.data_ptr() in self.data:
            return Step("data", 0, name=enters)
        places = range(len(self.flow.tensors) - 1, -1, -1)
        for place in places:
            other = self.flow.tensors[place]
            if other.data_ptr() == x.data_ptr() and other.numel() == x.numel():
                return Step("view", 0, (place,), enters)
        found = self._as_function(x, places[:RECENT], enters) or self._as_sum(x, places, enters)
        return found or Step("unknown", 0, name=enters)

    def _as_function(self, x: Tensor, places: range, enters: str) -> Step | None:
        result = _sample(x)
        for place in places:
            if self.flow.tensors[place].shape != x.shape:
                continue
            before = self._sample_at(place)
            for function in FUNCTIONS.values():
                if _same(function(before), result):
                    return Step("function", 0, (place,), enters, function)
        return None

    def _as_sum(self, x: Tensor, places: range, enters: str) -> Step | None:
        """a + s b, with b or f(b) made lately: a residual block, its branch scaled by whatever number."""
        result = _sample(x)
        alike = [place for place in places[:OLDER] if self.flow.tensors[place].shape == x.shape]
        if result.numel() < FEWEST_NUMBERS:
            return None
        for late in alike[:RECENT]:
            found = self._rest_of(result, self._sample_at(late), [place for place in alike if place != late])
            if found is not None:
                return Step("sum", 0, (found[0], late), enters, scale=found[1])
        for late in alike[:RECENT]:
            for function in FUNCTIONS.values():
                found = self._rest_of(result, function(self._sample_at(late)), alike[:RECENT])
                if found is not None:
                    self._note(function(self.flow.tensors[late]), Step("function", 0, (late,), enters, function))
                    return Step("sum", 0, (found[0], len(self.flow.tensors) - 1), enters, scale=found[1])
        return None

    def _rest_of(self, result: Tensor, branch: Tensor, places: Sequence[int]) -> tuple[int, float] | None:
        """Where a lies and what s is, if the result is a + s · branch."""
        size = float(branch.dot(branch))
        for place in places:
            early = self._sample_at(place)
            scale = float((result - early).dot(branch)) / size if size > 0 else 0.0
            if _same(early + scale * branch, result):
                return place, scale
        return None

    def _sample_at(self, place: int) -> Tensor:
        if place not in self.samples:
            self.samples[place] = _sample(self.flow.tensors[place])
        return self.samples[place]


def _sample(x: Tensor) -> Tensor:
    """Some numbers of it, in float64; the same places of tensors of one shape."""
    flat = torch.view_as_real(x).reshape(-1) if x.is_complex() else x.reshape(-1)
    return flat[:: coprime_step(flat.numel(), NUMBERS_COMPARED)].double() if flat.numel() else flat.double()


def _same(one: Tensor, other: Tensor) -> bool:
    largest = float(other.abs().max()) if other.numel() else 0.0
    return float((one - other).abs().max()) <= SAME * largest if other.numel() else False
