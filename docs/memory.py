"""How much of a gradient comes back through time to a protein's first residue, net by net.

    python docs/memory.py            # prints the table; half a minute on one core
    python docs/memory.py --write    # and puts it into docs/memory.md, beside docs/memory.png

Each net is one layer in one direction, as it is before training. It reads simulated chains of 50 to 2,000 residues; the
gradient is that of a random projection of its last output, by the embedded residues; told is its norm at the first
residue over that at the last one, root mean square over the chains. Computed in float64.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from isometry.figures import FAINT, PALETTE, panels, style
from isometry.randomness import seed_everything
from isometry.recurrent import Recurrent
from isometry_protein.letters import N_LETTERS, letters_of
from isometry_protein.simulate import simulated
from page import fill
from torch import Tensor, nn

PAGE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")

WIDTH, EMBEDDING, N_CHAINS, SEEDS = 64, 32, 4, range(5)
DISTANCES = (50, 100, 200, 500, 1000, 2000)
T_MAX = 1000
LOST = -40
"""The power of ten at which the picture ends."""
LEAST = -300
"""The power of ten below which float64 has no numbers left."""

Net = Callable[[], nn.Module]
Found = dict[str, np.ndarray]
"""By net: lg of the share, [n_seeds, n_distances]."""


def torchs(kind: Callable[..., nn.Module]) -> Net:
    return lambda: kind(EMBEDDING, WIDTH, batch_first=True)


def open_gate(bias: float) -> nn.Module:
    """torch's LSTM whose forget gates begin with this bias."""
    net = nn.LSTM(EMBEDDING, WIDTH, batch_first=True)
    with torch.no_grad():
        for vector, value in ((net.bias_ih_l0, bias), (net.bias_hh_l0, 0.0)):
            vector.chunk(4)[1].fill_(value)  # input, forget, cell, output
    return net


def ours(kind: str) -> Net:
    return lambda: Recurrent(EMBEDDING, WIDTH, 1, kind, t_max=T_MAX)  # type: ignore[arg-type]


NETS: dict[str, Net] = {
    "tanh, as torch begins it": torchs(nn.RNN),
    "tanh, ours: orthogonal": ours("tanh"),
    "LSTM, as torch begins it": torchs(nn.LSTM),
    "LSTM, forget bias 2": lambda: open_gate(2.0),
    f"LSTM, ours: gates of 1 … {T_MAX} residues": ours("lstm"),
    "GRU, as torch begins it": torchs(nn.GRU),
    f"GRU, ours: gates of 1 … {T_MAX} residues": ours("gru"),
}


def embedded(length: int, seed: int) -> Tensor:
    """[N_CHAINS, length, EMBEDDING]"""
    embed = nn.Embedding(N_LETTERS, EMBEDDING).double()
    chains = simulated(N_CHAINS, seed, length, length)
    return embed(torch.stack([letters_of(chain.sequence) for chain in chains])).detach()


def share(net: nn.Module, x: Tensor) -> float:
    """lg of the gradient's norm at the first residue over that at the last one."""
    x = x.requires_grad_()
    out = net(x)
    last = (out if isinstance(out, Tensor) else out[0])[:, -1]
    (gradient,) = torch.autograd.grad((last * torch.randn_like(last)).sum(), x)
    return _lg_norm(gradient[:, 0]) - _lg_norm(gradient[:, -1])


def _lg_norm(x: Tensor) -> float:
    """Without squares that underflow."""
    largest = float(x.abs().max())
    return math.log10(largest) + math.log10(float((x / largest).norm())) if largest > 0 else -math.inf


def measured(make: Net) -> np.ndarray:
    rows = []
    for seed in SEEDS:
        seed_everything(seed)
        net = make().double()
        rows.append([share(net, embedded(length, seed)) for length in DISTANCES])
    return np.array(rows)


def table(found: Found) -> Iterator[str]:
    yield f"| from residue | {' | '.join(f'{length:,}' for length in DISTANCES)} |"
    yield "|---" * (len(DISTANCES) + 1) + "|"
    for name, shares in found.items():
        yield f"| {name} | {' | '.join(_told(column) for column in shares.T)} |"


def _told(column: np.ndarray) -> str:
    if np.isinf(column).any():
        return f"below {LEAST}".replace("-", "−")
    return f"{np.median(column):.1f} ({column.min():.1f} … {column.max():.1f})".replace("-", "−")


def draw(found: Found) -> None:
    styles = {"tanh": (PALETTE[1], "o"), "LSTM": (PALETTE[0], "s"), "GRU": (PALETTE[2], "^")}
    figure, (axes,) = panels(1, 1, width=7.4, height=4.0)
    with style():
        for name, shares in found.items():
            colour, marker = styles[name.split(",")[0]]
            line = "-" if "ours" in name else "--" if "torch" in name else ":"
            middle = np.median(shares, 0)
            axes.plot(DISTANCES, middle, line, color=colour, marker=marker, markersize=4, label=name, clip_on=True)
            axes.fill_between(DISTANCES, shares.min(0), shares.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.axhline(-3, color=FAINT, linewidth=0.8)
        axes.set(xscale="log", xlabel="from residue", ylabel="lg share of the gradient at residue 1", ylim=(LOST, 1.5))
        axes.set_xticks(DISTANCES, [f"{length:,}" for length in DISTANCES])
        axes.minorticks_off()
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        figure.savefig(PICTURE, dpi=160, metadata={"Software": None})


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    found = {name: measured(make) for name, make in NETS.items()}
    lines = list(table(found))
    print("\n".join(lines))
    if "--write" in sys.argv[1:]:
        fill(PAGE, "\n".join(lines))
        draw(found)


if __name__ == "__main__":
    main()
