"""An exponential moving average of the weights: smoother than the last step's, usually better on unseen data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Averaged copies of a model's parameters and buffers.

    After update t = 1, 2, … the average moves by 1 - min(decay, (1 + t) / (10 + t)) towards the weights, so that the
    random start is soon forgotten. Buffers (running statistics, counters) are copied, not averaged. Tied weights are
    one entry; sharded parameters (DTensor) stay sharded.

    Args:
        model: its present weights are the first average.
        decay: in [0, 1); the memory is 1 / (1 - decay) updates.
    Raises:
        ValueError: decay outside [0, 1).
    Source: Polyak & Juditsky 1992; the warm-up is that of TensorFlow's ExponentialMovingAverage (`num_updates`).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; expected 0 <= decay < 1 (0.999 averages over the last 1000 updates)")
        self.decay = decay
        self.n_updates = 0
        self.values = {name: tensor.clone() for name, tensor in _tensors(model).items()}
        # Walking the modules costs more than averaging a small net, so the tensors of a model that is whole (shards
        # come and go) are looked up once.
        is_sharded = any(hasattr(value, "to_local") for value in self.values.values())
        self._known = (None, None) if is_sharded else (model, _Pairs(self.values, model))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after an optimizer step."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        known, pairs = self._known
        if known is not model or pairs is None:
            pairs = _Pairs(self.values, model)
        if pairs.averages:
            torch._foreach_lerp_(pairs.averages, pairs.weights, 1 - decay)
        if pairs.copies:
            torch._foreach_copy_(pairs.copies, pairs.rest)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """The model with averaged weights, for evaluation; at the end the raw weights are back bit for bit."""
        _reshard(model)
        present = _tensors(model)
        raw = {name: tensor.clone() for name, tensor in present.items()}
        _copy(self.values, into=present)
        try:
            yield model
        finally:
            _reshard(model)
            _copy(raw, into=present)

    def state_dict(self) -> dict[str, Tensor | int]:
        """The averaged tensors by qualified name, and "n_updates". The tensors are live, not copies."""
        return {"n_updates": self.n_updates, **self.values}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restores what `state_dict` gave. Raises ValueError when the names are another model's."""
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        if differing := sorted(tensors.keys() ^ self.values.keys()):
            raise ValueError(f"the averaged weights are another model's: {', '.join(differing[:5])} on one side only")
        self.n_updates = int(state["n_updates"])
        _copy(tensors, into=self.values)


class _Pairs:
    """The averages beside the weights they follow, and the copies beside the rest, in lists of equal order."""

    def __init__(self, values: dict[str, Tensor], model: nn.Module) -> None:
        present = _tensors(model)
        averaged = {name for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
        self.averages = [_local(values[name]) for name in present if name in averaged]
        self.weights = [_local(tensor) for name, tensor in present.items() if name in averaged]
        self.copies = [_local(values[name]) for name in present if name not in averaged]
        self.rest = [_local(tensor) for name, tensor in present.items() if name not in averaged]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by qualified name, tied ones once, without their gradients' history."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: tensor.detach() for name, tensor in tensors.items()}


@torch.no_grad()
def _copy(source: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    if into:
        torch._foreach_copy_([_local(tensor) for tensor in into.values()], [_local(source[name]) for name in into])


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor, sharing its memory; any other tensor as it is."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def _reshard(model: nn.Module) -> None:
    """Drops the gathered weights that FSDP2 keeps after a forward pass: they would hide what is written to the shards.

    Known by its method, because importing FSDP2 to ask for its class takes longer than many a short run.
    """
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if callable(reshard):
            reshard()
