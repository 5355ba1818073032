"""Health: how a network fares while it trains, looked at every so many steps; between two looks it costs nothing.

health = Health(model, every=100)
for step in range(1, n_steps + 1):
    with health.look(step) as look:            # None between looks
        loss(model, batch).backward()
        if look: look.gradients()              # complete, unscaled, not yet clipped
        optimizer.step()
        if look: look.updates()
    if look: print(look.record().findings)

A look draws no random number, changes no bit of the network, and needs room for one copy of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from isometry.doctor.complaints import AT_ONCE, complaints
from isometry.doctor.findings import Finding
from isometry.doctor.probe import NETWORK, Probes, is_alive, is_compiled, norm_of

FEWEST_VALUES = 128  # in a row that a unit must be silent for to count as dead

_NO_LOOK: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True)
class HealthRecord:
    """What one look showed."""

    layers: dict[str, dict[str, float]]
    """By layer, in the order of execution; each has those of these that could be measured:
    activation (root mean square of its outputs), gradient (root mean square over its weights), update (‖Δw‖/‖w‖ of
    this step, over its matrices), dead (share of its units), not_finite (share of its outputs)."""
    spread: float | None
    """Nats between the largest and the smallest gradient of two layers with a matrix, those of exactly 0 aside."""
    n_zero: int
    """Layers with a matrix whose gradient is exactly 0."""
    scale: float | None
    """Of the loss; None without one."""
    findings: list[Finding]
    """Those not yet told. Each is told once, when it holds at two looks in a row (non-finite numbers: at once)."""

    def fields(self) -> dict[str, Any]:
        """As plain data; numbers with four digits."""
        layers = {name: {what: _short(x) for what, x in seen.items()} for name, seen in self.layers.items()}
        return asdict(self) | {"layers": layers, "spread": None if self.spread is None else _short(self.spread)}

    def scalars(self) -> dict[str, float]:
        """Every number under one flat name: "gradient/encoder.0"."""
        flat = {f"{what}/{name}": x for name, seen in self.layers.items() for what, x in seen.items()}
        whole = {"spread": self.spread, "n_zero": float(self.n_zero), "scale": self.scale}
        return flat | {name: x for name, x in whole.items() if x is not None}

    def summary(self) -> dict[str, float]:
        """The extremes over the layers, and what is said of the whole."""
        extremes = {"dead": max, "not_finite": max, "update": max, "smallest_update": min}
        found = {name: (pick, self._of_layers(name.removeprefix("smallest_"))) for name, pick in extremes.items()}
        whole = {name: x for name, x in self.scalars().items() if "/" not in name}
        return whole | {name: pick(numbers) for name, (pick, numbers) in found.items() if numbers}

    def _of_layers(self, what: str) -> list[float]:
        return [seen[what] for seen in self.layers.values() if what in seen]


class Health:
    """Watches one network.

    Args:
        model: as it is, compiled or wrapped for data parallelism; compiled ones are watched without their activations,
            those in shards not at all.
        every: steps between two looks, the first at step 1; 0: never.
    """

    def __init__(self, model: nn.Module, every: int = 100) -> None:
        self.every, self.network = every, unwrapped(model)
        self.may_hook = not is_compiled(model)
        self._silent: dict[str, Tensor] = {}  # [n_units] values in a row without a sign of life
        self._values: dict[str, int] = {}  # of each unit, seen so far
        self._last: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()

    def is_due(self, step: int) -> bool:
        """Whether the step about to be taken, counted from 1, is one to look at."""
        return self.every > 0 and (step % self.every == 0 or step == 1)

    def look(self, step: int) -> AbstractContextManager[Look | None]:
        """Surrounds the step about to be taken."""
        return self._looking() if self.is_due(step) else _NO_LOOK

    def begin(self) -> Look | None:
        """A look, begun; to be ended by `close`. None where the network is not at hand as whole tensors."""
        parameters = list(self.network.parameters())
        is_whole = all(not hasattr(p, "full_tensor") and p.numel() > 0 and not p.is_meta for p in parameters)
        return Look(self) if is_whole and parameters else None

    @contextmanager
    def _looking(self) -> Iterator[Look | None]:
        look = self.begin()
        try:
            yield look
        finally:
            if look is not None:
                look.close()

    def state_dict(self) -> dict[str, Any]:
        """What later looks depend on: a run that goes on tells what the unbroken one would."""
        pairs = {"last": self._last, "told": self._told}
        lists = {name: [list(key) for key in sorted(keys)] for name, keys in pairs.items()}
        return {"silent": dict(self._silent), "values": dict(self._values), **lists}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """None, of a run that was not watched, changes nothing."""
        if state is None:
            return
        self._silent = dict(state["silent"])
        self._values = dict(state["values"])
        self._last, self._told = ({(name, where) for name, where in state[key]} for key in ("last", "told"))

    def _count_silent(self, name: str, is_silent: Tensor, n_values: int) -> Tensor | None:
        """The share of dead units; None while too little was seen."""
        before = self._silent.get(name)
        if before is None or before.shape != is_silent.shape:
            before, self._values[name] = torch.zeros_like(is_silent, dtype=torch.int64), 0
        self._silent[name] = (before.to(is_silent.device) + n_values) * is_silent
        self._values[name] += n_values
        if self._values[name] < FEWEST_VALUES:
            return None
        return (self._silent[name] >= FEWEST_VALUES).float().mean()

    def _untold(self, found: list[Finding]) -> list[Finding]:
        keys = {(finding.name, finding.where) for finding in found}
        lasting = {key for key in keys if key in self._last or key[0] == AT_ONCE}
        new = [f for f in found if (f.name, f.where) in lasting - self._told]
        self._last, self._told = keys, self._told | lasting
        return new


class Look:
    """One look, at one step; `Health.look` makes it."""

    def __init__(self, health: Health) -> None:
        self.health = health
        self._layers = _trainable(health.network)
        self._probes = Probes(health.network, may_hook=health.may_hook)
        self._seen: dict[str, dict[str, Tensor]] = {}
        self._before: dict[nn.Parameter, Tensor] = {}
        self._silent_rows: dict[str, Tensor] = {}

    @torch.no_grad()
    def gradients(self, scale: float | Tensor = 1.0, only: Container[nn.Parameter] | None = None) -> None:
        """Before the optimizer's step: the gradients are complete. Watching the layers ends here.

        Args:
            scale: what the gradients still are multiplied by.
            only: the parameters that this step changes; None: all.
        """
        self._probes.remove()
        for name, parameters in self._layers.items():
            own = {p: _values(p.grad) for p in parameters if p.grad is not None and (only is None or p in only)}
            own = {p: gradient for p, gradient in own.items() if gradient.numel()}
            if not own:
                continue
            n = sum(p.numel() for p in own)
            self._tell(name, "gradient", _norm_of_all(own.values()) / scale / math.sqrt(n))
            self._note_rows(name, own)
            self.keep_weights(own)

    @torch.no_grad()
    def keep_weights(self, only: Iterable[nn.Parameter]) -> None:
        """Before the optimizer's step, if the gradients come within it (from a closure)."""
        self._before |= {p: p.detach().clone() for p in only if _is_matrix(p) and p not in self._before}

    @torch.no_grad()
    def updates(self) -> None:
        """After the optimizer's step, where one was taken."""
        for name, parameters in self._layers.items():
            before = {p: self._before[p] for p in parameters if p in self._before}
            if before:
                change = _norm_of_all(p.detach() - old for p, old in before.items())
                self._tell(name, "update", change / _norm_of_all(before.values()))
        self._before.clear()

    @torch.no_grad()
    def record(self, scale: float | None = None) -> HealthRecord:
        """What was seen, and what of it is worth a word."""
        self._read_probes()
        layers = self._numbers()
        matrices = frozenset(name for name, own in self._layers.items() if any(map(_is_matrix, own)))
        sizes = [seen["gradient"] for name, seen in layers.items() if name in matrices and "gradient" in seen]
        positive = [size for size in sizes if 0 < size < math.inf]
        spread = math.log(max(positive) / min(positive)) if positive else None
        found = self.health._untold(complaints(layers, matrices, scale))
        return HealthRecord(layers, spread, sizes.count(0.0), scale, found)

    def close(self) -> None:
        """Leave nothing behind in the network."""
        self._probes.remove()
        self._before.clear()

    def _tell(self, name: str, what: str, number: Tensor) -> None:
        self._seen.setdefault(name, {})[what] = number

    def _note_rows(self, name: str, gradients: dict[nn.Parameter, Tensor]) -> None:
        """Rows of zeros tell dead units whatever the activation; where all are zero, the reason lies elsewhere."""
        module = self.health.network.get_submodule(name) if name != NETWORK else self.health.network
        is_mixing = isinstance(module, nn.Linear | _ConvNd) and not isinstance(module, _ConvTransposeNd)
        weight = next((g for p, g in gradients.items() if p is getattr(module, "weight", None)), None)
        if is_mixing and weight is not None:
            alive = is_alive(weight, 0)
            self._silent_rows[name] = ~alive & alive.any()

    def _read_probes(self) -> None:
        for name, probe in self._probes.of.items():
            self._tell(name, "activation", probe.norm / math.sqrt(probe.n_numbers))
            self._tell(name, "not_finite", probe.n_not_finite / probe.n_numbers)
            silent = probe.silenced if probe.silenced is not None else self._silent_rows.get(name)
            share = None if silent is None else self.health._count_silent(name, silent, probe.n_values)
            if share is not None:
                self._tell(name, "dead", share)

    def _numbers(self) -> dict[str, dict[str, float]]:
        """By layer, in the order of execution; read from the device all at once. An update of weights of 0 is none."""
        names = dict.fromkeys([*self._probes.of, *self._seen])
        keys = [(name, what) for name in names for what in self._seen.get(name, {})]
        if not keys:
            return {}
        device = next(self.health.network.parameters()).device
        numbers = torch.stack([self._seen[name][what].to(device, torch.float32) for name, what in keys]).tolist()
        layers: dict[str, dict[str, float]] = {name: {} for name in names}
        for (name, what), x in zip(keys, numbers, strict=True):
            if what != "update" or math.isfinite(x):
                layers[name][what] = x
        return layers


def unwrapped(model: nn.Module) -> nn.Module:
    """The network itself, out of what compiles or distributes it."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        else:
            return model


def _trainable(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    """By the layer that owns them; a parametrised weight belongs to its layer."""
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            owner = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
            layers.setdefault(owner or NETWORK, []).append(parameter)
    return layers


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _norm_of_all(tensors: Iterable[Tensor]) -> Tensor:
    return norm_of(torch.stack([norm_of(tensor) for tensor in tensors]))


def _short(number: float) -> float:
    return float(f"{number:.4g}")
