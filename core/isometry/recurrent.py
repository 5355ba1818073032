"""Recurrent nets: LSTM, GRU or plain tanh, in one or both directions, over padded sequences of any lengths.

Both directions are nets of their own over the padded batch; for the backward one each sequence is turned round in its
place. On a CPU that is several times faster than packed sequences, and padding never reaches a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional

from isometry.blocks import residual_scale
from isometry.initialise import Projection, initialise

Kind = Literal["lstm", "gru", "tanh"]
NETS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN}

State = list[Tensor | tuple[Tensor, Tensor]]
"""What a stack remembers, layer by layer: h, for an LSTM (h, c), each [1, n, width]."""


class Recurrent(nn.Module):
    """A stack of recurrent layers that hands back what it holds after every step.

    Recurrent weights are orthogonal gate by gate. The gates that keep the state start so that memories of 1 … t_max
    steps are all there: over 1,000 steps an LSTM then keeps 2e-3 … 2e-2 of its gradient, where forget biases of 2 keep
    1e-21 and plain tanh nothing. For short sequences set t_max to a few times their length.

    Args:
        n_in: features of a step.
        width: of the state, in each direction; a bidirectional net hands on twice as many features.
        is_normed: layer norm of every layer's input.
        is_residual: x + s F(x) around every layer, s = 1/√n_layers; behind a projection where the widths differ.
        dropout: of every layer's input, one mask for all steps of a sequence; recurrent connections keep theirs.
        t_max: the longest memory in steps; None: all those gates have bias `forget` instead.
    Source: Hochreiter & Schmidhuber 1997; Cho et al. 2014, arXiv:1406.1078; t_max: Tallec & Ollivier 2018,
        arXiv:1804.11188; one mask over time: Gal & Ghahramani 2016, arXiv:1512.05287, there on recurrent
        connections, too.
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        n_layers: int = 1,
        kind: Kind = "lstm",
        *,
        is_bidirectional: bool = False,
        is_normed: bool = False,
        is_residual: bool = False,
        dropout: float = 0.0,
        t_max: int | None = 3000,
        forget: float = 1.0,
    ):
        super().__init__()
        if kind not in NETS:
            raise ValueError(f"recurrent net of kind {kind!r}; expected one of {', '.join(NETS)}")
        if min(n_in, width, n_layers) < 1:
            raise ValueError(f"n_in {n_in}, width {width}, n_layers {n_layers}; expected positive numbers")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 <= dropout < 1")
        self.n_in, self.n_out, self.is_bidirectional = n_in, width * (2 if is_bidirectional else 1), is_bidirectional
        has_entry = is_residual and n_in != self.n_out
        self.entry = Projection(n_in, self.n_out) if has_entry else nn.Identity()
        scale = residual_scale(n_layers) if is_residual else None
        first = self.n_out if has_entry else n_in
        self.layers = nn.ModuleList(
            _Layer(first if i == 0 else self.n_out, width, kind, is_bidirectional, is_normed, scale, dropout)
            for i in range(n_layers)
        )
        for net in self.modules():
            if isinstance(net, nn.RNNBase):
                net.t_max = t_max  # another initialisation of the whole model keeps it
        initialise(self, "linear", keep=1 - dropout, forget=forget)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Reads whole sequences from a state of zeros.

        Args:
            x: [n, length, n_in]; what stands beyond a sequence's length, even NaN, changes nothing.
            lengths: [n] steps of each sequence, whole numbers up to `length`; default all.
        Returns:
            [n, length, width or 2 · width]; zeros beyond a sequence's length.
        """
        self._check(x, lengths)
        if lengths is None:
            return self._read(x, None, None)[0]
        lengths = lengths.to(x.device)
        is_padding = (torch.arange(x.shape[1], device=x.device) >= lengths[:, None])[..., None]
        out, _ = self._read(x.masked_fill(is_padding, 0), lengths, None)
        return out.masked_fill(is_padding, 0)

    def read_in_chunks(self, x: Tensor, size: int) -> Tensor:
        """`forward` of unpadded sequences, `size` steps at a time, in both directions.

        Each net hands its state from chunk to chunk, so nothing is approximated; beyond a layer's input and output it
        takes the memory of one chunk. For very long sequences, without gradients.
        """
        self._check(x, None)
        if size < 1:
            raise ValueError(f"chunks of {size} steps; expected at least 1")
        return self._read(x, None, None, size)[0]

    def advance(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Reads on from a state: chunk by chunk the same as all at once, in the memory of one chunk.

        Raises:
            ValueError: a bidirectional net, which must see the end first.
        """
        if self.is_bidirectional:
            raise ValueError("a bidirectional net cannot read on in chunks: its backward half begins at the end")
        self._check(x, None)
        return self._read(x, None, state)

    def _read(
        self, x: Tensor, lengths: Tensor | None, state: State | None, size: int | None = None
    ) -> tuple[Tensor, State]:
        ends: State = []
        with _fitting_kernels(x, *self.parameters()):
            x = self.entry(x)
            for i, layer in enumerate(self.layers):
                x, end = layer(x, lengths, None if state is None else state[i], size)
                ends.append(end)
        return x, ends

    def _check(self, x: Tensor, lengths: Tensor | None) -> None:
        if x.ndim != 3 or x.shape[-1] != self.n_in or x.shape[1] == 0:
            raise ValueError(f"a recurrent net got shape {tuple(x.shape)}; expected [n, length ≥ 1, {self.n_in}]")
        if lengths is None:
            return
        if lengths.shape != x.shape[:1] or lengths.is_floating_point() or lengths.dtype == torch.bool:
            found = f"{lengths.dtype} of shape {tuple(lengths.shape)}"
            raise ValueError(f"lengths are {found}; expected {len(x)} whole numbers, one for each sequence")
        if lengths.device.type == "cpu" and len(x) and not 0 <= lengths.min() <= lengths.max() <= x.shape[1]:
            raise ValueError(f"lengths are {lengths.tolist()}; expected 0 … {x.shape[1]}, the padded length")


class _Layer(nn.Module):
    """One layer of the stack, in one or both directions."""

    def __init__(
        self,
        n_in: int,
        width: int,
        kind: str,
        is_bidirectional: bool,
        is_normed: bool,
        scale: float | None,
        dropout: float,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(n_in) if is_normed else nn.Identity()
        self.onward = NETS[kind](n_in, width, batch_first=True)
        self.backward_net = NETS[kind](n_in, width, batch_first=True) if is_bidirectional else None
        self.scale, self.dropout = scale, dropout

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None,
        state: Tensor | tuple[Tensor, Tensor] | None,
        size: int | None = None,
    ):
        read = self._dropped(self.norm(x))
        out, state = _run(self.onward, read, state, size)
        if self.backward_net is not None:
            turned, _ = _run(self.backward_net, turned_round(read, lengths), None, size)
            out = torch.cat([out, turned_round(turned, lengths)], -1)
        return (out if self.scale is None else x + self.scale * out), state

    def _dropped(self, x: Tensor) -> Tensor:
        if self.dropout == 0 or not self.training:
            return x
        return x * functional.dropout(torch.ones_like(x[:, :1]), self.dropout)


def _run(net: nn.Module, x: Tensor, state: Any, size: int | None) -> tuple[Tensor, Any]:
    """At once, or `size` steps at a time."""
    if size is None or size >= x.shape[1]:
        return net(x, state)
    outs = []
    for chunk in x.split(size, 1):
        out, state = net(chunk, state)
        outs.append(out)
    return torch.cat(outs, 1), state


def turned_round(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """[n, length, …] with the first `lengths` steps of each sequence in reverse order; padding stays where it is."""
    if lengths is None:
        return x.flip(1)
    step = torch.arange(x.shape[1], device=x.device)
    last = lengths.to(x.device)[:, None] - 1
    source = torch.where(step <= last, last - step, step)
    return x[torch.arange(len(x), device=x.device)[:, None], source]


@contextmanager
def _fitting_kernels(*tensors: Tensor) -> Iterator[None]:
    """Plain kernels where torch's fused ones fail: forward-mode differentiation, and fp16 on a CPU."""
    is_dual = any(unpack_dual(tensor).tangent is not None for tensor in tensors)
    kind = tensors[0].device.type
    is_fp16 = kind == "cpu" and torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    if not (is_dual or is_fp16):
        yield
        return
    backends: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    before = [backend.enabled for backend in backends]
    try:
        for backend in backends:
            backend.enabled = False
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.enabled = was
