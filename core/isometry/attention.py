"""Attention: one edge between any two positions, by dot product or by cosine; rotary positions; a transformer block.

An attention layer reads n sequences of a common length, padded where they are shorter, and hands back the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from isometry.blocks import GatedResidual, PreNorm, Residual, StochasticDepth, mlp
from isometry.initialise import Projection, initialise

Kind = Literal["dot", "cosine"]
Position = Callable[[Tensor], Tensor]

COLDEST = 0.01  # the temperature that a learnable one does not fall below, as published
START_TEMPERATURE = 0.1
UNSHARPENED = 16  # positions among which sharpened attention reads as any other


class Attention(nn.Module):
    """Every position reads every other, weighted by softmax of query · key / √width, or of their cosine / temperature.

    The cosine depends on directions only, so no growth of the weights saturates the softmax; each head learns its
    own temperature, held as `log_temperature`. Plain tensor arithmetic stands in for torch's fused kernels under
    forward-mode differentiation, which these do not know.

    Args:
        width: features of a position, a multiple of `n_heads`.
        is_causal: position t reads positions ≤ t only (-inf before the softmax).
        dropout: of the attention weights, in training.
        position: turns queries and keys by where they stand, [n, n_heads, length, width / n_heads] to the same; for
            example `Rotary`.
        is_sharpened: what the softmax sees grows with the logarithm of how many positions there are to read, so that
            one among a thousand stands out as it does among `UNSHARPENED`.
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1; cosine: Henry et al. 2020, arXiv:2010.04245; the temperature
        and its floor: Liu et al. 2022, arXiv:2111.09883, eq. 2; the logarithm: Chiang & Cholak 2022, arXiv:2202.12172.
    """

    def __init__(
        self,
        width: int,
        n_heads: int = 1,
        kind: Kind = "dot",
        *,
        is_causal: bool = False,
        dropout: float = 0.0,
        position: Position | None = None,
        is_sharpened: bool = False,
        bias: bool = True,
    ):
        super().__init__()
        if n_heads < 1 or width < 1 or width % n_heads:
            raise ValueError(f"width {width} with {n_heads} heads; expected a width that is a multiple of the heads")
        if kind not in ("dot", "cosine"):
            raise ValueError(f"attention of kind {kind!r}; expected 'dot' or 'cosine'")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; expected 0 <= dropout < 1")
        self.width, self.n_heads, self.kind, self.is_causal, self.dropout = width, n_heads, kind, is_causal, dropout
        self.query, self.key, self.value, self.out = (Projection(width, width, bias) for _ in range(4))
        self.position, self.is_sharpened = position, is_sharpened
        if kind == "cosine":
            self.log_temperature = nn.Parameter(torch.full((n_heads,), math.log(START_TEMPERATURE)))
        initialise(self, "linear")

    def forward(self, x: Tensor, present: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Reads x, or the context where one is given.

        Args:
            x: [n, length, width]; what stands at absent positions, even NaN, changes nothing.
            present: [n, length of what is read], True where there is something; default everywhere.
            context: [n, other length, width], read in x's place; not by causal attention.
        Returns:
            [n, length, width]; zeros at x's absent positions, and where there is nothing to read.
        """
        _check(x, present, context, self)
        read = x if context is None else context
        if present is not None:
            read = read.masked_fill(~present[..., None], 0)
            x = read if context is None else x
        query, key, value = self._heads(self.query(x)), self._heads(self.key(read)), self._heads(self.value(read))
        mixed = self._mixed(query, key, value, present)
        out = self.out(mixed.transpose(1, 2).flatten(2))
        if present is None:
            return out
        has_something = present if context is None else present.any(1, keepdim=True)
        return out.masked_fill(~has_something[..., None], 0)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # [n, n_heads, length, width / n_heads]

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor | None) -> Tensor:
        if self.position is not None:
            query, key = self.position(query), self.position(key)
        query, key = self._measured(query, key, value.dtype)
        mask = None if present is None else self._mask(present, query.shape[2])
        return self._read(query, key, value, mask, is_causal=self.is_causal and mask is None)

    def _measured(self, query: Tensor, key: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Queries and keys whose products, scaled as `_read` does, are what the softmax sees."""
        if self.kind == "cosine":
            query, key = _direction(query) / self.temperatures()[:, None, None], _direction(key)
        if self.is_sharpened:
            query = query * (math.log1p(key.shape[2]) / math.log1p(UNSHARPENED))
        return query.to(dtype), key.to(dtype)

    def temperatures(self) -> Tensor:
        """[n_heads], of attention by cosine."""
        return self.log_temperature.clamp(min=math.log(COLDEST)).exp()

    def _read(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool = False) -> Tensor:
        with _plain_under_forward_mode(query, key, value):
            return functional.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=mask,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=is_causal,
                scale=1.0 if self.kind == "cosine" else 1 / math.sqrt(self.width // self.n_heads),
            )

    def _mask(self, present: Tensor, n_queries: int) -> Tensor:
        """[n, 1, n_queries or 1, length], True where a query may look."""
        mask = present[:, None, None, :]
        if self.is_causal:
            mask = mask & torch.ones(n_queries, n_queries, dtype=torch.bool, device=present.device).tril()
        # A softmax over nothing is NaN; a query with nothing to read looks everywhere, and its output is set to zero.
        return mask | ~mask.any(-1, keepdim=True)


class Rotary(nn.Module):
    """Turns each pair of features by an angle proportional to the position, so that products depend on distances only.

    Angles are computed in float64: at position 50,000 float32 would be off by 3e-3 rad.

    Args:
        width: features of one head, even.
        base: the slowest pair turns by one radian in about `base` positions.
    Source: Su et al. 2021, arXiv:2104.09864, eq. 15; features i and i + width / 2 make a pair. Stretched positions:
        Chen et al. 2023, arXiv:2306.15595.
    """

    stretch = 1.0
    """How far apart neighbours count as being: what was learnt on a small scale holds on one so many times larger."""

    def __init__(self, width: int, base: float = 10_000.0):
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"rotary positions of width {width}; expected an even number of features per head")
        self.width, self.base = width, base

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Turns [..., length, width], whose first position is `start`."""
        if x.shape[-1] != self.width:
            raise ValueError(f"features per head are {x.shape[-1]}; these rotary positions are for {self.width}")
        angles = _angles(x.shape[-2], self.width, self.base, start, x.device, self.stretch)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class TransformerBlock(nn.Module):
    """x + s F(norm(x)) twice: attention between positions, then a feed-forward net at each.

    Args:
        expansion: the feed-forward net is this many times wider inside.
        scale: s; a net of L blocks has 2 L branches, so `residual_scale(2 * L)`. With `is_gated` it is ignored.
        is_gated: each branch has a learnable factor instead, which starts at 0: the block starts as the identity.
        keep: probability that a sample's branch is used in training (stochastic depth; see `keep_at`).
        dropout: of the attention weights and inside the feed-forward net.
        position: as in `Attention`.
        attention: what makes the attention from width, heads, kind and the options named here; for example
            `functools.partial(WindowAttention, window=64)`.
    Source: pre-norm: Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(
        self,
        width: int,
        n_heads: int = 1,
        kind: Kind = "dot",
        *,
        activation: str = "gelu",
        expansion: int = 4,
        is_causal: bool = False,
        dropout: float = 0.0,
        scale: float = 1.0,
        is_gated: bool = False,
        keep: float = 1.0,
        position: Position | None = None,
        attention: Callable[..., Attention] = Attention,
    ):
        super().__init__()

        def branched(branch: nn.Module) -> nn.Module:
            branch = PreNorm(branch, nn.LayerNorm(width))
            if keep != 1:
                branch = StochasticDepth(branch, keep)
            return GatedResidual(branch) if is_gated else Residual(branch, scale)

        reads = attention(width, n_heads, kind, is_causal=is_causal, dropout=dropout, position=position)
        self.attention = branched(reads)
        self.feed_forward = branched(mlp([width, expansion * width, width], activation, dropout=dropout))

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """[n, length, width] to the same; `present` as in `Attention`. Absent positions come out as zeros."""
        if present is not None:
            x = x.masked_fill(~present[..., None], 0)
        x = self.feed_forward(self.attention(x, present))
        return x if present is None else x.masked_fill(~present[..., None], 0)


def sinusoidal(length: int, width: int, base: float = 10_000.0, start: int = 0) -> Tensor:
    """Sines and cosines of the position at `width` / 2 wave lengths between 2π and 2π · base: [length, width], float32.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5; the sines first, then the cosines.
    """
    if length < 1 or width < 2 or width % 2:
        raise ValueError(f"positions of length {length} and width {width}; expected a length and an even width")
    angles = _angles(length, width, base, start, torch.device("cpu"))
    return torch.cat([angles.sin(), angles.cos()], -1).float()


def recentred(encoding: Tensor) -> Tensor:
    """The encoding with mean zero over its features (the last dimension), so that it shifts no layer norm's mean."""
    return encoding - encoding.mean(-1, keepdim=True)


def _angles(length: int, width: int, base: float, start: int, device: torch.device, stretch: float = 1.0) -> Tensor:
    """[length, width / 2] rad, float64."""
    positions = torch.arange(start, start + length, dtype=torch.float64, device=device) * stretch
    rates = base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    return positions[:, None] * rates


def _direction(x: Tensor) -> Tensor:
    """x / |x|, at least in float32: the squares of half precision overflow beyond 255."""
    return functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def _plain_under_forward_mode(*tensors: Tensor) -> AbstractContextManager[object]:
    is_dual = any(unpack_dual(tensor).tangent is not None for tensor in tensors)
    return sdpa_kernel(SDPBackend.MATH) if is_dual else nullcontext()


def _check(x: Tensor, present: Tensor | None, context: Tensor | None, attention: Attention) -> None:
    read = x if context is None else context
    for tensor in (x, read):
        if tensor.ndim != 3 or tensor.shape[-1] != attention.width:
            raise ValueError(f"attention got shape {tuple(tensor.shape)}; expected [n, length, {attention.width}]")
    if context is not None and attention.is_causal:
        raise ValueError("causal attention was given a context; it has an order only within its own sequence")
    if present is not None and (present.shape != read.shape[:2] or present.dtype != torch.bool):
        raise ValueError(
            f"`present` is {present.dtype} of shape {tuple(present.shape)}; "
            f"expected torch.bool of shape {tuple(read.shape[:2])}, True where there is something"
        )
