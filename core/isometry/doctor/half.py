"""Half precision: a forecast of what fp16 would do to the gradients, and the loss scales that save them.

fp16 keeps 11 bits of numbers from 2^-14 to 65504, fewer down to 2^-24; up to 2^-25 they round to 0, from 65520 on to
infinity. A loss scale moves all gradients at once; the scales between which nothing overflows and little is flushed are
the *window* [need, allow]. Source: Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.

What is flushed at a late layer is zero for all layers before it, and what was flushed on the way forward has no
gradient at all. So the forecast follows the whole chain: one forward pass as autocast would make it, in fp32 arithmetic
(see `isometry.doctor.single`), and backward passes through it at the scales in question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from isometry.doctor.single import SingleForHalf, half, half_in_single
from isometry.doctor.subject import Seen, Subject

LARGEST = 65520.0  # rounds to infinity
FLUSHED_EXPONENT = -25  # 2^-25 and what is smaller round to 0
SMALLEST_NORMAL = 2.0**-14
MOST_FLUSHED = 0.01  # of the gradient entries that count, per layer; below it a loss scale is enough
ROUNDING = -11  # exponent of fp16's rounding unit: beside entries of size 1, those below 2^-11 are noise at any scale
HEADROOM = 8.0  # of the start scale to the largest that is allowed: gradients grow in the first steps
SAMPLE = 4096  # entries of a gradient whose exponents are looked at
BOUNDS = (2.0**-24, 2.0**40)  # of loss scales

_LOWEST, _N_EXPONENTS = -160, 320  # every exponent of fp32


@dataclass(frozen=True)
class HalfShare:
    """Shares of a gradient's entries at one loss scale."""

    flushed: float
    """Zero in fp16, of those that are not zero in fp32."""
    subnormal: float
    """Not zero, but below 2^-14 and held with fewer bits, of the same; only where fp16 holds them."""
    overflowed: float
    """Infinite or no number, of all."""


@dataclass(frozen=True)
class HalfTensor:
    """One gradient: of the loss by a layer's output, or by a parameter."""

    name: str
    of: Literal["activation", "weight"]
    is_half: bool
    """Whether autocast holds it in fp16; others lose what was lost before they are made."""
    n: int
    zero: float
    """Share of entries that are exactly zero in fp32: dead, not flushed."""
    unscaled: HalfShare | None
    """At loss scale 1."""
    scaled: HalfShare | None
    """At the loss scale `Half.scale`."""


@dataclass(frozen=True)
class Half:
    need: float | None = None
    """Smallest power of 2 at which no layer flushes more than `MOST_FLUSHED` of its gradient's entries; those below
    2^-11 of their root mean square are left out, because fp16's own rounding of the others drowns them."""
    allow: float | None = None
    """Largest power of 2 at which nothing overflows, not even at twice the scale."""
    start: float | None = None
    """Where to start, inside [need, allow]; None: there is no such window, and bf16 is the remedy."""
    scale: float | None = None
    """What `scaled` holds for: `start`, else a scale that at least does not overflow."""
    activations: dict[str, HalfShare] = field(default_factory=dict)
    """Over all activation gradients: "unscaled" and "scaled"."""
    weights: dict[str, HalfShare] = field(default_factory=dict)
    """Over all weight gradients."""
    forward_overflow: dict[str, float] = field(default_factory=dict)
    """Layers of whose output a share is infinite in fp16."""
    tensors: list[HalfTensor] = field(default_factory=list)
    """Layers in the order of execution, then parameters."""
    reason: str | None = None
    """Why there is no window, or why nothing could be measured."""


def measure_half(subject: Subject) -> Half:
    """The forecast for the live network. Costs one step in fp32 and some two in emulated fp16."""
    try:
        return _measure(subject)
    except (RuntimeError, TypeError, ValueError) as error:
        return Half(reason=f"cannot be run under fp16 autocast: {' '.join(str(error).split())[:200]}")


def forecast(subject: Subject, scales: Iterable[float]) -> dict[float, list[HalfTensor]]:
    """By loss scale, what is flushed at it (as `scaled`)."""
    run = _HalfRun(subject, _exact(subject)[0])
    told = {scale: run.shares(scale) for scale in scales}
    return {
        scale: [_told(key, run.exact[key], key in run.halves, None, share) for key, share in shares.items()]
        for scale, shares in told.items()
    }


def flushed(tensors: Iterable[HalfTensor], of: str) -> float:
    """Share of the entries of all gradients of a kind that are flushed at the tensors' loss scale."""
    told = [(t.scaled, t.n * (1 - t.zero)) for t in tensors if t.of == of and t.scaled is not None]
    total = sum(n for _, n in told)
    return sum(share.flushed * n for share, n in told) / total if total else 0.0


class Spread(NamedTuple):
    """The sizes of a gradient's entries."""

    n: int
    n_nonzero: int
    largest: float
    counts: Tensor
    """[_N_EXPONENTS] nonzero entries by binary exponent: in (2^(e-1), 2^e], from `_LOWEST` on; of a large gradient
    estimated from some of them."""

    @classmethod
    def of(cls, gradient: Tensor) -> Spread:
        sizes = _real(gradient).abs().flatten()
        n_nonzero, largest = int(sizes.count_nonzero()), float(sizes.max()) if sizes.numel() else 0.0
        if n_nonzero == 0 or not math.isfinite(largest):
            return cls(sizes.numel(), n_nonzero, largest, torch.zeros(_N_EXPONENTS))
        drawn = sizes[:: (sizes.numel() // SAMPLE) | 1]  # an odd stride visits every column of a matrix
        drawn = drawn[drawn > 0] if n_nonzero < sizes.numel() else drawn
        if not drawn.numel():
            drawn = sizes[sizes > 0]
        # A power of 2 belongs to the smaller exponent, because 2^-25 itself is flushed.
        exponents = torch.frexp(drawn * (1 - 2.0**-20)).exponent.sub_(_LOWEST)
        counts = torch.bincount(exponents, minlength=_N_EXPONENTS).cpu() * (n_nonzero / drawn.numel())
        return cls(sizes.numel(), n_nonzero, largest, counts)

    def __add__(self, other: Spread) -> Spread:  # type: ignore[override]
        largest = max(self.largest, other.largest)
        return Spread(self.n + other.n, self.n_nonzero + other.n_nonzero, largest, self.counts + other.counts)

    @property
    def needed(self) -> float:
        """The smallest scale at which one rounding flushes no more than `MOST_FLUSHED` of the entries that count."""
        squares = self.counts * torch.exp2(2.0 * (torch.arange(_N_EXPONENTS, dtype=torch.float64) + _LOWEST))
        rms = math.sqrt(float(squares.sum()) / self.n_nonzero)
        first = max(math.frexp(rms)[1] + ROUNDING - _LOWEST, 0)
        lost = self.counts[first:].cumsum(0) <= MOST_FLUSHED * self.n_nonzero
        return 2.0 ** (FLUSHED_EXPONENT - (first + int(lost.sum()) - 1 + _LOWEST))


Key = tuple[Literal["activation", "weight"], str]


def _measure(subject: Subject) -> Half:
    exact, masked = _exact(subject)
    if not all(math.isfinite(spread.largest) for spread in exact.values()):
        return Half(reason="the gradient is not finite in fp32")
    if not any(spread.n_nonzero for spread in exact.values()):
        return Half(reason="every gradient is exactly zero")
    run = _HalfRun(subject, exact)
    with run.mode.watching_sizes() as sizes:
        unscaled = run.shares(1.0)
    concerned = {key: e for key, e in exact.items() if key in run.halves or unscaled[key].flushed > MOST_FLUSHED}
    need, allow = _window(_by_layer(concerned), _largest(sizes))
    scale, scaled = _largest_safe(run.shares, min(max(need, allow / HEADROOM), allow))
    tensors = [_told(key, exact[key], key in run.halves, unscaled[key], scaled[key]) for key in exact]
    overflowing = {name: share for name, share in _not_finite(run.seen).items() if share > masked.get(name, 0.0)}
    weights = _totals(exact, "weight", unscaled, scaled)
    allow = min(allow, scale * HEADROOM)
    reason = _overflow_reason(overflowing, scaled) or _flush_reason(need, allow, weights["scaled"].flushed)
    return Half(
        need=need,
        allow=allow,
        start=scale if reason is None else None,
        scale=scale,
        activations=_totals(exact, "activation", unscaled, scaled),
        weights=weights,
        forward_overflow=overflowing,
        tensors=tensors,
        reason=reason,
    )


class _HalfRun:
    """One forward pass in emulated fp16, and backward passes through it."""

    def __init__(self, subject: Subject, exact: dict[Key, Spread]) -> None:
        self.subject, self.exact, self.mode = subject, exact, SingleForHalf()
        with half_in_single(subject.model, self.mode), half(subject.model):
            self.seen = subject.run()
        self.halves = _halves(subject, self.seen, self.mode.rounded)
        """The gradients that fp16 holds."""

    def shares(self, scale: float) -> dict[Key, HalfShare]:
        with half_in_single(self.subject.model, self.mode):
            found = _gradients(self.subject, self.seen, scale)
        return {key: _share(found.get(key), spread, key in self.halves) for key, spread in self.exact.items()}


def _exact(subject: Subject) -> tuple[dict[Key, Spread], dict[str, float]]:
    """Of an fp32 pass: the sizes of the gradients, and by layer the share of its output that is not finite."""
    subject.live()
    seen = subject.run()
    return {key: Spread.of(g) for key, g in _gradients(subject, seen, 1.0).items()}, _not_finite(seen)


def _gradients(subject: Subject, seen: Seen, scale: float) -> dict[Key, Tensor]:
    """Of the scaled loss by layers' outputs and parameters; the graph stays for another scale."""
    wanted: dict[Key, Tensor] = {("activation", k): t for k, t in seen.outputs.items() if t.requires_grad}
    wanted |= {("weight", name): parameter for name, parameter in subject.parameters()}
    loss = seen.loss.sum().float() * scale
    found = torch.autograd.grad(loss, list(wanted.values()), retain_graph=True, allow_unused=True)
    return {key: gradient for key, gradient in zip(wanted, found, strict=True) if gradient is not None}


def _share(gradient: Tensor | None, exact: Spread, is_half: bool) -> HalfShare:
    """Counted, not matched: rounding may turn a few entries from zero to nonzero and others back."""
    if gradient is None:
        return HalfShare(1.0 if exact.n_nonzero else 0.0, 0.0, 0.0)
    sizes, n_nonzero = _real(gradient).abs(), max(exact.n_nonzero, 1)
    n_kept = int(sizes.count_nonzero())
    n_small = int((sizes < SMALLEST_NORMAL).sum()) - (sizes.numel() - n_kept) if is_half else 0
    overflowed = 0.0 if math.isfinite(float(sizes.sum())) else 1 - float(sizes.isfinite().float().mean())
    return HalfShare(max(exact.n_nonzero - n_kept, 0) / n_nonzero, min(n_small / n_nonzero, 1.0), overflowed)


def _halves(subject: Subject, seen: Seen, rounded: set[int]) -> set[Key]:
    """The gradients that autocast holds in fp16: of fp16 outputs, and of parameters that were cast on their way in."""
    found: set[Key] = {("activation", k) for k, t in seen.outputs.items() if t.dtype is torch.float16}
    for name, parameter in subject.parameters():
        if parameter.untyped_storage().data_ptr() in rounded:
            found.add(("weight", name))
    return found


def _by_layer(exact: dict[Key, Spread]) -> list[Spread]:
    """The parameters of a module together: the gradient of a bias before a norm, say, is rounding noise and no more."""
    found: dict[Key, Spread] = {}
    for (of, name), spread in exact.items():
        key: Key = (of, name.rpartition(".")[0] if of == "weight" else name)
        found[key] = found[key] + spread if key in found else spread
    return [spread for spread in found.values() if spread.n_nonzero]


def _window(spreads: list[Spread], largest: float) -> tuple[float, float]:
    """`largest`: of all fp16 numbers in an unscaled pass; infinite: only the layers' own gradients are known."""
    low, high = BOUNDS
    if not math.isfinite(largest) or largest == 0:
        largest = max((spread.largest for spread in spreads), default=1.0)
    need = max([low, *(spread.needed for spread in spreads)])
    return need, min(max(allowed(largest), low), high)


def allowed(largest: float) -> float:
    """The largest power of 2 by which, and by twice which, this number may be multiplied without overflow."""
    return 2.0 ** (math.ceil(math.log2(LARGEST / largest)) - 2)


def _largest(sizes: list[Tensor]) -> float:
    return float(torch.stack([size.float() for size in sizes]).max()) if sizes else 0.0


def _largest_safe(
    shares: Callable[[float], dict[Key, HalfShare]], scale: float, n_tries: int = 3
) -> tuple[float, dict[Key, HalfShare]]:
    """What is made within a layer may be larger than what enters and leaves it: lower the scale until nothing
    overflows."""
    for _ in range(n_tries):
        told = shares(scale)
        if not any(share.overflowed for share in told.values()):
            break
        scale /= 2 * HEADROOM
    return scale, told


def _overflow_reason(overflowing: dict[str, float], scaled: dict[Key, HalfShare]) -> str | None:
    if overflowing:
        return f"activations overflow on the way forward, first in {next(iter(overflowing))}: no loss scale helps"
    if any(share.overflowed for share in scaled.values()):
        return "gradients overflow at every loss scale that was tried"
    return None


def _flush_reason(need: float, allow: float, still_flushed: float) -> str | None:
    if need > allow:
        powers = f"2^{math.log2(need):.0f} is needed and 2^{math.log2(allow):.0f} allowed"
        return f"gradients span more than fp16 can hold: a loss scale of {powers}"
    if still_flushed > MOST_FLUSHED:
        share = f"{100 * still_flushed:.1f} % of the weight gradients"
        return f"{share} flush even at the best loss scale: what is lost on the way forward, it does not bring back"
    return None


def _not_finite(seen: Seen) -> dict[str, float]:
    return {name: 1 - float(tensor.detach().isfinite().float().mean()) for name, tensor in seen.outputs.items()}


def _told(key: Key, exact: Spread, is_half: bool, unscaled: HalfShare | None, scaled: HalfShare | None) -> HalfTensor:
    zero = 1 - exact.n_nonzero / max(exact.n, 1)
    return HalfTensor(key[1], key[0], is_half, exact.n, zero, unscaled, scaled)


def _totals(
    exact: dict[Key, Spread], of: str, unscaled: dict[Key, HalfShare], scaled: dict[Key, HalfShare]
) -> dict[str, HalfShare]:
    return {"unscaled": _total(exact, of, unscaled), "scaled": _total(exact, of, scaled)}


def _total(exact: dict[Key, Spread], of: str, shares: dict[Key, HalfShare]) -> HalfShare:
    keys = [key for key in exact if key[0] == of]
    n_nonzero, n = (max(sum(getattr(exact[key], what) for key in keys), 1) for what in ("n_nonzero", "n"))
    return HalfShare(
        sum(shares[key].flushed * exact[key].n_nonzero for key in keys) / n_nonzero,
        sum(shares[key].subnormal * exact[key].n_nonzero for key in keys) / n_nonzero,
        sum(shares[key].overflowed * exact[key].n for key in keys) / n,
    )


def _real(gradient: Tensor) -> Tensor:
    """Real, dense, in fp32."""
    gradient = gradient.detach()
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    return (torch.view_as_real(gradient) if gradient.is_complex() else gradient).float()
