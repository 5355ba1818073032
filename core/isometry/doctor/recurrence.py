"""Recurrence: how much of a gradient comes through time, from the last step back to the first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from isometry.doctor.subject import Subject
from isometry.spell import what_failed

GATES = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new"), "RNN": ("state",)}
MOST_UNITS = 1024  # of a matrix whose eigenvalues are still taken
SYNTHETIC_SEQUENCES = 8

_Cell = nn.RNNCellBase


@dataclass(frozen=True)
class Gate:
    """One recurrent matrix, from the state to a gate before its nonlinearity."""

    name: str
    norm: float
    """Its largest singular value."""
    spectral_radius: float | None
    """Its largest |eigenvalue|; None: not square, or too large to take."""


@dataclass(frozen=True)
class Reached:
    distance: int
    """Steps back from the last one."""
    log10_share: float
    """lg of the gradient's norm there over that at the last step, root mean square over the sequences; -inf: nothing,
    or less than its numbers can tell."""


@dataclass(frozen=True)
class Recurrence:
    """One layer in one direction of a recurrent module; `layer` 0 is the first, of cells called in a loop too."""

    name: str
    kind: str
    layer: int = 0
    is_reverse: bool = False
    n_steps: int = 0
    gates: list[Gate] | None = None
    lyapunov: float | None = None
    """ln growth per step back in time of the gradient of the last output by the inputs, mean over the sequences."""
    lyapunov_error: float | None = None
    """One standard error, from the scatter of the sequences."""
    first_share: float | None = None
    """Of the last step's gradient: what reaches the first step; its logarithm, for very long ones, ends `shares`."""
    shares: list[Reached] | None = None
    """At distances 1, 2, 5, 10, … and at the first step."""
    reason: str | None = None
    """Why something is None."""


def measure_recurrence(subject: Subject) -> list[Recurrence]:
    """Every recurrent module that runs: each layer and direction by itself, on the input that it really gets.

    Modules called once per step (cells, or a layer that the network itself calls in a loop) are measured inside the
    network, over the first 64 calls.
    """
    subject.quiet()
    try:
        given = _given(subject)
    except Exception as error:
        return [Recurrence("network", "", reason=what_failed(error))]
    found: list[Recurrence] = []
    for name, calls in given.items():
        module = subject.model.get_submodule(name)
        if isinstance(module, nn.RNNBase) and _n_steps(module, calls[0]) > 1:
            found += _of_module(name, module, calls[0], subject.seed)
    return found + _of_loops(subject, {record.name for record in found})


def reach(module: nn.RNNBase, n_steps: int, like: Tensor | None = None, seed: int = 0) -> list[Recurrence]:
    """The module alone on synthetic sequences of any length.

    Args:
        like: [..., input_size] real inputs, whose mean and deviation of every feature are kept; default 0 and 1.
    """
    weight = module.weight_ih_l0
    noise = torch.randn(n_steps, SYNTHETIC_SEQUENCES, module.input_size, generator=Generator().manual_seed(seed))
    x = noise.to(weight.device, weight.dtype)  # type: ignore[arg-type]
    if like is not None:
        rows = like.detach().reshape(-1, module.input_size).to(x)
        x = rows.mean(0) + rows.std(0, correction=0) * x
    lengths = torch.full((SYNTHETIC_SEQUENCES,), n_steps)
    return _layers("", module, _Sequences(x, lengths, None), seed)


# What the modules are given


class _Sequences(NamedTuple):
    x: Tensor
    """[n_steps, n, features], padded at the end."""
    lengths: Tensor
    """[n]"""
    states: tuple[Tensor, ...] | None
    """h, or h and c, at the start: [n_layers · n_directions, n, width]."""


def _given(subject: Subject) -> dict[str, list[tuple[Any, ...]]]:
    """Arguments of each call of the recurrent modules, in one pass."""
    calls: dict[str, list[tuple[Any, ...]]] = {}
    modules = {name: m for name, m in subject.model.named_modules() if isinstance(m, nn.RNNBase)}

    @contextmanager
    def noted() -> Iterator[None]:
        def hook(name: str) -> Any:
            def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                calls.setdefault(name, []).append((*args, *kwargs.values()))

            return note

        handles = [m.register_forward_pre_hook(hook(name), with_kwargs=True) for name, m in modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    if modules:
        with noted(), torch.no_grad():
            subject.run(watch=False)
    return calls


def _n_steps(module: nn.RNNBase, call: tuple[Any, ...]) -> int:
    x = call[0]
    if isinstance(x, PackedSequence):
        return len(x.batch_sizes)
    return x.shape[1] if x.ndim == 3 and module.batch_first else x.shape[0]


def _sequences(module: nn.RNNBase, call: tuple[Any, ...]) -> _Sequences:
    x, state = call[0], call[1] if len(call) > 1 else None
    states = None if state is None else tuple(s.detach() for s in (state if isinstance(state, tuple) else (state,)))
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x)
        return _Sequences(padded.detach(), lengths, states)
    if x.ndim == 2:
        x, states = x.unsqueeze(1), None if states is None else tuple(s.unsqueeze(1) for s in states)
    elif module.batch_first:
        x = x.transpose(0, 1)
    return _Sequences(x.detach(), torch.full((x.shape[1],), x.shape[0]), states)


# Modules that run over whole sequences


def _of_module(name: str, module: nn.RNNBase, call: tuple[Any, ...], seed: int) -> list[Recurrence]:
    try:
        return _layers(name, module, _sequences(module, call), seed)
    except Exception as error:
        return [Recurrence(name, type(module).__name__, reason=what_failed(error))]


def _layers(name: str, module: nn.RNNBase, given: _Sequences, seed: int) -> list[Recurrence]:
    x, found = given.x, []
    n_directions = 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        outputs = []
        for direction in range(n_directions):
            suffix = f"l{layer}" + ("_reverse" if direction else "")
            states = _start(module, given, layer * n_directions + direction, x)
            turned = _reversed(x, given.lengths) if direction else x
            leaf = turned.detach().requires_grad_()
            output = _run(module, suffix, leaf, states)
            profile = _profile(output, leaf, given.lengths, seed)
            record = Recurrence(name, type(module).__name__, layer, bool(direction), len(x), _gates(module, suffix))
            found.append(_told(record, profile, given.lengths))
            output = output.detach()
            outputs.append(_reversed(output, given.lengths) if direction else output)
        x = torch.cat(outputs, dim=-1)
    return found


def _start(module: nn.RNNBase, given: _Sequences, index: int, x: Tensor) -> tuple[Tensor, ...]:
    if given.states is not None:
        return tuple(state[index : index + 1].contiguous() for state in given.states)
    n, width = x.shape[1], module.proj_size or module.hidden_size
    h = x.new_zeros(1, n, width)
    return (h, x.new_zeros(1, n, module.hidden_size)) if isinstance(module, nn.LSTM) else (h,)


def _run(module: nn.RNNBase, suffix: str, x: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    """One layer in one direction, by torch's own kernels -> [n_steps, n, width]."""
    names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else [])]
    names += ["weight_hr"] if module.proj_size else []
    weights = [getattr(module, f"{name}_{suffix}").detach() for name in names]
    rest = (weights, module.bias, 1, 0.0, True, False, False)  # in training mode without dropout, as cuDNN demands
    with torch.enable_grad():
        if isinstance(module, nn.LSTM):
            return torch.lstm(x, states, *rest)[0]
        kernel = torch.gru if isinstance(module, nn.GRU) else getattr(torch, module.mode.lower())
        return kernel(x, states[0], *rest)[0]


def _reversed(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence turned round within its own length; what pads it stays behind."""
    steps = torch.arange(len(x)).unsqueeze(1)
    turned = torch.where(steps < lengths, lengths - 1 - steps, steps).to(x.device)
    return x.gather(0, turned.unsqueeze(-1).expand_as(x))


def _profile(output: Tensor, x: Tensor, lengths: Tensor, seed: int) -> Tensor:
    """ln norm of the gradient of a random projection of each sequence's last output -> [n_steps, n], by step.

    A gradient that underflows is taken once more, multiplied by what the range of numbers allows.
    """
    last, columns = lengths.to(output.device) - 1, torch.arange(len(lengths), device=output.device)
    noise = torch.randn(output.shape[1:], generator=Generator().manual_seed(seed), dtype=torch.float64)
    cotangent = (noise / noise.norm(dim=-1, keepdim=True)).to(output)

    def at(scale: float) -> Tensor:
        (gradient,) = torch.autograd.grad(output[last, columns], x, cotangent * scale, retain_graph=True)
        logs = torch.linalg.vector_norm(gradient, dim=-1, dtype=torch.float64).log().cpu()
        return logs.masked_fill(logs < least, -math.inf) - math.log(scale)

    least = math.log(torch.finfo(x.dtype).tiny * 1e6)  # below, some of the entries may be lost already
    most = 0.25 * math.log(torch.finfo(x.dtype).max)
    logs = at(1.0)
    is_within = torch.arange(len(x)).unsqueeze(1) < lengths
    if bool(((logs < -most) & is_within).any()):
        larger = at(2.0 ** round(3 * most / math.log(2)))
        logs = torch.where((logs < -most) & larger.isfinite(), larger, logs)
    return logs.masked_fill(~is_within, math.nan)


# Modules called once per step


def _of_loops(subject: Subject, known: set[str]) -> list[Recurrence]:
    """Layers with a weight whose last call depends on the input of their first."""
    calls: dict[str, list[str]] = {}
    for layer in subject.layers:
        name = layer.name.partition("@")[0]
        if name not in known and (layer.has_weight or isinstance(layer.module, _Cell | nn.RNNBase)):
            calls.setdefault(name, []).append(layer.name)
    loops = {name: keys for name, keys in calls.items() if len(keys) > 2}
    if not loops:
        return []
    try:
        leaves = {path: leaf.detach().clone().requires_grad_() * 1 for path, leaf in subject.leaves.items()}
        seen = subject.run(leaves or None)
        return [record for name, keys in loops.items() for record in _of_loop(subject, seen, name, keys)]
    except Exception as error:
        return [Recurrence(name, "", reason=what_failed(error)) for name in loops]


def _of_loop(subject: Subject, seen: Any, name: str, keys: list[str]) -> list[Recurrence]:
    module = subject.model.get_submodule(name)
    inputs = [seen.inputs.get(key) for key in keys]
    output = seen.outputs.get(keys[-1])
    distinct = {id(x) for x in inputs if x is not None and x.requires_grad}
    if output is None or len(distinct) < len(keys) or len({x.shape for x in inputs if x is not None}) > 1:
        return []
    cotangent = torch.randn(output.shape, generator=Generator().manual_seed(subject.seed)).to(output)
    found = torch.autograd.grad(output, inputs, cotangent, retain_graph=True, allow_unused=True)
    if found[0] is None:  # no loop: each call is on its own
        return []
    rows = [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]
    norms = [torch.linalg.vector_norm(_rows(row), dim=1, dtype=torch.float64) for row in rows]
    logs = torch.stack(norms).log().cpu()
    lengths = torch.full((logs.shape[1],), len(keys))
    record = Recurrence(name, type(module).__name__, n_steps=len(keys), gates=_gates_of_cell(module))
    return [_told(record, logs, lengths)]


def _rows(gradient: Tensor) -> Tensor:
    """[n, features], one row per record."""
    real = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    return real.reshape(len(real), -1) if gradient.ndim > 1 else real.reshape(1, -1)


# What it says


def _gates(module: nn.RNNBase, suffix: str) -> list[Gate] | None:
    weight = getattr(module, f"weight_hh_{suffix}").detach()
    if module.proj_size:
        weight = weight @ getattr(module, f"weight_hr_{suffix}").detach()
    return _gates_in(weight, GATES[module.mode.partition("_")[0]])


def _gates_of_cell(module: nn.Module) -> list[Gate] | None:
    if isinstance(module, _Cell):
        kind = type(module).__name__.removesuffix("Cell")
        return _gates_in(module.weight_hh.detach(), GATES.get(kind, ("state",)))  # type: ignore[union-attr]
    if isinstance(module, nn.RNNBase):
        return _gates(module, "l0")
    weight = getattr(module, "weight", None)
    is_square = isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return _gates_in(weight.detach(), ("state",)) if is_square else None  # type: ignore[union-attr]


def _gates_in(weight: Tensor, names: tuple[str, ...]) -> list[Gate] | None:
    if not bool(weight.isfinite().all()):
        return None
    parts = zip(names, weight.cpu().double().chunk(len(names)), strict=True)
    return [Gate(name, float(torch.linalg.matrix_norm(part, 2)), _spectral_radius(part)) for name, part in parts]


def _spectral_radius(matrix: Tensor) -> float | None:
    if matrix.shape[0] != matrix.shape[1] or len(matrix) > MOST_UNITS:
        return None
    return float(torch.linalg.eigvals(matrix).abs().max())


def _told(record: Recurrence, logs: Tensor, lengths: Tensor) -> Recurrence:
    """Args: logs: [n_steps, n] ln of the gradient's norm by step; NaN after a sequence's end."""
    columns = [logs[: int(n), i].flip(0).tolist() for i, n in enumerate(lengths)]  # by distance from the last step
    rates = [rate for column in columns if (rate := _rate(column)) is not None]
    shares = [Reached(d, share) for d in _distances(int(lengths.max())) if (share := _share(columns, d)) is not None]
    if not rates:
        return replace(record, shares=shares or None, reason="no gradient leaves the last step, or it is not finite")
    rate = fmean(rates)
    error = stdev(rates) / math.sqrt(len(rates)) if len(rates) > 1 and math.isfinite(rate) else None
    first = 10.0 ** min(shares[-1].log10_share, 300.0) if shares else None
    return replace(record, lyapunov=rate, lyapunov_error=error, first_share=first, shares=shares)


def _rate(column: list[float]) -> float | None:
    """ln growth per step, as far back as numbers go; -inf: nothing goes back a single step."""
    if len(column) < 2 or not math.isfinite(column[0]):
        return None
    n = next((d for d, log in enumerate(column) if not math.isfinite(log)), len(column)) - 1
    if n == 0:
        return -math.inf if column[1] == -math.inf else None
    return (column[n] - column[0]) / n


def _distances(n_steps: int) -> list[int]:
    decades = [lead * 10**power for power in range(len(str(n_steps))) for lead in (1, 2, 5)]
    return [d for d in decades if d < n_steps - 1] + ([n_steps - 1] if n_steps > 1 else [])


def _share(columns: list[list[float]], distance: int) -> float | None:
    """lg of the root mean square over the sequences long enough; None where a gradient is not finite."""
    known = [(c[0], c[distance]) for c in columns if len(c) > distance and c[0] > -math.inf]
    if not known or any(math.isnan(x) or x == math.inf for pair in known for x in pair):
        return None
    last, there = (torch.tensor(logs, dtype=torch.float64) for logs in zip(*known, strict=True))
    return float(torch.logsumexp(2 * there, 0) - torch.logsumexp(2 * last, 0)) / (2 * math.log(10))
