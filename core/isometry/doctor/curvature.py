"""The curvature of the loss: the largest eigenvalue of its Hessian, and the step that plain descent survives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from isometry.doctor.still import differentiable_twice
from isometry.doctor.subject import Subject
from isometry.spell import what_failed

N_PRODUCTS = 3
OFF_GRADIENT = 0.3  # share of noise in the first direction, in case the gradient lies across the steepest curvature
CONVERGED = 0.01
MOST_IN_DOUBLE = 100_000  # parameters; beyond, directions are kept in float32
ROUNDING = 1e-7
MOST_ASYMMETRY = 0.05

Operator = Callable[[Tensor], Tensor]
Way = Literal["reverse twice", "plain kernels", "differences"]
"""How H v is taken: with the kernels that the network trains with, with plain ones that know a second derivative, or
from the gradients on both sides."""


@dataclass(frozen=True)
class Curvature:
    """Of the loss of this batch as it trains (dropout drawn, norms by the batch), by all trainable parameters."""

    n_parameters: int
    way: Way | None = None
    n_products: int = 0
    """Products of the Hessian with a direction that were taken."""
    largest: float | None = None
    """Largest eigenvalue found: a lower estimate; one lies within `error` of it."""
    error: float | None = None
    smallest: float | None = None
    """Smallest eigenvalue found: an upper estimate; below 0 the loss curves downwards somewhere."""
    is_converged: bool = False
    """Whether `error` is below 1 % of `largest`."""
    stable_rate: float | None = None
    """2 / largest: plain gradient descent with a larger rate diverges; with momentum β it holds up to 1 + β times as
    much. An upper estimate, as `largest` is a lower one. None where no direction curves upwards."""
    reason: str | None = None
    """Why something is None."""


def measure_curvature(subject: Subject, n_products: int = N_PRODUCTS) -> Curvature:
    """Lanczos from near the gradient, where descent meets the steepest curvature first.

    The fused kernels of recurrent nets have no second derivative, and their plain form is tens of times slower: there
    the Hessian's products are central differences of gradients, to some 1e-3.
    Source: Lanczos 1950; products by differentiating ⟨∇L, v⟩: Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147.
    """
    parameters = [parameter for _, parameter in subject.parameters()]
    empty = Curvature(sum(_size(parameter) for parameter in parameters))
    subject.live()
    try:
        for way in _ways(subject.model):
            found = _attempted(subject, parameters, n_products, way)
            if isinstance(found, _Tridiagonal):
                return _told(replace(empty, way=way), found)
            empty = replace(empty, reason=found)
        return empty
    finally:
        subject.quiet()


@dataclass
class _Tridiagonal:
    """The Hessian among the directions that Lanczos went along."""

    diagonal: list[float]
    beside: list[float]
    """As long; the last entry leads out of what was seen."""
    asymmetry: float = 0.0
    """Of ⟨v, H w⟩ and ⟨w, H v⟩, relative: not rounding, where an operation drops its second derivative silently."""


def _ways(model: nn.Module) -> tuple[Way, ...]:
    modules = list(model.modules())
    if any(isinstance(module, nn.RNNBase) for module in modules):
        return ("differences", "plain kernels")
    if any(isinstance(module, nn.MultiheadAttention | nn.TransformerEncoderLayer) for module in modules):
        return ("plain kernels", "differences")
    return ("reverse twice", "plain kernels", "differences")


def _attempted(subject: Subject, parameters: list[nn.Parameter], n_products: int, way: Way) -> _Tridiagonal | str:
    """What was found, or why nothing was."""
    hessian = _by_differences if way == "differences" else _hessian
    try:
        with differentiable_twice() if way == "plain kernels" else nullcontext():
            found = _lanczos(*hessian(subject, parameters), n_products, subject.seed)
        if found.asymmetry <= MOST_ASYMMETRY:
            return found
        return (
            "the Hessian's products are not symmetric: an operation of the network has no second derivative, or the "
            "loss bends too sharply for its number format"
        )
    except Exception as error:
        return what_failed(error)


def _hessian(subject: Subject, parameters: list[nn.Parameter]) -> tuple[Tensor, Operator]:
    """The gradient, and v -> H v; flat vectors, complex numbers as pairs of reals."""
    loss = subject.run(watch=False).loss.reshape(())
    found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, found, strict=True) if g is not None]
    towards, gradients = [p for p, _ in used], [g for _, g in used]
    first = _flat(gradients)
    curved = [g for g in gradients if g.requires_grad]
    if not curved:
        raise ValueError("the gradient cannot be differentiated")

    def product(v: Tensor) -> Tensor:
        parts = zip(v.split([_size(g) for g in gradients]), gradients, strict=True)
        along = [_shaped(part, g) for part, g in parts if g.requires_grad]
        rows = torch.autograd.grad(curved, towards, along, retain_graph=True, allow_unused=True)
        return _flat([torch.zeros_like(p) if row is None else row for row, p in zip(rows, towards, strict=True)])

    return first, product


def _by_differences(subject: Subject, parameters: list[nn.Parameter]) -> tuple[Tensor, Operator]:
    kept = [parameter.detach().clone() for parameter in parameters]
    length = math.sqrt(sum(float(torch.linalg.vector_norm(p)) ** 2 for p in kept)) or 1.0
    # Smaller than for smooth functions: between the kinks of a Huber loss or a ReLU there is little room.
    step = max(torch.finfo(p.dtype).eps for p in kept) ** 0.5 * length

    def gradient() -> Tensor:
        found = torch.autograd.grad(subject.run(watch=False).loss.reshape(()), parameters, allow_unused=True)
        return _flat([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])

    def moved(by: Tensor) -> Tensor:
        parts = by.split([_size(p) for p in kept])
        try:
            with torch.no_grad():
                for parameter, start, part in zip(parameters, kept, parts, strict=True):
                    parameter.copy_(start + _shaped(part, start))
            return gradient()
        finally:
            with torch.no_grad():
                for parameter, start in zip(parameters, kept, strict=True):
                    parameter.copy_(start)

    return gradient(), lambda v: (moved(step * v) - moved(-step * v)) / (2 * step)


def _lanczos(gradient: Tensor, product: Operator, n_products: int, seed: int) -> _Tridiagonal:
    """With full reorthogonalisation."""
    if not bool(gradient.isfinite().all()):
        raise ValueError("the gradient is not finite")
    found, known = _Tridiagonal([], []), [_start(gradient, seed)]
    for _ in range(min(n_products, len(gradient))):
        image = product(known[-1])
        if not bool(image.isfinite().all()):
            raise ValueError("a product with the Hessian is not finite")
        if len(known) == 2:
            size = abs(found.diagonal[0]) + found.beside[0]
            found.asymmetry = abs(float(image @ known[0]) - found.beside[0]) / size
        found.diagonal.append(float(image @ known[-1]))
        for _ in range(2):  # twice is enough (Kahan)
            for direction in known:
                image = image - (image @ direction) * direction
        size, scale = float(image.norm()), max(map(abs, (*found.diagonal, *found.beside)))
        found.beside.append(size if size > ROUNDING * scale else 0.0)
        if not found.beside[-1]:
            break
        known.append(image / size)
    return found


def _start(gradient: Tensor, seed: int) -> Tensor:
    noise = torch.randn(len(gradient), generator=Generator().manual_seed(seed)).to(gradient)
    size = float(gradient.norm())
    start = noise / noise.norm() * (OFF_GRADIENT if size > 0 else 1.0)
    start = start + gradient / size if size > 0 else start
    return start / start.norm()


def _told(empty: Curvature, found: _Tridiagonal) -> Curvature:
    k = len(found.diagonal)
    beside = torch.tensor(found.beside[: k - 1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(found.diagonal, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(matrix + torch.diag(beside, 1) + torch.diag(beside, -1))
    largest, error = float(values[-1]), found.beside[-1] * abs(float(vectors[-1, -1]))
    return replace(
        empty,
        n_products=k,
        largest=largest,
        error=error,
        smallest=float(values[0]),
        is_converged=error <= CONVERGED * abs(largest),
        stable_rate=2 / largest if largest > 0 else None,
        reason=None if largest > 0 else "the loss curves upwards in none of the directions tried",
    )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """In float64, unless that takes too long or the device has none."""
    reals = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    is_wide = sum(map(torch.numel, reals)) <= MOST_IN_DOUBLE and all(t.device.type != "mps" for t in reals)
    return torch.cat([t.detach().reshape(-1).to(torch.float64 if is_wide else torch.float32) for t in reals])


def _shaped(flat: Tensor, like: Tensor) -> Tensor:
    flat = flat.to(like.real.dtype)
    return torch.view_as_complex(flat.reshape(*like.shape, 2)) if like.is_complex() else flat.reshape(like.shape)
