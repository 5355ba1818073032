"""One layer of messages: ours against a generic tensor product on edges, alternating in one run.

    python benchmarks/crystal_contraction.py [--atoms 216] [--channels 16] [--rounds 15] [--threads 1]

Both take the same silicon crystal, basis, features and channels to the same components: radial weights, all couplings
of edge harmonics with neighbour tensors, the sum over neighbours and a linear map for each path. The other side is
e3nn's `TensorProduct` ("uvu" with weights for each edge, as MACE and NequIP use it), gathered and scattered by edges.
Printed are medians, and the median of the rounds' ratios; a round measures both, so a busy machine slows both.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from ase.build import bulk
from e3nn import o3
from isometry_crystal.angular import degree_of, n_components
from isometry_crystal.dataset import graph_of
from isometry_crystal.geometry import Edges
from isometry_crystal.model import Message, ModelSettings
from isometry_data.crystals import record_of
from torch import Tensor, nn


class EdgeLayer(nn.Module):
    """The generic layer: one weighted tensor product for each edge."""

    def __init__(self, s: ModelSettings):
        super().__init__()
        width = s.message_channels
        paths = [
            (a, b, c)
            for c in range(s.l_max + 1)
            for a in range(s.l_max + 1)
            for b in range(s.l_hidden + 1)
            if abs(a - b) <= c <= a + b and (a + b + c) % 2 == 0
        ]
        sent = o3.Irreps([(width, (b, (-1) ** b)) for b in range(s.l_hidden + 1)])
        heard = o3.Irreps([(width, (c, (-1) ** c)) for *_, c in paths])
        edge = o3.Irreps([(1, (a, (-1) ** a)) for a in range(s.l_max + 1)])
        instructions = [(b, a, number, "uvu", True) for number, (a, b, _) in enumerate(paths)]
        self.product = o3.TensorProduct(sent, edge, heard, instructions, shared_weights=False, internal_weights=False)
        hidden = o3.Irreps([(s.channels, (b, (-1) ** b)) for b in range(s.l_hidden + 1)])
        out = o3.Irreps([(s.channels, (c, (-1) ** c)) for c in range(s.l_max + 1)])
        self.down, self.up = o3.Linear(hidden, sent), o3.Linear(heard, out)
        self.radial = nn.Parameter(torch.randn(s.n_radial, self.product.weight_numel) / math.sqrt(s.n_radial))

    def forward(self, hidden: Tensor, angular: Tensor, basis: Tensor, edge_index: Tensor) -> Tensor:
        centre, neighbour = edge_index
        per_edge = self.product(self.down(hidden)[neighbour], angular, basis @ self.radial)
        return self.up(per_edge.new_zeros(len(hidden), per_edge.shape[1]).index_add(0, centre, per_edge))


Stage = Callable[[], object]


def our_stages(s: ModelSettings, graph) -> dict[str, Stage]:
    layer = Message(s)
    features = torch.randn(n_components(s.l_hidden), graph.num_nodes, s.channels, requires_grad=True)

    def run(slopes: bool, training: bool) -> None:
        edges = Edges(graph, s.cutoff, s.n_radial, s.l_max, torch.float32, slopes)
        energy = layer(features, edges).square().sum()
        if slopes:
            inputs = (edges.angular, edges.radial)
            edges.sweep.to_weights = False
            found = torch.autograd.grad(energy, inputs, create_graph=training)
            edges.sweep.to_geometry, edges.sweep.to_weights = False, True
            if training:
                sum(part.square().sum() for part in found).backward()

    return stages(run)


def generic_stages(s: ModelSettings, graph) -> dict[str, Stage]:
    layer, n_hidden = EdgeLayer(s), s.channels * len(degree_of(s.l_hidden))
    features = torch.randn(graph.num_nodes, n_hidden, requires_grad=True)

    def run(slopes: bool, training: bool) -> None:
        edges = Edges(graph, s.cutoff, s.n_radial, s.l_max, torch.float32, False)
        inputs = [
            part.flatten(0, 1)[edges.table.place].requires_grad_(slopes) for part in (edges.angular, edges.radial)
        ]
        energy = layer(features, *inputs, graph.edge_index).square().sum()
        if slopes:
            found = torch.autograd.grad(energy, inputs, create_graph=training)
            if training:
                sum(part.square().sum() for part in found).backward()

    return stages(run)


def stages(run: Callable[[bool, bool], None]) -> dict[str, Stage]:
    def energy() -> None:
        with torch.no_grad():
            run(False, False)

    return {"energy": energy, "energy and slopes": lambda: run(True, False), "training step": lambda: run(True, True)}


def seconds(stage: Stage) -> float:
    start = time.process_time()
    stage()
    return time.process_time() - start


def compare(ours: Stage, other: Stage, rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median ratio; the first three rounds warm up."""
    pairs = [(seconds(ours), seconds(other)) for _ in range(rounds + 3)][3:]
    ratio = statistics.median(slow / fast for fast, slow in pairs)
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in {"atoms": 216, "channels": 16, "rounds": 15, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    s = ModelSettings(message_channels=arguments.channels, channels=2 * arguments.channels, mean_neighbours=28.0)
    repeats = max(round((arguments.atoms / 8) ** (1 / 3)), 1)
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.1, seed=0)
    graph = graph_of(record_of(atoms), s.cutoff)
    print(
        f"{graph.num_nodes} atoms, {graph.num_edges} edges, l_max {s.l_max}, hidden degree {s.l_hidden}, "
        f"{s.message_channels} channels on edges, {torch.get_num_threads()} thread(s), CPU time"
    )
    ours, generic = our_stages(s, graph), generic_stages(s, graph)
    for name in ours:
        fast, slow, ratio = compare(ours[name], generic[name], arguments.rounds)
        print(f"{name:18s} ours {1e3 * fast:7.1f} ms   generic {1e3 * slow:7.1f} ms   generic / ours {ratio:5.2f}")


if __name__ == "__main__":
    main()
