"""What carries a signal from bin to bin: attention, an LSTM, dilated convolutions, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from isometry.attention import Attention, Rotary, TransformerBlock
from isometry.blocks import keep_at, residual_scale
from isometry.recurrent import Recurrent
from isometry.window_attention import GlobalTokens, WindowAttention
from torch import Tensor, nn

from isometry_genome.convolution import block
from isometry_genome.stem import Run
from isometry_genome.strands import PairedAttention, PairedRecurrent, PairedRotary, TiedTokens

if TYPE_CHECKING:
    from isometry_genome.model import ModelSettings


class Trunk(nn.Module):
    """[n, n_bins, width] to the same."""

    def __init__(self, s: ModelSettings):
        super().__init__()
        self.n_global = s.n_global if s.trunk == "attention" else 0
        tokens = TiedTokens if s.strands == "equivariant" else GlobalTokens
        self.tokens = tokens(self.n_global, s.width) if self.n_global else nn.Identity()
        self.blocks = nn.ModuleList(_blocks(s))

    def forward(self, x: Tensor, run: Run) -> Tensor:
        x = self.tokens(x)
        for layer in self.blocks:
            x = run(layer, x)
        return x[:, self.n_global :]


def _blocks(s: ModelSettings) -> list[nn.Module]:
    keeps = [keep_at(i, s.n_layers, s.keep) for i in range(1, s.n_layers + 1)]
    if s.trunk == "attention":
        return [_transformer_block(s, keep) for keep in keeps]
    if s.trunk == "conv":
        return [block(s.width, s.kernel, 2**i, keep, s.dropout) for i, keep in enumerate(keeps)]
    return [_recurrent(s)] if s.trunk == "lstm" else []


def _transformer_block(s: ModelSettings, keep: float) -> nn.Module:
    is_paired = s.strands == "equivariant"
    head = s.width // s.n_heads
    attention = PairedAttention if is_paired else WindowAttention
    return TransformerBlock(
        s.width,
        s.n_heads,
        s.attention,
        expansion=s.expansion,
        is_causal=s.is_causal,
        dropout=s.dropout,
        scale=residual_scale(2 * s.n_layers),
        is_gated=s.is_gated,
        keep=keep,
        position=PairedRotary(head) if is_paired else Rotary(head),
        attention=partial(_undropped, attention, window=s.window, n_global=s.n_global, is_sharpened=s.is_sharpened),
    )


def _undropped(attention: Callable[..., Attention], *args: Any, dropout: float, **options: Any) -> Attention:
    """Without dropout of the weights, which torch's fused kernels do not know: it would make all pairs' weights."""
    return attention(*args, **options)


def _recurrent(s: ModelSettings) -> nn.Module:
    if s.strands == "equivariant":
        return PairedRecurrent(s.width, s.n_layers, dropout=s.dropout, t_max=s.t_max, forget=s.forget)
    return Recurrent(
        s.width,
        s.width if s.is_causal else s.width // 2,
        s.n_layers,
        is_bidirectional=not s.is_causal,
        is_normed=True,
        is_residual=True,
        dropout=s.dropout,
        t_max=s.t_max,
        forget=s.forget,
    )
