"""Sliding-window attention with global tokens: a position reads those near it and a few tokens that read everything.

Memory and time grow with length times window. The window is cut into blocks, each of which goes through torch's fused
attention with a mask of its own size, so that no mask of length × length is ever made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from isometry.attention import Attention, Kind

SMALLEST_BLOCK = 64  # queries; below, calls cost more than what they compute


class WindowAttention(Attention):
    """`Attention` in which position i reads the positions i - window … i + window, and the global tokens.

    The first `n_global` positions of a sequence are the tokens (see `GlobalTokens`): they read all positions and one
    another, under the same softmax. They stand nowhere, so no `position` turns what they ask or are asked; the heads
    of the blocks are then twice as wide inside, half of it for them.

    Args:
        window: positions read on either side; None: all of them.
        is_causal: position t reads t - window … t. Tokens that read everything would tell of the future: refused.
        Others as in `Attention`, but for the context, which has no order that a window could follow.
    Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1, there with projections of their own for the tokens.
    """

    def __init__(
        self,
        width: int,
        n_heads: int = 1,
        kind: Kind = "dot",
        *,
        window: int | None,
        n_global: int = 0,
        is_causal: bool = False,
        **options: Any,
    ):
        super().__init__(width, n_heads, kind, is_causal=is_causal, **options)
        if (window is not None and window < 1) or n_global < 0:
            raise ValueError(f"window {window} with {n_global} global tokens; expected at least 1 position, or None")
        if window is None and n_global:
            raise ValueError(f"{n_global} global tokens without a window; expected a window, since all read all")
        if is_causal and n_global:
            raise ValueError(f"causal attention with {n_global} global tokens; they read the future, so expected none")
        self.window, self.n_global = window, n_global

    def forward(self, x: Tensor, present: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """[n, n_global + length, width] to the same; `present`, of the same length, as in `Attention`."""
        if context is not None:
            raise ValueError("window attention got a context; expected none, since a window is of one sequence")
        if x.ndim == 3 and x.shape[1] <= self.n_global:
            raise ValueError(f"window attention got {x.shape[1]} positions, {self.n_global} of them global tokens")
        return super().forward(x, present)

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, present: Tensor | None) -> Tensor:
        if self.window is None:
            return super()._mixed(query, key, value, present)
        n = self.n_global
        plain_query, plain_key = self._measured(query, key, value.dtype)
        near_query, near_key = plain_query[:, :, n:], plain_key[:, :, n:]
        if self.position is not None:
            turned = self.position(query[:, :, n:]), self.position(key[:, :, n:])
            near_query, near_key = self._measured(*turned, value.dtype)
        near = near_query, near_key, value[:, :, n:]
        here = None if present is None else present[:, n:]
        if n == 0:
            return self._near(*near, here, None)
        mask = None if present is None else self._mask(present, n)
        told = self._read(plain_query[:, :, :n], plain_key, value, mask)
        tokens = plain_key[:, :, :n], value[:, :, :n]
        if self.position is not None:  # one product of both: with the turned keys, or with the tokens' plain ones
            near = torch.cat([near_query, plain_query[:, :, n:]], -1), _widened(near_key), _widened(near[2])
            tokens = functional.pad(tokens[0], (tokens[0].shape[-1], 0)), _widened(tokens[1])
        token_present = None if present is None else present[:, :n]
        mixed = self._near(*near, here, (*tokens, token_present))[..., : value.shape[-1]]
        return torch.cat([told, mixed], 2)

    def _near(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        present: Tensor | None,
        tokens: tuple[Tensor, Tensor, Tensor | None] | None,
    ) -> Tensor:
        """[n, n_heads, length, head] of what each position reads in its window, and of the tokens."""
        n, length = len(query), query.shape[2]
        assert self.window is not None
        window = min(self.window, length - 1)
        size = min(max(window, SMALLEST_BLOCK), length)
        n_blocks = -(-length // size)
        after = n_blocks * size - length
        ahead = 0 if self.is_causal else window
        queries = _blocks(functional.pad(query, (0, 0, 0, after)), size, size)
        keys, values = (
            _blocks(functional.pad(x, (0, 0, window, after + ahead)), size + window + ahead, size) for x in (key, value)
        )
        mask = self._band(length, size, window, ahead, present, query.device)  # [n or 1, n_blocks, 1, size, keys]
        if tokens is not None:
            keys, values = _with_tokens(keys, tokens[0]), _with_tokens(values, tokens[1])
            mask = _with_tokens_seen(mask, tokens[2], self.n_global)
        mask = mask | ~mask.any(-1, keepdim=True)  # a softmax over nothing is NaN; such a query is dropped later
        mask = mask.expand(n, *mask.shape[1:])
        sizes = _alike(n_blocks, present is None)
        groups = zip(*(x.split(sizes, 1) for x in (queries, keys, values, mask)), strict=True)
        parts = []
        for i, (*these, seen) in enumerate(groups):
            has_one_mask = len(sizes) > 1 and i == 1
            seen = seen[0, :1] if has_one_mask else seen.flatten(0, 1)
            asked, offered, told = (x.flatten(0, 1) for x in these)
            parts.append(self._read(asked, offered, told, seen))
        read = torch.cat([part.unflatten(0, (n, -1)) for part in parts], 1)
        return read.transpose(1, 2).flatten(2, 3)[:, :, :length]

    def _band(
        self, length: int, size: int, window: int, ahead: int, present: Tensor | None, device: torch.device
    ) -> Tensor:
        """[n or 1, n_blocks, 1, size, size + window + ahead]: True where a query of a block may look at a key."""
        offset = torch.arange(size + window + ahead, device=device) - torch.arange(size, device=device)[:, None]
        band = (offset >= 0) & (offset <= window + ahead)
        if present is None:
            present = torch.ones(1, length, dtype=torch.bool, device=device)
        n_blocks = -(-length // size)
        there = functional.pad(present, (window, n_blocks * size - length + ahead))
        return band & there.unfold(1, size + window + ahead, size)[:, :, None, None, :]


class GlobalTokens(nn.Module):
    """Learnt tokens in front of a sequence, for `WindowAttention` to read and to be read by."""

    def __init__(self, n_global: int, width: int):
        super().__init__()
        if n_global < 1 or width < 1:
            raise ValueError(f"{n_global} global tokens of width {width}; expected at least one of each")
        self.tokens = nn.Parameter(torch.randn(n_global, width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, width] to [n, n_global + length, width]."""
        return torch.cat([self.tokens.to(x.dtype).expand(len(x), -1, -1), x], 1)


def _blocks(x: Tensor, size: int, step: int) -> Tensor:
    """[n, n_heads, length, head] to overlapping [n, n_blocks, n_heads, size, head]; a view."""
    return x.unfold(2, size, step).permute(0, 2, 1, 4, 3)


def _alike(n_blocks: int, is_whole: bool) -> list[int]:
    """Numbers of blocks that go together: inside a sequence without gaps, all but the first and the last two, have
    one mask."""
    return [1, n_blocks - 3, 2] if is_whole and n_blocks >= 5 else [n_blocks]


def _widened(x: Tensor) -> Tensor:
    return functional.pad(x, (0, x.shape[-1]))


def _with_tokens(blocks: Tensor, tokens: Tensor) -> Tensor:
    return torch.cat([blocks, tokens[:, None].expand(-1, blocks.shape[1], -1, -1, -1)], 3)


def _with_tokens_seen(mask: Tensor, present: Tensor | None, n_global: int) -> Tensor:
    if present is None:
        return functional.pad(mask, (0, n_global), value=True)
    mask = mask.expand(len(present), *mask.shape[1:])
    seen = present[:, None, None, None, :].expand(-1, mask.shape[1], 1, mask.shape[3], -1)
    return torch.cat([mask, seen], -1)
