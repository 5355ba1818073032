"""Products with a network's Jacobian, without ever forming it: J v forward, Jᵀ u backward.

products = Products(subject)
products.forward(v)     # J v
products.pushed(v)      # ... and the tangent at every layer, in the same pass
products.backward(u)    # Jᵀ u: the gradient of ⟨u, end⟩ by what enters

Vectors are flat, in float64; a complex number is a pair of reals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from isometry.doctor.leaves import Path, first_float
from isometry.doctor.still import differentiable_twice
from isometry.doctor.subject import Layer, Seen, Subject, rms

Method = Literal["forward mode", "double reverse", "differences"]
Key = Path | str
"""What enters: a leaf of the batch, or the offset of a layer's output."""


class Site(NamedTuple):
    """What goes into or comes out of a layer."""

    layer: str
    side: Literal["input", "output"]

    def of(self, seen: Seen) -> Tensor:
        return (seen.inputs if self.side == "input" else seen.outputs)[self.layer]

    def __str__(self) -> str:
        return f"{self.side} of {self.layer or 'the network'}"


@dataclass
class Pushed:
    """J v, and what it was on the way."""

    end: Tensor
    """[n_outputs]"""
    log_rms: dict[Site, float] = field(default_factory=dict)
    """ln of the tangent's root mean square, for each layer it reaches; -inf where it is 0."""


class _Attempt(NamedTuple):
    method: Method
    has_plain_kernels: bool = True
    has_graph: bool = True


_FAST = _Attempt("forward mode", has_plain_kernels=False, has_graph=False)
_THRIFTY = _Attempt("differences", has_plain_kernels=False, has_graph=False)
_EXACT = (
    _Attempt("forward mode", has_graph=False),
    _Attempt("forward mode"),
    _Attempt("double reverse"),
)


class _Arrived(BaseException):
    """What ends a pass at `end`; no `except Exception` of the network's keeps it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Products:
    """J between what enters (`subject.entry`, else the first of `subject.gates`) and `end`, in the quiet mood.

    `end` is what the last layer hands back; if the last layer with a weight only narrows (a read-out), what enters
    that. J v is taken by the first method that this network allows: forward mode, double reverse (J v is the
    derivative of Jᵀ u by u), central differences. The fused kernels of recurrent nets know no forward mode, and their
    plain form is tens of times slower: a thrifty caller gets central differences there.

    Raises:
        ValueError: nothing real-valued enters the network, or nothing of it comes out.
    """

    def __init__(self, subject: Subject, *, is_thrifty: bool = False) -> None:
        self.subject = subject
        subject.quiet()
        has_recurrence = any(isinstance(module, nn.RNNBase) for module in subject.model.modules())
        self._attempts = [*([_THRIFTY] if is_thrifty and has_recurrence else []), _FAST, *_EXACT, _THRIFTY]
        self._twice: tuple[list[Site], list[Tensor], list[Tensor]] | None = None
        self.scale = 1.0
        """By which vectors are multiplied on their way through the network, so that nothing underflows."""
        self._keys, self._values = self._entries()
        self._seen, self._reverse = self._graph()
        self._reached = _downstream([site.of(self._seen) for site in _sites(self._seen)], self._reverse)
        self.depth: list[Layer] = self._weight_layers()
        """The layers with a weight between what enters and `end`, in the order of execution."""
        self.end = self._find_end()
        end = self.end.of(self._seen)
        self.n_inputs, self.n_outputs = sum(map(_size, self._values)), _size(end)
        self.vector = {"dtype": torch.float32 if end.device.type == "mps" else torch.float64, "device": end.device}

    @property
    def start(self) -> str:
        return "input" if self.subject.entry else str(Site(self.subject.gates[0], "output"))

    @property
    def method(self) -> Method:
        return self._attempts[0].method

    @property
    def epsilon(self) -> float:
        """Of the network's own arithmetic."""
        return max(torch.finfo(t.dtype).eps for t in (*self._values, self.end.of(self._seen)))

    @property
    def signal(self) -> float:
        """Root mean square of what comes out at `end`."""
        return rms(self.end.of(self._seen))

    def forward(self, v: Tensor) -> Tensor:
        """J v, v of shape [n_inputs] -> [n_outputs]; the cost of one forward pass or two."""
        return self._end_of(self._tried(v, is_watched=False))

    def pushed(self, v: Tensor) -> Pushed:
        """J v, and what it was on the way."""
        tangents = self._tried(v, is_watched=True)
        logs = {site: _log(_rms(tangent)) - math.log(self.scale) for site, tangent in tangents.items()}
        return Pushed(self._end_of(tangents), logs)

    def backward(self, u: Tensor) -> Tensor:
        """Jᵀ u, u of shape [n_outputs]; the cost of one backward pass."""
        end = self.end.of(self._seen)
        (cotangent,) = _shaped(u * self.scale, [end])
        found = torch.autograd.grad(end, self._reverse, cotangent, retain_graph=True, allow_unused=True)
        pairs = zip(found, self._values, strict=True)
        return self._flat([torch.zeros_like(value) if x is None else x for x, value in pairs])

    def fall_back(self) -> bool:
        """To the next method; False if there is none."""
        if len(self._attempts) == 1:
            return False
        self._attempts.pop(0)
        return True

    def fit_scale(self, pushed: Pushed) -> bool:
        """Chooses `scale` so that what was pushed lies amid the range of numbers; whether that is worth a new pass.

        A tangent that came to inf has left it upwards, one that came to 0 after small ones downwards.
        """
        known = [x for x in pushed.log_rms.values() if math.isfinite(x)]
        if not known or self.scale != 1.0:
            return False
        most = 0.9 * math.log(min(torch.finfo(t.dtype).max for t in (*self._values, self.end.of(self._seen))))
        is_over = any(math.isnan(x) or x == math.inf for x in pushed.log_rms.values())
        is_under = -math.inf in pushed.log_rms.values() and min(known) < -most / 4
        if is_over or is_under:
            self.scale = 2.0 ** round((-most - min(known) if is_over else most - max(known)) / math.log(2))
        return is_over or is_under

    # What enters and what comes out

    def _entries(self) -> tuple[list[Key], list[Tensor]]:
        if self.subject.entry:
            return list(self.subject.entry), [self.subject.leaves[path].detach() for path in self.subject.entry]
        if not self.subject.gates:
            raise ValueError("nothing real-valued enters the network: the batch has no such leaf, no layer makes one")
        with torch.no_grad(), _as_trained(self.subject.model):
            output = self.subject.run().outputs[self.subject.gates[0]]
        return [self.subject.gates[0]], [torch.zeros_like(output)]

    def _run(self, values: Sequence[Tensor], *, is_watched: bool = True) -> Seen:
        """One pass; without a watch it ends at `end`, and that is all it shows."""
        given: Any = dict(zip(self._keys, values, strict=True))
        leaves, offsets = (given, None) if self.subject.entry else (None, given)
        with _as_trained(self.subject.model):
            if is_watched:
                return self.subject.run(leaves, offsets)
            try:
                with self._stopped_at_end():
                    self.subject.run(leaves, offsets, watch=False)
            except _Arrived as arrived:
                tensor = first_float(arrived.value)
                if tensor is not None:
                    side = {self.end.layer: tensor}
                    return Seen(tensor, side, {}) if self.end.side == "input" else Seen(tensor, {}, side)
        raise RuntimeError(f"a pass did not come to the {self.end}")

    @contextmanager
    def _stopped_at_end(self) -> Iterator[None]:
        layer = next(layer for layer in self.subject.layers if layer.name == self.end.layer)
        n_calls = 0

        def stop(_module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            nonlocal n_calls
            n_calls += 1
            if n_calls == layer.call:
                raise _Arrived((args, kwargs) if self.end.side == "input" else output)

        if self.end.side == "input":
            handle = layer.module.register_forward_pre_hook(stop, with_kwargs=True)
        else:
            handle = layer.module.register_forward_hook(stop, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _graph(self) -> tuple[Seen, list[Tensor]]:
        """One pass whose graph all products backward share; plain kernels where the fast ones cannot do it."""
        with torch.enable_grad():
            leaves = [value.clone().requires_grad_() for value in self._values]
            try:
                return self._run([leaf * 1 for leaf in leaves]), leaves  # in-place layers may not write on leaves
            except RuntimeError:
                with differentiable_twice():
                    return self._run([leaf * 1 for leaf in leaves]), leaves

    def _weight_layers(self) -> list[Layer]:
        """Those that what enters reaches. A look-up of integers mixes nothing; a whole with such parts is no layer."""
        candidates = [layer for layer in self.subject.layers if layer.has_weight and layer.name in self._seen.inputs]
        wholes = {parent for layer in candidates for parent in _parents(layer.name)}
        own = [layer for layer in candidates if layer.name.partition("@")[0] not in wholes]
        return [layer for layer in own if self._is_reached(Site(layer.name, "input"))]

    def _find_end(self) -> Site:
        last = self.depth[-1] if self.depth else None
        if last is not None and len(self.depth) > 1:
            into = self._seen.inputs[last.name]
            out = self._seen.outputs.get(last.name)
            if out is not None and out.numel() < into.numel():
                self.depth = self.depth[:-1]
                return Site(last.name, "input")
        for name in reversed(self._seen.outputs):
            if self._is_reached(Site(name, "output")) and name not in self._keys:
                return Site(name, "output")
        raise ValueError("nothing that enters the network as real numbers reaches a layer's output")

    def _is_reached(self, site: Site) -> bool:
        return site.of(self._seen).grad_fn in self._reached

    # J v, three ways; each gives the tangents at all sites

    def _tried(self, v: Tensor, is_watched: bool) -> dict[Site, Tensor]:
        """The tangents at every site, or at `end` alone, by the first method that works."""
        while True:
            attempt = self._attempts[0]
            tangents = _shaped(v * self.scale, self._values)
            try:
                with _mode(attempt):
                    if attempt.method == "double reverse":
                        return self._by_double_reverse(tangents)
                    way = self._by_forward_mode if attempt.method == "forward mode" else self._by_differences
                    return way(tangents, is_watched)
            except Exception:
                if not self.fall_back():
                    raise

    def _by_forward_mode(self, tangents: list[Tensor], is_watched: bool) -> dict[Site, Tensor]:
        with forward_ad.dual_level():
            pairs = zip(self._values, tangents, strict=True)
            duals = [forward_ad.make_dual(value.clone(), tangent) for value, tangent in pairs]
            seen = self._run(duals, is_watched=is_watched)
            found = {site: forward_ad.unpack_dual(site.of(seen)).tangent for site in _sites(seen)}
            return {site: tangent for site, tangent in found.items() if tangent is not None}

    def _by_double_reverse(self, tangents: list[Tensor]) -> dict[Site, Tensor]:
        if self._twice is None:
            self._twice = self._graph_of_gradients()
        sites, cotangents, gradients = self._twice
        found = torch.autograd.grad(gradients, cotangents, tangents, retain_graph=True, allow_unused=True)
        return {site: x.detach() for site, x in zip(sites, found, strict=True) if x is not None}

    def _graph_of_gradients(self) -> tuple[list[Site], list[Tensor], list[Tensor]]:
        leaves = [value.clone().requires_grad_() for value in self._values]
        seen = self._run([leaf * 1 for leaf in leaves])
        sites = [site for site in _sites(seen) if site.of(seen).requires_grad]
        outputs = [site.of(seen) for site in sites]
        cotangents = [torch.zeros_like(output, requires_grad=True) for output in outputs]
        gradients = torch.autograd.grad(outputs, leaves, cotangents, create_graph=True)
        return sites, cotangents, list(gradients)

    def _by_differences(self, tangents: list[Tensor], is_watched: bool) -> dict[Site, Tensor]:
        """Central, in the network's own precision: relative error some ε^(2/3)."""
        size = max(rms(tangent) for tangent in tangents) or 1.0
        step = self.epsilon ** (1 / 3) * max(1e-3, *(rms(value) for value in self._values)) / size
        pairs = list(zip(self._values, tangents, strict=True))
        ahead, behind = (self._run([x + s * step * t for x, t in pairs], is_watched=is_watched) for s in (1, -1))
        sites = [site for site in _sites(ahead) if site.of(ahead).shape == site.of(behind).shape]
        return {site: (site.of(ahead) - site.of(behind)).detach() / (2 * step) for site in sites}

    def _end_of(self, tangents: dict[Site, Tensor]) -> Tensor:
        end = tangents.get(self.end)
        return torch.zeros(self.n_outputs, **self.vector) if end is None else self._flat([end])

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        reals = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
        return torch.cat([t.detach().reshape(-1).to(**self.vector) for t in reals]) / self.scale


@contextmanager
def _as_trained(model: nn.Module) -> Iterator[None]:
    """cuDNN's recurrent kernels refuse a backward pass in evaluation mode; without dropout both modes are the same."""
    found = [m for m in model.modules() if isinstance(m, nn.RNNBase)] if torch.cuda.is_available() else []
    before = [(module, module.training, module.dropout) for module in found]
    try:
        for module in found:
            module.training, module.dropout = True, 0.0
        yield
    finally:
        for module, training, dropout in before:
            module.training, module.dropout = training, dropout


@contextmanager
def _mode(attempt: _Attempt) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(attempt.has_graph))
        if attempt.has_plain_kernels:
            stack.enter_context(differentiable_twice())
        yield


def _sites(seen: Seen) -> list[Site]:
    return [Site(name, "input") for name in seen.inputs] + [Site(name, "output") for name in seen.outputs]


def _size(tensor: Tensor) -> int:
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def _shaped(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector cut into tensors of these shapes and types."""
    parts = flat.split([_size(t) for t in like])
    real = [part.to(t.real.dtype) for part, t in zip(parts, like, strict=True)]
    pairs = zip(real, like, strict=True)
    return [torch.view_as_complex(x.reshape(*t.shape, 2)) if t.is_complex() else x.reshape(t.shape) for x, t in pairs]


def _parents(name: str) -> list[str]:
    """Of a qualified name: "a.b.c" lies in "a.b", "a" and the network itself, ""."""
    parts = name.partition("@")[0].split(".")
    return [".".join(parts[:n]) for n in range(len(parts))]


def _downstream(tensors: Sequence[Tensor], leaves: Sequence[Tensor]) -> set[Any]:
    """The graph's nodes, among those that the tensors were computed by, that depend on a leaf."""
    users: dict[Any, list[Any]] = {}
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        for source, _ in node.next_functions:
            if source is not None:
                users.setdefault(source, []).append(node)
                if source not in known:
                    known.add(source)
                    waiting.append(source)
    own = {id(leaf) for leaf in leaves}
    waiting = [node for node in known if id(getattr(node, "variable", None)) in own]
    reached = set(waiting)
    while waiting:
        new = [user for user in users.get(waiting.pop(), []) if user not in reached]
        reached.update(new)
        waiting += new
    return reached


def _rms(tangent: Tensor) -> float:
    """Root mean square; in float64, so that squares stay in range."""
    if not tangent.numel():
        return 0.0
    real = torch.view_as_real(tangent.resolve_conj()) if tangent.is_complex() else tangent
    return float(torch.linalg.vector_norm(real, dtype=torch.float64)) / math.sqrt(tangent.numel())


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan
