"""Forward: does the signal survive? Its size layer by layer, dead and saturated units, and whether inputs merge."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from isometry.doctor.leaves import float_leaves
from isometry.doctor.records import Spread, by_record, count_records, length, spread
from isometry.doctor.subject import Layer, Seen, Subject

FLAT = 0.01  # a unit is saturated where its slope is below this share of the activation's largest
AT_FIRST = 8  # records looked at before all
AT_THE_LIMIT = 0.005  # of the range of tanh or sigmoid: where their slopes are 1 % (0.995) and 2 %


@dataclass(frozen=True)
class ForwardRow:
    """One call of one layer. Moments, units and non-finite share as in training, the rest in evaluation mode."""

    name: str
    kind: str
    shape: list[int]
    """Of the output."""
    has_weight: bool
    n_weights: int
    moment_in: float | None
    """E[|x|²] over all that enters; None where nothing real-valued does."""
    moment: float
    """E[|x|²] over all that leaves; infinite or NaN where the signal is."""
    growth: float | None
    """Of weight layers: ln of the second moment over that of the weight layer before. -inf: nothing arrives."""
    dead: float
    """Share of the output's channels with one and the same value in the whole batch."""
    dead_in: float | None
    """As `dead`, of what enters: a functional activation between two layers shows up here."""
    saturated: float | None
    """Of bounded activations: share of the entries where the slope is below 1 % of its largest."""
    saturated_in: float | None
    """Share of what enters within 0.5 % of the limits of tanh or sigmoid, where a function before the layer seems to
    be one of them: it stays inside the range, was not handed on by a layer and is not the batch's own."""
    non_finite: float
    correlation: float | None
    rank: float | None
    rank_share: float | None
    """See `isometry.doctor.records.Spread`."""
    per_irrep: dict[str, float] | None
    """Of layers with `irreps_out`: E[x²] of each kind of representation; component normalisation keeps all at 1."""


@dataclass(frozen=True)
class Forward:
    rows: list[ForwardRow]
    """In the order of execution."""
    n_records: int | None
    """How many records the batch was taken to have."""
    entry_correlation: float | None
    """Mean cosine between different records where the signal enters: the batch's own, or the embeddings'."""
    entry_rank: float | None
    growth: float | None
    """ln of the second moment at the last weight layer over that at the first; None below two weight layers."""
    reason: str | None
    """Why `growth` is None."""


def measure_forward(subject: Subject) -> Forward:
    """Two forward passes, one as in training and one in evaluation mode."""
    n_records = count_records(subject.batch)
    subject.live()
    live = subject.run()
    subject.quiet()
    quiet = subject.run()
    with torch.no_grad():
        look = _Look(subject, live, quiet, n_records)
        rows = [look.row(layer) for layer in subject.layers]
        entry = spread(by_record(_entry(subject, quiet), n_records)) if rows else Spread(None, None, None)
    growth, reason = _total([row.moment for row in rows if row.has_weight])
    return Forward(rows, n_records, entry.correlation, entry.rank, growth, reason)


class _Look:
    """Goes from layer to layer; what one hands on and the next receives is the same tensor and measured once."""

    def __init__(self, subject: Subject, live: Seen, quiet: Seen, n_records: int | None) -> None:
        self.live, self.quiet, self.n_records = live, quiet, n_records
        self.familiar = {id(leaf) for leaf in float_leaves(subject.batch).values()}
        """The batch's own tensors, and what layers handed on."""
        self.facts: dict[tuple[int, int], _Facts] = {}
        self.spreads: dict[int, Spread] = {}
        self.moment: float | None = None
        self.axis = -1

    def row(self, layer: Layer) -> ForwardRow:
        output = self.live.outputs.get(layer.name, self.quiet.outputs[layer.name])
        entered = self.live.inputs.get(layer.name)
        self.axis = _channel_axis(layer.module, output, self.axis)
        given, made = None if entered is None else self._facts(entered), self._facts(output)
        is_new = entered is not None and id(entered) not in self.familiar
        self.familiar.add(id(output))
        quiet = self._spread(self.quiet.outputs[layer.name])
        return ForwardRow(
            name=layer.name,
            kind=layer.kind,
            shape=list(output.shape),
            has_weight=layer.has_weight,
            n_weights=sum(p.numel() for p in layer.module.parameters(recurse=False)),
            moment_in=given and given.moment,
            moment=made.moment,
            growth=self._growth(made.moment) if layer.has_weight else None,
            dead=made.dead,
            dead_in=given and given.dead,
            saturated=saturated_share(layer.module, output),
            saturated_in=share_at_limits(entered) if entered is not None and is_new else None,
            non_finite=made.non_finite,
            correlation=quiet.correlation,
            rank=quiet.rank,
            rank_share=quiet.rank_share,
            per_irrep=moments_per_irrep(layer.module, output),
        )

    def _facts(self, x: Tensor) -> _Facts:
        axis = self.axis if x.ndim > 2 else -1
        key = (id(x), axis)
        if key not in self.facts:
            self.facts[key] = _facts(x, axis)
        return self.facts[key]

    def _spread(self, x: Tensor) -> Spread:
        if id(x) not in self.spreads:
            self.spreads[id(x)] = spread(by_record(x, self.n_records))
        return self.spreads[id(x)]

    def _growth(self, moment: float) -> float | None:
        before, self.moment = self.moment, moment
        return None if before is None else _log_ratio(before, moment)


@dataclass(frozen=True)
class _Facts:
    moment: float
    dead: float
    non_finite: float


def _facts(x: Tensor, axis: int) -> _Facts:
    moment = second_moment(x)
    non_finite = 0.0 if math.isfinite(moment) else 1 - float(x.isfinite().double().mean())
    return _Facts(moment, _dead_share(x, axis), non_finite)


def _dead_share(x: Tensor, axis: int) -> float:
    """Of the channels, those with one value everywhere; seldom any passes the first look at a few records."""
    channels = x.reshape(1, -1) if x.ndim < 2 else x.movedim(axis, 0)
    if not channels.numel():
        return 0.0
    first = channels[(slice(None), *[slice(1)] * (channels.ndim - 1))]
    if channels[0].numel() == 1:
        first = torch.zeros_like(first)  # of one number, only 0 says something
    few = (channels[:, :AT_FIRST] == first).flatten(1).all(1)
    if not few.any():
        return 0.0
    channels, first = channels[few], first[few]
    is_constant = (channels == first).flatten(1).all(1) & first.flatten().isfinite()
    return float(is_constant.sum()) / len(few)


def second_moment(x: Tensor) -> float:
    """Mean of |x|²; infinite or NaN if any entry is."""
    return length(x) ** 2 / max(1, x.numel())


def saturated_share(module: nn.Module, output: Tensor) -> float | None:
    """Share of entries where a bounded activation's slope is below 1 % of its largest; None for other layers."""
    is_flat = next((test for kind, test in _FLAT.items() if isinstance(module, kind)), None)
    return None if is_flat is None or not output.numel() else float(is_flat(module, output).double().mean())


def share_at_limits(x: Tensor) -> float | None:
    """Share of entries that a tanh or a sigmoid would have saturated; None where neither seems to have made them.

    Rectified numbers have zeros and small signals stay clear of the limits, so neither counts.
    """
    if x.is_complex() or not x.numel():
        return None
    low, high = map(float, x.aminmax())
    if -1 <= low < -0.5 and 0.5 < high <= 1:
        return float((x.abs() > 1 - AT_THE_LIMIT).double().mean())
    if low > 0 and 0.5 < high <= 1:
        return float(((x < AT_THE_LIMIT) | (x > 1 - AT_THE_LIMIT)).double().mean())
    return None


def moments_per_irrep(module: nn.Module, output: Tensor) -> dict[str, float] | None:
    irreps = getattr(module, "irreps_out", None)
    slices = getattr(irreps, "slices", None)
    if irreps is None or slices is None or output.ndim < 1 or output.shape[-1] != getattr(irreps, "dim", None):
        return None
    parts: dict[str, list[Tensor]] = {}
    for (_, kind), where in zip(irreps, slices(), strict=True):
        parts.setdefault(str(kind), []).append(output[..., where].flatten())
    return {kind: second_moment(torch.cat(part)) for kind, part in parts.items()}


def _channel_axis(module: nn.Module, output: Tensor, before: int) -> int:
    """Counted from the end. Layers that know neither (activations, pools) keep that of the layer before."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return -1 - len(module.kernel_size)
    if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
        return min(-1, 1 - output.ndim)
    if any(True for _ in module.parameters(recurse=False)) or before < -output.ndim:
        return -1
    return before


def _entry(subject: Subject, quiet: Seen) -> Tensor:
    if subject.entry:
        return subject.leaves[subject.entry[0]]
    return quiet.outputs[subject.gates[0] if subject.gates else subject.layers[0].name]


def _total(moments: Sequence[float]) -> tuple[float | None, str | None]:
    if len(moments) < 2:
        return None, f"{len(moments)} weight layers; a growth needs two"
    growth = _log_ratio(moments[0], moments[-1])
    return (growth, None) if not math.isnan(growth) else (None, "nothing or nothing finite leaves the first layer")


def _log_ratio(before: float, after: float) -> float:
    """-inf where nothing arrives, inf where the signal overflows, NaN where there was nothing to lose."""
    if not 0 < before < math.inf or math.isnan(after):
        return math.nan
    return math.log(after / before) if 0 < after / before < math.inf else math.copysign(math.inf, after - before)


_FLAT: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    nn.Sigmoid: lambda _, y: 4 * y * (1 - y) < FLAT,
    nn.Tanh: lambda _, y: 1 - y * y < FLAT,
    nn.ReLU6: lambda _, y: y >= 6,
    nn.Hardtanh: lambda module, y: (y <= module.min_val) | (y >= module.max_val),
    nn.Hardsigmoid: lambda _, y: (y <= 0) | (y >= 1),
    nn.Softsign: lambda _, y: (1 - y.abs()).square() < FLAT,
    nn.Softmax: lambda module, y: _sharp(y.amax(module.dim if module.dim is not None else -1)),
}


def _sharp(largest: Tensor) -> Tensor:
    """Where one share takes all, softmax is flat; many small shares are no saturation."""
    return 4 * largest * (1 - largest) < FLAT
