"""How a small push of the input, in the worst direction, changes what a network says: its robustness.

The push is the fast gradient sign: every number of the input moves by ε to where the loss rises. It is one step, and so
a lower bound of what an adversary can do; `lipschitz_bound` is the bound from the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isometry.doctor.leaves import Path, float_leaves, replaced
from isometry.doctor.still import held_still

Loss = Callable[[nn.Module, Any], Tensor]
Outputs = Callable[[nn.Module, Any], Tensor]


class Attacked(NamedTuple):
    """One strength of the attack: ε in the input's units, the loss there, the share of decisions that changed."""

    epsilon: float
    loss: float
    flipped: float | None
    """None where the outputs are no decisions."""


def fast_gradient_sign(
    model: nn.Module, batch: Any, loss: Loss, epsilon: float, *, paths: Collection[Path] | None = None
) -> Any:
    """A copy of the batch, every number moved by ±ε so that the loss rises; the model stays as it is.

    Args:
        loss: `loss(model, batch)`, a scalar; evaluated in evaluation mode.
        paths: the real-valued tensors of the batch that may move (see `float_leaves`; of a batch that is one tensor:
            `()`); default all on which the loss depends. Name them where labels are real numbers, too.
    Raises:
        ValueError: negative ε, or a loss that depends on none of them.
    Source: Goodfellow et al. 2015, arXiv:1412.6572, section 4.
    """
    with held_still(model):
        model.eval()
        return _moved(batch, _directions(model, batch, loss, paths), epsilon)


def robustness(
    model: nn.Module,
    batch: Any,
    loss: Loss,
    epsilons: Sequence[float],
    *,
    outputs: Outputs | None = None,
    is_classifier: bool = True,
    paths: Collection[Path] | None = None,
) -> list[Attacked]:
    """The loss, and the share of flipped decisions, at every ε; first without attack, at ε = 0.

    Args:
        outputs: `outputs(model, batch)`, logits [n, n_classes] or of two classes [n] or [n, 1]; default `model(batch)`.
        paths: as in `fast_gradient_sign`; default all on which the outputs depend, so never labels.
    """
    said: Outputs = (lambda model, batch: model(batch)) if outputs is None else outputs
    with held_still(model):
        model.eval()
        if paths is None:
            paths = _directions(model, batch, lambda model, batch: said(model, batch).sum(), None).keys()
        directions = _directions(model, batch, loss, paths)
        rows: list[Attacked] = []
        clean = decisions(said(model, batch)) if is_classifier else None
        for epsilon in (0.0, *(e for e in epsilons if e != 0)):
            pushed = _moved(batch, directions, epsilon)
            with torch.no_grad():
                at = loss(model, pushed).item()
                now = None if clean is None else decisions(said(model, pushed))
            rows.append(Attacked(epsilon, at, None if now is None else (now != clean).double().mean().item()))
    return rows


def decisions(logits: Tensor) -> Tensor:
    """The largest class of [..., n_classes]; of one logit, whether it is positive."""
    return logits > 0 if logits.ndim < 2 or logits.shape[-1] == 1 else logits.argmax(-1)


def _directions(model: nn.Module, batch: Any, scalar: Loss, paths: Collection[Path] | None) -> dict[Path, Tensor]:
    """The sign of the scalar's gradient with respect to every leaf on which it depends."""
    found = {path: leaf for path, leaf in float_leaves(batch).items() if not leaf.is_complex()}
    leaves = {p: leaf.detach().clone().requires_grad_() for p, leaf in found.items() if paths is None or p in paths}
    with torch.enable_grad():
        value = scalar(model, replaced(batch, leaves))
        depends = bool(leaves) and value.requires_grad
        gradients = torch.autograd.grad(value, [*leaves.values()], allow_unused=True) if depends else ()
    directions = {p: gradient.sign() for p, gradient in zip(leaves, gradients, strict=False) if gradient is not None}
    if not directions:
        raise ValueError(
            f"nothing to attack: of the {len(found)} real-valued tensors in the batch, {len(leaves)} may move, and the "
            "gradient comes back to none of them: a network that reads whole numbers, or that takes the derivatives by "
            "its inputs itself, cannot be attacked"
        )
    return directions


def _moved(batch: Any, directions: dict[Path, Tensor], epsilon: float) -> Any:
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}; expected 0 or more, in the units of the input")
    leaves = float_leaves(batch)
    return replaced(batch, {p: leaves[p].detach() + epsilon * direction for p, direction in directions.items()})
