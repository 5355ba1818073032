"""The subject of an examination: a network, one batch and its loss, and what can be seen of them from outside.

with Subject.of(model, batch, loss) as subject:
    seen = subject.run()
    seen.outputs["encoder.0"]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isometry.doctor.leaves import Path, first_float, float_leaves, replaced
from isometry.doctor.still import held_still, norm_momenta, norms_follow_the_batch, without_denormals
from isometry.randomness import seed_everything

MOST_CALLS = 64  # of one layer; a cell called for every step of a long sequence is watched that often

ScalarLoss = Callable[[nn.Module, Any], Tensor]


@dataclass(frozen=True)
class Layer:
    """One call of one module: a module with parameters of its own, or without parts (an activation, a norm)."""

    name: str
    """Qualified name; further calls of the same module are told as "name@2"."""
    module: nn.Module
    call: int = 1
    is_container: bool = False
    """Whether layers with weights were seen inside: a block with a parameter of its own, a gate for example."""

    @property
    def kind(self) -> str:
        return type(self.module).__name__

    @property
    def has_weight(self) -> bool:
        """Whether the layer mixes its inputs by a matrix of its own (norms, biases and containers do not).

        Layers between irreducible representations keep theirs as one flat vector.
        """
        own = [] if self.is_container else list(self.module.parameters(recurse=False))
        return any(p.ndim >= 2 for p in own) or (hasattr(self.module, "irreps_out") and any(p.numel() for p in own))


@dataclass
class Seen:
    """What one pass showed; tensors are part of the graph unless gradients were off."""

    loss: Tensor
    inputs: dict[str, Tensor] = field(default_factory=dict)
    """By layer: the first real-valued tensor it was given."""
    outputs: dict[str, Tensor] = field(default_factory=dict)
    """By layer, in the order of execution: the first real-valued tensor it handed back."""


class Subject:
    """Lives inside `Subject.of(...)`, which leaves the network bit for bit as it was.

    Two moods: *live* is how the network trains (dropout drawn, norms by the batch), always with the same random
    numbers; *quiet* is evaluation mode with the norms' statistics frozen to this batch: deterministic, each record on
    its own, and differentiable in every way.
    """

    def __init__(self, model: nn.Module, batch: Any, loss: ScalarLoss, seed: int) -> None:
        self.model, self.batch, self.loss, self.seed = model, batch, loss, seed
        self.leaves = float_leaves(batch)
        self.layers: list[Layer] = []
        """In the order of execution, each call of a module by itself."""
        self.entry: list[Path] = []
        """Real-valued leaves of the batch that act on the last layer (labels do not)."""
        self.gates: list[str] = []
        """Where nothing real-valued enters: the layers that make the first real numbers (embeddings)."""
        self.first_loss = float("nan")
        """Of the network as it is, in the live mood."""
        self.step_seconds = 0.0
        """What one training step costs: forward, backward, and an update by AdamW."""

    @classmethod
    @contextmanager
    def of(cls, model: nn.Module, batch: Any, loss: ScalarLoss, seed: int = 0) -> Iterator[Subject]:
        """Raises ValueError if the loss is no finite scalar or depends on no parameter."""
        momenta = norm_momenta(model)
        subject = cls(model, batch, loss, seed)
        with held_still(model), without_denormals(), torch.enable_grad():
            try:
                subject._look_around()
                yield subject
            finally:
                for module, momentum in momenta:
                    module.momentum = momentum

    def live(self) -> None:
        self.model.train()

    def quiet(self) -> None:
        self.model.eval()

    def run(
        self, leaves: dict[Path, Tensor] | None = None, offsets: dict[str, Tensor] | None = None, *, watch: bool = True
    ) -> Seen:
        """One forward pass in the present mood, with the same random numbers every time.

        Args:
            leaves: of the batch, to put in place of its own.
            offsets: by layer: what is added to its (first real-valued) output.
            watch: note what goes in and out of the layers.
        """
        seen = Seen(torch.zeros(()))
        with self._hooked(seen, offsets or {}, watch):
            seed_everything(self.seed)
            seen.loss = self.loss(self.model, replaced(self.batch, leaves) if leaves else self.batch)
        return seen

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _take_steps(self) -> None:
        """Two training steps of a copy of the weights: the first gives the loss and the norms' statistics, and makes
        AdamW's state; the second gives the time."""
        parameters = [parameter for _, parameter in self.parameters()]
        copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
        optimizer = torch.optim.AdamW(copies, lr=0.0) if copies else None
        started = 0.0
        for step in range(2):
            started = now(self.model)
            loss = self.run(watch=False).loss
            if step == 0:
                _check_loss(loss)
                self.first_loss = float(loss.detach())
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            for each, gradient in zip(copies, found, strict=True):
                each.grad = gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient
            if optimizer is not None:
                optimizer.step()
        self.step_seconds = now(self.model) - started

    # Finding one's way

    def _look_around(self) -> None:
        norms_follow_the_batch(self.model)
        self.live()
        self._take_steps()
        self.quiet()
        self._find_layers()
        self._find_entry()

    def _find_layers(self) -> None:
        order: list[Layer] = []
        self.layers = [Layer(name, module) for name, module in self.model.named_modules() if _is_layer(module)]
        names = {id(layer.module): layer.name for layer in self.layers}
        seen = self.run()
        modules = {name: self.model.get_submodule(name) for name in names.values()}
        ran = dict.fromkeys(key.partition("@")[0] for key in seen.outputs)
        weighted = [name for name in ran if Layer(name, modules[name]).has_weight]
        for key in seen.outputs:
            name, _, call = key.partition("@")
            inside = f"{name}." if name else ""
            has_layers = any(other.startswith(inside) and other != name for other in weighted)
            order.append(Layer(key, modules[name], int(call or 1), has_layers))
        self.layers = order

    def _find_entry(self) -> None:
        """Leaves that reach the last layer; where there are none, the layers whose output depends on no layer's."""
        leaves = {path: leaf.detach().clone().requires_grad_() for path, leaf in self.leaves.items()}
        seen = self.run({path: leaf * 1 for path, leaf in leaves.items()})
        reached = [output for output in seen.outputs.values() if output.requires_grad]
        if leaves and reached:
            total = torch.stack([output.abs().double().sum() for output in reached[-1:]]).sum()
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            self.entry = [path for path, gradient in zip(leaves, found, strict=True) if gradient is not None]
        if not self.entry:
            self.gates = [name for name in seen.outputs if name not in seen.inputs][:1] or list(seen.outputs)[:1]

    @contextmanager
    def _hooked(self, seen: Seen, offsets: dict[str, Tensor], watch: bool) -> Iterator[None]:
        calls: dict[str, int] = {}

        def hook(name: str) -> Callable[..., Any]:
            def note(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
                calls[name] = calls.get(name, 0) + 1
                key = name if calls[name] == 1 else f"{name}@{calls[name]}"
                if key in offsets:
                    output = _with_offset(output, offsets[key])
                if watch and calls[name] <= MOST_CALLS:
                    _note(seen.inputs, key, (args, kwargs))
                    _note(seen.outputs, key, output)
                return output

            return note

        unique = {layer.name.partition("@")[0]: layer.module for layer in self.layers}
        handles = []
        if watch or offsets:
            handles = [m.register_forward_hook(hook(n), with_kwargs=True) for n, m in unique.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def now(model: nn.Module) -> float:
    """Seconds of a clock that never jumps, once the device of the model has done what it was told."""
    device = next((parameter.device for parameter in model.parameters()), None)
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _is_layer(module: nn.Module) -> bool:
    """Generated code inside a layer (e3nn's contractions) is no layer of its own; compiled code lets nobody look in."""
    has_own = any(True for _ in module.parameters(recurse=False))
    has_parts = any(True for _ in module.children())
    if isinstance(module, torch.jit.ScriptModule):
        return False
    return has_own or not (has_parts or isinstance(module, torch.fx.GraphModule))


def _note(notes: dict[str, Tensor], key: str, value: Any) -> None:
    tensor = first_float(value)
    if tensor is not None and tensor.numel():
        notes[key] = tensor


def _with_offset(output: Any, offset: Tensor) -> Any:
    path, first = next(iter(float_leaves(output).items()))
    return replaced(output, {path: first + offset.to(first.dtype)})


def _check_loss(loss: Tensor) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss(model, batch) gave {found}; expected one number (a tensor with one element)")
    if not loss.requires_grad:
        if torch.is_inference_mode_enabled():
            raise ValueError("gradients are switched off by torch.inference_mode(); examine outside of it")
        raise ValueError("the loss depends on no trainable parameter; a network without any cannot be examined")


def rms(tensor: Tensor) -> float:
    """Root mean square, in float64."""
    return float(tensor.detach().abs().double().square().mean().sqrt())
