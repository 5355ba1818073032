"""How far attention looks: the share of its weights that goes to each distance, layer by layer and head by head."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from isometry.window_attention import WindowAttention
from torch import Tensor

from isometry_genome.model import GenomeModel
from isometry_genome.readout import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUERIES_AT_ONCE = 256
"""Bounds the memory: only so many rows of the weights exist at a time."""


class Distances(NamedTuple):
    """Of every layer and head, the mean over windows and queries."""

    shares: np.ndarray
    """[n_layers, n_heads, n_bins] of the weights, by distance in bins to either side"""
    tokens: np.ndarray
    """[n_layers, n_heads] what global tokens get"""
    bin: int
    """Bases."""


def attention_distances(model: GenomeModel, windows: Sequence[Tensor]) -> Distances:
    """Of windows of codes, all of one length."""
    layers = [module for module in model.trunk.modules() if isinstance(module, WindowAttention)]
    if not layers:
        raise ValueError("this model has no attention; its trunk is something else")
    found = [_of_window(model, layers, codes) for codes in windows]
    shares, tokens = (np.mean([own[i] for own in found], 0) for i in (0, 1))
    return Distances(shares, tokens, model.settings.bin)


def _of_window(model: GenomeModel, layers: list[WindowAttention], codes: Tensor) -> tuple[np.ndarray, np.ndarray]:
    read: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0])) for layer in layers]
    try:
        with torch.no_grad():
            model.eval()(shown(model, codes[None]))
    finally:
        for hook in hooks:
            hook.remove()
    # Where both strands are read, one pass follows the other: the first is of the strand that was given.
    pairs = [by_distance(layer, x) for layer, x in zip(layers, read[: len(layers)], strict=True)]
    return np.stack([shares for shares, _ in pairs]), np.stack([tokens for _, tokens in pairs])


@torch.no_grad()
def by_distance(layer: WindowAttention, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """[n_heads, length] shares by distance and [n_heads] of the tokens, for x [1, n_global + length, width]."""
    n = layer.n_global
    length = x.shape[1] - n
    shares = torch.zeros(layer.n_heads, length, dtype=torch.float64)
    tokens = torch.zeros(layer.n_heads, dtype=torch.float64)
    for first, weights in attention_weights(layer, x):
        apart = (torch.arange(first, first + weights.shape[1])[:, None] - torch.arange(length)).abs()
        shares.index_add_(1, apart.flatten(), weights[..., n:].flatten(1).double().cpu())
        tokens += weights[..., :n].sum((1, 2)).double().cpu()
    return (shares / length).numpy(), (tokens / length).numpy()


def attention_weights(layer: WindowAttention, x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First query and [n_heads, queries, n_global + length] of the positions' weights, some queries at a time; of
    x [1, n_global + length, width]."""
    n = layer.n_global
    query, key = (part(x).unflatten(-1, (layer.n_heads, -1)).transpose(1, 2) for part in (layer.query, layer.key))
    near, near_key = query[:, :, n:], key[:, :, n:]
    if layer.position is not None:
        near, near_key = layer.position(near), layer.position(near_key)
    near, near_key = layer._measured(near, near_key, x.dtype)
    plain, plain_key = layer._measured(query, key, x.dtype)
    scale = 1.0 if layer.kind == "cosine" else 1 / math.sqrt(layer.width // layer.n_heads)
    length = near.shape[2]
    for first in range(0, length, QUERIES_AT_ONCE):
        rows = slice(first, first + QUERIES_AT_ONCE)
        of_near = near[0, :, rows] @ near_key[0].mT * scale
        of_near = of_near.masked_fill(~_is_read(layer, first, of_near.shape[1], length, x.device), -torch.inf)
        of_tokens = plain[0, :, n:][:, rows] @ plain_key[0, :, :n].mT * scale
        yield first, torch.cat([of_tokens, of_near], -1).softmax(-1)


def _is_read(layer: WindowAttention, first: int, n_queries: int, length: int, device: torch.device) -> Tensor:
    """[queries, length]"""
    apart = torch.arange(length, device=device) - torch.arange(first, first + n_queries, device=device)[:, None]
    is_read = apart <= 0 if layer.is_causal else torch.ones_like(apart, dtype=torch.bool)
    return is_read if layer.window is None else is_read & (apart.abs() <= layer.window)


# For the report


def as_rows(found: Distances) -> list[dict[str, Any]]:
    """Bases within which half and nine tenths of a head's weights lie, and their mean distance."""
    rows = []
    for layer, head in np.ndindex(found.tokens.shape):
        shares = found.shares[layer, head]
        within = shares.cumsum() / shares.sum()
        mean = float((np.arange(len(shares)) * shares).sum() / shares.sum())
        row = {"layer": layer + 1, "head": head + 1, "mean (bp)": round(mean * found.bin)}
        row |= {f"{part:.0%} within (bp)": int((within >= part).argmax()) * found.bin for part in (0.5, 0.9)}
        rows.append(row | ({"to tokens": float(found.tokens[layer, head])} if found.tokens.any() else {}))
    return rows


def distance_figure(found: Distances) -> Figure:
    """The share of the weights that lies within each distance; a faint line for each head, a strong one for a layer."""
    from isometry.figures import PALETTE, panels, style

    figure, (axes,) = panels(width=5.4, height=3.2)
    at = (np.arange(found.shares.shape[2]) + 1) * found.bin
    within = found.shares.cumsum(2)
    with style():
        for layer, of_heads in enumerate(within):
            colour = PALETTE[layer % len(PALETTE)]
            axes.plot(at, of_heads.T, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(at, of_heads.mean(0), color=colour, label=f"layer {layer + 1}")
        axes.set(xscale="log", xlabel="distance (bp)", ylabel="share of attention within", ylim=(0, 1.02))
        axes.legend()
    return figure
