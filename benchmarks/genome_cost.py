"""CPU seconds and peak memory of the genome network, beside enformer-pytorch and an LSTM, by length.

    python benchmarks/genome_cost.py [--lengths 8192 32768 131072 524288] [--rounds 2] [--nets attention lstm ...]

All nets have one width and depth, bins of 128 bases, one track, and feed-forward nets twice as wide inside, as the peer
has them. Every pass runs in a process of its own, after one pass over 2,048 bases; rounds alternate between the nets.
Seconds are those that the processor worked (getrusage), on one thread, so that other people's jobs count little; memory
is the largest resident set beyond that before the pass, so without the libraries and the weights. A training step is a
forward and a backward pass; what the optimiser does depends on no length. Growth is the exponent of the length between
one length and the next.

The peer is optional: `pip install enformer-pytorch`, best where nothing else needs another release of transformers.
It is not run at lengths above --peer-longest, where it would take more than ten gigabytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

OURS = {
    "attention": {},
    "checkpointed": {"checkpoints": True},
    "window": {"window": 64},
    "lstm": {"trunk": "lstm"},
    "equivariant": {"strands": "equivariant"},
}
PEER = "enformer-pytorch"
WARM_UP = 2048  # bases


class Pass(NamedTuple):
    net: str
    length: int
    step: str
    """forward or training"""


class Cost(NamedTuple):
    seconds: float
    mebibytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32_768, 131_072, 524_288])
    parser.add_argument("--nets", nargs="+", default=["attention", "checkpointed", "lstm", PEER], choices=[*OURS, PEER])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--stem", type=int, default=64, help="features of our finest cells, of 4 bases")
    parser.add_argument("--peer-longest", type=int, default=131_072)
    parser.add_argument("--one", nargs=3, metavar=("NET", "LENGTH", "STEP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        net, length, step = options.one
        print(json.dumps(measure(Pass(net, int(length), step), options)))
        return
    if PEER in options.nets and importlib.util.find_spec("enformer_pytorch") is None:
        options.nets.remove(PEER)
        print(f"{PEER} is not installed and left out")
    report(measured(options), options)


def measured(options: argparse.Namespace) -> dict[Pass, list[Cost]]:
    passes = [
        Pass(net, length, step)
        for length in sorted(options.lengths)
        for step in ("forward", "training")
        for net in options.nets
        if net != PEER or length <= options.peer_longest
    ]
    costs: dict[Pass, list[Cost]] = {one: [] for one in passes}
    for _ in range(options.rounds):
        for one in passes:
            costs[one].append(in_own_process(one, options))
    return costs


def typical(runs: list[Cost]) -> Cost:
    return Cost(*(median(values) for values in zip(*runs, strict=True)))


def in_own_process(one: Pass, options: argparse.Namespace) -> Cost:
    command = [sys.executable, __file__, "--one", one.net, str(one.length), one.step]
    command += [f"--{name}={getattr(options, name)}" for name in ("width", "depth", "stem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, one))} failed: {done.stderr.strip().splitlines()[-1:]}")
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def measure(one: Pass, options: argparse.Namespace) -> Cost:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, read = made(one.net, options)

    def go(length: int) -> None:
        x = torch.nn.functional.one_hot(torch.randint(4, (1, length)), 4).float()
        with torch.set_grad_enabled(one.step == "training"):
            out = read(net(x))
        if one.step == "training":
            out.square().mean().backward()

    net.train(one.step == "training")
    go(WARM_UP)
    before = resource.getrusage(resource.RUSAGE_SELF)
    go(one.length)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    per_mebibyte = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Cost(seconds, (after.ru_maxrss - before.ru_maxrss) / per_mebibyte)


def made(net: str, options: argparse.Namespace) -> tuple[Any, Any]:
    """A network, and what takes the profile out of what it says."""
    if net == PEER:
        from enformer_pytorch import Enformer  # pyright: ignore[reportMissingImports]

        heads = {"human": 1}
        peer = Enformer.from_hparams(
            dim=options.width, depth=options.depth, heads=8, output_heads=heads, target_length=-1
        )
        return peer, lambda said: said["human"]
    from isometry_genome.model import GenomeModel, ModelSettings

    sizes = {"width": options.width, "stem": options.stem, "n_layers": options.depth, "n_heads": 8, "expansion": 2}
    settings = ModelSettings(heads=("profile",), n_tracks=1, **sizes, **OURS[net])
    return GenomeModel(settings), lambda said: said["profile"]


def report(runs: dict[Pass, list[Cost]], options: argparse.Namespace) -> None:
    costs = {one: typical(its) for one, its in runs.items()}
    print(f"width {options.width}, depth {options.depth}, stem {options.stem}, {options.rounds} rounds, 1 thread")
    print(f"{'step':9} {'net':17} {'bases':>8} {'CPU s':>8} {'MB':>7} {'growth s':>9} {'growth MB':>10}")
    for step in ("forward", "training"):
        for net in options.nets:
            rows = [(one.length, cost) for one, cost in costs.items() if (one.net, one.step) == (net, step)]
            growths = [("", ""), *(growth(a, b) for a, b in pairwise(rows))]
            for (length, cost), (of_seconds, of_memory) in zip(rows, growths, strict=True):
                print(
                    f"{step:9} {net:17} {length:8,} {cost.seconds:8.2f} {cost.mebibytes:7.0f} {of_seconds:>9} "
                    f"{of_memory:>10}"
                )
    print_ratios(runs, options.nets[0], options.nets[1:])


def growth(a: tuple[int, Cost], b: tuple[int, Cost]) -> tuple[str, str]:
    longer = math.log(b[0] / a[0])
    ratios = (new / old if old > 0 else math.nan for old, new in zip(a[1], b[1], strict=True))
    seconds, memory = (f"{math.log(ratio) / longer:.2f}" if ratio > 0 else "-" for ratio in ratios)
    return seconds, memory


def print_ratios(runs: dict[Pass, list[Cost]], first: str, others: list[str]) -> None:
    for other in others:
        for one, theirs in runs.items():
            ours = runs.get(one._replace(net=first))
            if one.net == other and ours is not None:
                seconds, memory = (a / max(b, 1e-9) for a, b in zip(typical(theirs), typical(ours), strict=True))
                rounds = [a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True)]
                spread = f"{min(rounds):.1f} … {max(rounds):.1f} in single rounds"
                ratios = f"{seconds:.1f} × the seconds of {first} ({spread}), {memory:.1f} × the memory"
                print(f"{one.step:9} {one.length:8,}: {other} takes {ratios}")


if __name__ == "__main__":
    main()
