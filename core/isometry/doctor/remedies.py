"""Remedies that are safe for a network that has learnt nothing yet: other first weights, other branch scales.

A remedy is kept only if the examination afterwards finds less; else the network is as it was.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from isometry.activations import ACTIVATIONS
from isometry.blocks import Residual, residual_scale
from isometry.initialise import initialise
from isometry.lsuv import lsuv
from isometry.randomness import preserved_randomness, seed_everything

Remedy = Literal["orthogonal", "critical", "lsuv"]
REMEDIES: tuple[Remedy, ...] = ("orthogonal", "critical", "lsuv")

WHAT = {
    "orthogonal": "orthogonal weights under the activation's matched gain",
    "critical": "weights and biases at the edge of chaos",
    "lsuv": "orthogonal weights, each layer scaled to unit spread on this batch (LSUV)",
    "residual scale": "residual branches scaled by 1/√L",
}
SOURCES = {
    "orthogonal": "Saxe et al. 2014, arXiv:1312.6120",
    "critical": "Schoenholz et al. 2017, arXiv:1611.01232; Roberts, Yaida & Hanin 2022, arXiv:2106.10165",
    "lsuv": "Mishkin & Matas 2016, arXiv:1511.06422",
    "residual scale": "Hayou et al. 2021, arXiv:2010.12859",
}


def apply(remedy: Remedy, model: nn.Module, batch: Any, loss: Callable[[nn.Module, Any], Any], seed: int = 0) -> None:
    """Begin the layers that are known (linear, convolution, recurrent, attention) anew, in place.

    Raises:
        ValueError: the remedy does not exist for this network ("critical" without a known activation).
    """
    activation = main_activation(model)
    with preserved_randomness():
        seed_everything(seed)
        if remedy == "critical" and activation == "sigmoid":
            _centre_sigmoids(model)
        elif remedy == "critical":
            initialise(model, activation, method="critical", first="linear")
        else:
            initialise(model, activation, method="orthogonal", first="linear")
        if remedy == "lsuv":
            lsuv(model, batch, forward=loss)


def _centre_sigmoids(model: nn.Module) -> None:
    """Orthogonal weights times 4 and biases -½ W·1: since σ(z) = ½ + ½ tanh(z/2), that is an orthogonal tanh net.

    Without the biases a sigmoid's mean of ½ drowns the signal, and no weights alone are critical.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    initialise(model, "linear", method="orthogonal")
    with torch.no_grad():
        for layer in layers[:1]:
            layer.weight.mul_(2.0)
        for layer in layers[1:]:
            layer.weight.mul_(4.0)
            if layer.bias is not None:
                layer.bias.copy_(-0.5 * layer.weight.sum(1))


def main_activation(model: nn.Module) -> str:
    """The commonest activation module of the network; "linear" where it has none that is known."""
    names = {type(make()): name for name, make in ACTIVATIONS.items()}
    found = Counter(names[type(m)] for m in model.modules() if type(m) in names and names[type(m)] != "identity")
    return found.most_common(1)[0][0] if found else "linear"


def scale_residuals(model: nn.Module) -> int:
    """Give the residual blocks of scale 1 the scale 1/√L; returns how many there were."""
    blocks = [module for module in model.modules() if isinstance(module, Residual) and float(module.scale) == 1.0]
    if len(blocks) > 1:
        for block in blocks:
            block.scale.fill_(residual_scale(len(blocks)))
    return len(blocks) if len(blocks) > 1 else 0


@contextmanager
def on_trial(model: nn.Module) -> Iterator[None]:
    """What the block does to the network is undone at its end."""
    before = copy.deepcopy(own_state(model))
    try:
        yield
    finally:
        put_back(model, before)


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those that a checkpoint leaves out."""
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def put_back(model: nn.Module, state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in own_state(model).items():
            tensor.copy_(state[name])
