"""Verdicts: from what was measured to findings. Thresholds were calibrated on networks that were then trained.

The table of verdicts against fates, for perceptrons, convolutions, Transformers and recurrent networks, is made by
`python docs/doctor.py`. No single number judges: a gradient of the right size does not help where all inputs look
alike, and where inputs stay apart a gradient may still be lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from isometry.doctor.findings import Finding, Severity
from isometry.doctor.forward import ForwardRow
from isometry.doctor.half import Half
from isometry.doctor.recurrence import Recurrence
from isometry.doctor.symmetries import symmetry_findings

if TYPE_CHECKING:
    from isometry.doctor.examination import Examination
    from isometry.optim import OptimSettings

STUCK = math.log(1e4)  # nats between the first and the last layer: above, no rate serves both
STRAINED = math.log(30)  # up to here every net learned at the usual rates
GROWN = math.log(1e8)  # of the second moment from the first to the last layer, either way
ALIKE = 0.999  # mean cosine of records that are one and the same
MERGED, APART = 0.98, 0.9  # mean cosine between records: where it ends, and what it may have been at the entry
MANY_DEAD, MANY_SATURATED = 0.5, 0.5  # of a layer's channels, of its entries
UNEVEN = 20.0  # scatter of σ² over its mean: orthogonal nets 0.7, scaled residual ones 1.3, Gaussian ones of depth L √L
FORGOTTEN = 1e-6  # share of the gradient that reaches a sequence's first step
MUCH_FLUSHED = 0.01  # of the gradients' entries in fp16


def findings_of(found: Examination, optim: OptimSettings | None = None) -> list[Finding]:
    """Everything worth saying about an examination.

    Args:
        optim: how the network shall be trained, where that is known.
    """
    makers = (_not_finite, _gradient, _signal, _inputs, _units, _unreached, _unevenness, _half, _symmetry, _memory)
    findings = [finding for make in makers for finding in make(found)]
    if optim is not None and optim.name == "sgd":
        findings += _too_fast(found, optim.rate, optim.usual("momentum"))
    return [*findings, *(f for layer in found.recurrence for f in _forgetting(layer))]


# The signal and the gradient


def _not_finite(found: Examination) -> Iterator[Finding]:
    rows = found.forward.rows if found.forward else []
    first = next((row for row in rows if row.non_finite > 0), None)
    if first is not None:
        yield Finding(
            "fatal",
            "not a number",
            first.name,
            first.non_finite,
            f"{first.non_finite:.1%} of what {first.name} hands back is infinite or no number, as the first of all.",
            "Look for a division, a logarithm or an overflow in this layer, and for such values in its input.",
        )
    elif found.backward is not None and any(row.non_finite for row in found.backward.weights):
        lost = [row.name for row in found.backward.weights if row.non_finite]
        yield Finding(
            "fatal",
            "not a number",
            lost[0],
            len(lost),
            f"the gradient of {len(lost)} of {len(found.backward.weights)} parameters is infinite or no number "
            f"({_some(lost)}), although the loss is {found.loss:.3g}.",
            "Make the weights smaller (their matched gain), or look for a root or a norm of zero.",
            fix="weights",
        )
    elif not math.isfinite(found.loss):
        yield Finding(
            "fatal",
            "not a number",
            "network",
            found.loss,
            f"the loss is {found.loss} although every layer's output is finite.",
            "Look for a logarithm, a division or a label that is no number in the loss.",
        )


def log_gain(found: Examination) -> float | None:
    """What a gradient is multiplied by on its way through the hidden layers, in nats.

    A layer that begins at zero (a gate, a read-out) stops every gradient in the first step, and opens in it: then what
    counts is the way back once it is open.
    """
    if found.opened is not None:
        return found.opened.log_gain
    gains = [
        found.backward.log_gain if found.backward else None,
        found.jacobian.log_gain if found.jacobian else None,
    ]
    known = [gain for gain in gains if gain is not None and not math.isnan(gain)]
    return max(known, key=abs) if known else None


def _gradient(found: Examination) -> Iterator[Finding]:
    gain = log_gain(found)
    if gain is None or abs(gain) <= STRAINED:
        return
    kind, way = ("vanishing", "of it reaches") if gain < 0 else ("exploding", "times it reaches")
    severity: Severity = "fatal" if abs(gain) > STUCK else "warning"
    meaning = "no learning rate serves both ends" if severity == "fatal" else "the first layers learn at another pace"
    yield Finding(
        severity,
        f"{kind} gradient",
        "network",
        gain,
        f"the gradient's logarithm changes by {gain:+.1f} nats through the hidden layers "
        f"({_power(gain)} {way} the first): {meaning}.",
        "Begin with critical or orthogonal weights, scale residual branches by 1/√L, or put a norm before each layer.",
        fix="weights",
    )


def _signal(found: Examination) -> Iterator[Finding]:
    growth = found.forward.growth if found.forward else None
    if growth is None or math.isnan(growth) or abs(growth) <= GROWN:
        return
    way = "grows" if growth > 0 else "shrinks"
    yield Finding(
        "warning",
        "growing signal" if growth > 0 else "shrinking signal",
        "network",
        growth,
        f"the second moment of the activations {way} by {_power(growth)} from the first to the last layer.",
        "Match the weights to the activation (`isometry.initialise.initialise`), or put norms between the layers.",
        fix="weights",
    )


def _inputs(found: Examination) -> Iterator[Finding]:
    forward = found.forward
    if forward is None or forward.entry_correlation is None or forward.entry_correlation > APART:
        return
    last = last_hidden(forward.rows)
    if last is None or last.correlation is None or last.correlation < MERGED:
        return
    first = next(row for row in forward.rows if (row.correlation or 0.0) >= MERGED)
    yield Finding(
        "warning",
        "merging inputs",
        last.name,
        last.correlation,
        f"two different inputs have cosine {forward.entry_correlation:.2f} where they enter, more than {MERGED} from "
        f"{first.name} ({first.kind}) on, and {last.correlation:.3f} at {last.name}: the layers behind see one and the "
        "same thing.",
        "If that layer averages, it may be right; else use tanh or GELU with orthogonal or critical weights, residual "
        "branches scaled by 1/√L, or norms.",
        fix="weights",
    )


def last_hidden(rows: Sequence[ForwardRow]) -> ForwardRow | None:
    """What the read-out sees: two numbers that it hands back itself may be alike by chance."""
    places = [place for place, row in enumerate(rows) if row.has_weight]
    before = rows[: places[-1]] if len(places) > 1 else []
    return next((row for row in reversed(before) if row.correlation is not None), None)


def _units(found: Examination) -> Iterator[Finding]:
    closed = {name.rpartition(".")[0] for name in found.closed}
    rows = [row for row in found.forward.rows if row.name not in closed] if found.forward else []
    if found.forward and (found.forward.entry_correlation or 0.0) > ALIKE:
        rows = []  # of records that are the same, every unit says the same
    dead = [(max(row.dead, row.dead_in or 0.0), row) for row in rows if row.kind != "Dropout"]
    dead = [(share, row) for share, row in dead if share > MANY_DEAD]
    if dead:
        share, row = max(dead, key=lambda pair: pair[0])
        yield Finding(
            "warning",
            "dead units",
            row.name,
            share,
            f"{share:.0%} of the channels of {row.name} say the same for every record ({len(dead)} layers have more "
            f"than {MANY_DEAD:.0%} of such).",
            "Use a leaky ReLU, GELU or SiLU, biases at zero, and weights matched to the activation.",
            fix="weights",
        )
    saturated = [(max(row.saturated or 0.0, row.saturated_in or 0.0), row) for row in rows]
    share, row = max(saturated, key=lambda pair: pair[0], default=(0.0, None))
    if row is not None and share > MANY_SATURATED:
        yield Finding(
            "warning",
            "saturated units",
            row.name,
            share,
            f"{share:.0%} of the entries of {row.name} lie where the activation is flat.",
            "Make the weights before it smaller (their matched gain), standardise the inputs, or put a norm before it.",
            fix="weights",
        )


def _unreached(found: Examination) -> Iterator[Finding]:
    weights = found.backward.weights if found.backward else []
    lost = [row.name for row in weights if row.norm is None]
    if lost:
        yield Finding(
            "fatal" if len(lost) == len(weights) else "warning",
            "unused parameters",
            lost[0],
            len(lost),
            f"the loss does not depend on {len(lost)} of {len(weights)} parameters ({_some(lost)}).",
            "Remove them, freeze them, or find out why the forward pass leaves them out.",
        )
    silent = [row.name for row in weights if row.norm == 0.0]
    still = {row.name for row in found.opened.weights if row.norm == 0.0} if found.opened else set(silent)
    waiting, dead = [n for n in silent if n not in still], [n for n in silent if n in still]
    if waiting:
        yield Finding(
            "note",
            "closed at first",
            found.closed[0],
            len(waiting),
            f"{_some(list(found.closed))} begin at zero, so {len(waiting)} parameters get no gradient in the first "
            "step; they do from the second on.",
            "None needed: this is how gates and zeroed read-outs begin.",
        )
    if dead:
        yield Finding(
            "fatal" if len(dead) >= len(weights) - len(lost) - 1 else "warning",  # a last bias always gets one
            "no gradient",
            dead[0],
            len(dead),
            f"the gradient of {len(dead)} of {len(weights)} parameters is exactly zero ({_some(dead)}).",
            "Look for a detached tensor, dead units or a saturated gate after them.",
            fix="weights",
        )


def _unevenness(found: Examination) -> Iterator[Finding]:
    scatter = found.jacobian.relative_isometry_error if found.jacobian else None
    if scatter is None or not scatter > UNEVEN:
        return
    yield Finding(
        "warning",
        "uneven directions",
        "network",
        scatter,
        f"the squared singular values of the Jacobian scatter by {scatter:.0f} times their mean: few directions of the "
        "input reach the read-out.",
        "Begin with orthogonal weights, or give the layers residual paths scaled by 1/√L.",
        fix="weights",
    )


# Time, numbers, steps, symmetry


def _forgetting(layer: Recurrence) -> Iterator[Finding]:
    share = layer.first_share
    if share is None or math.isnan(share) or share >= FORGOTTEN:
        return
    yield Finding(
        "warning",
        "forgetting",
        layer.name,
        share,
        f"of the gradient at step {layer.n_steps} a share of {share:.1e} reaches the first step of "
        f"{told_in_time(layer)}: it cannot learn what lies that far back.",
        "Use an LSTM with open forget gates (`initialise(…, forget=…)` or `t_max=…`), attention, or shorter sequences.",
    )


def told_in_time(layer: Recurrence) -> str:
    """One layer in one direction of a recurrent module, as it is called in words."""
    return f"{layer.name}[{layer.layer}]{' backwards' if layer.is_reverse else ''}"


def _half(found: Examination) -> Iterator[Finding]:
    half = found.half
    if half is None or (half.start is None and half.reason is not None and not half.weights):
        return
    flushed = max(_flushed(half, "weights", "unscaled"), _flushed(half, "activations", "unscaled"))
    if half.start is None:
        yield Finding(
            "note",
            "no fp16 window",
            "network",
            flushed,
            f"no loss scale saves the gradients in fp16 without an overflow: {half.reason}",
            "Train in bf16 (--precision.dtype bf16) or fp32.",
        )
    elif flushed > MUCH_FLUSHED:
        yield Finding(
            "note",
            "fp16 needs a scale",
            "network",
            flushed,
            f"without loss scaling fp16 flushes up to {flushed:.1%} of the gradients' entries to zero; scales from "
            f"2^{math.log2(half.need or 1):.0f} to 2^{math.log2(half.allow or 1):.0f} save them.",
            f"Start at a loss scale of 2^{math.log2(half.start):.0f}; training with fp16 does so by itself.",
        )


def _flushed(half: Half, of: str, when: str) -> float:
    share = getattr(half, of).get(when)
    return share.flushed if share is not None else 0.0


def _symmetry(found: Examination) -> Iterator[Finding]:
    yield from symmetry_findings(found.symmetries)


def _memory(found: Examination) -> Iterator[Finding]:
    if found.memory == math.inf:
        yield Finding(
            "note",
            "endless memory",
            "network",
            math.inf,
            "AdaGrad sums squared gradients for ever: an early burst keeps a weight's steps small to the end.",
            "Use Adam or RMSprop where gradients are large at first.",
        )


def _too_fast(found: Examination, rate: float, momentum: float) -> Iterator[Finding]:
    """Descent with momentum β on a quadratic is stable up to 2 (1 + β) / λ_max."""
    largest = found.curvature.largest if found.curvature else None
    if largest is None or largest <= 0 or rate <= 2 * (1 + momentum) / largest:
        return
    limit = 2 * (1 + momentum) / largest
    yield Finding(
        "fatal",
        "rate too large",
        "network",
        rate,
        f"at a rate of {rate:.2g} gradient descent with momentum {momentum:g} diverges (limit {limit:.2g}).",
        f"Lower the rate below {limit / 2:.2g}.",
    )


def _power(nats: float) -> str:
    return "nothing" if nats == -math.inf else f"10^{nats / math.log(10):+.1f}"


def _some(names: Sequence[str], n_shown: int = 3) -> str:
    more = len(names) - n_shown
    return ", ".join(names[:n_shown]) + (f" and {more} more" if more > 0 else "")
