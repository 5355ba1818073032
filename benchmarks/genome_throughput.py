"""Time and memory of predicting a whole genome by overlapping windows, and what the seams between windows change.

    python benchmarks/genome_throughput.py yeast.fa.gz [--runs timing genes] [--share 0.1] [--threads 1]
    python benchmarks/genome_throughput.py yeast.fa.gz --runs RUN --seams

A run is a folder, or the name of a shipped checkpoint. Of the genome, its sequences from the first on are predicted
until `--share` of the bases are done, and the seconds are scaled to all of them. Seconds are those that the processor
worked (getrusage), so that other people's jobs count little; with two threads they are those of both. Memory is the
largest resident set, less that before the first window: after the first sequence and at the end.

With --seams the longest sequence is predicted again with windows cut elsewhere (by half a step), and for each output
the correlation of the two is told, and the root mean square of their difference relative to the output's standard
deviation, away from the ends.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isometry.table import print_rows
from isometry_data.genomes import Genome, open_genome
from isometry_genome.asked import context_of
from isometry_genome.dataset import Place
from isometry_genome.model import GenomeModel
from isometry_genome.readout import trained
from isometry_genome.windows import Plan, Stretch, plan_of, stretches

MIB = 1 << 10  # ru_maxrss counts KiB
MINUTES = 10
"""The whole genome shall take less, on two cores."""
LONGEST = 400_000
"""Bases whose seams are looked at."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path)
    parser.add_argument("--runs", nargs="+", default=["timing", "genes"])
    parser.add_argument("--share", type=float, default=0.1, help="of the bases that are predicted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seams", action="store_true", help="what the cuts between windows change")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with open_genome(options.genome) as genome:
        for run in options.runs:
            model, settings = trained(run, "cpu")
            plan = plan_of(context_of(settings.data), settings.model)
            print_rows([{"network": run, **cost(model, genome, plan, options.share)}])
            if options.seams:
                print_rows(list(seams(model, genome, plan)))


def cost(model: GenomeModel, genome: Genome, plan: Plan, share: float) -> dict[str, Any]:
    """Of the first sequences, scaled to all."""
    n_all = sum(genome.lengths.values())
    before, wall, worked = _memory(), time.perf_counter(), _worked()
    n, after = 0, []
    for name, length in genome.lengths.items():
        for _ in stretches(model, genome, [Place(name, 0, length)], plan):
            pass
        n += length
        after.append(_memory() - before)
        if n >= share * n_all:
            break
    seconds = (_worked() - worked) * n_all / n
    return {
        "window": plan.length,
        "step": plan.step,
        "bases": n,
        "CPU s": _worked() - worked,
        "elapsed s": time.perf_counter() - wall,
        "whole genome, CPU min": seconds / 60,
        f"of {2 * MINUTES} CPU min": f"{seconds / 60 / (2 * MINUTES):.1%}",
        "MiB, first sequence": after[0] / MIB,
        "MiB, all": after[-1] / MIB,
    }


def seams(model: GenomeModel, genome: Genome, plan: Plan) -> Iterator[dict[str, Any]]:
    name = max(genome.lengths, key=lambda key: genome.lengths[key])
    end = min(genome.lengths[name], LONGEST) // plan.unit * plan.unit
    shift = plan.step // 2 // plan.unit * plan.unit
    one = list(stretches(model, genome, [Place(name, 0, end)], plan))
    other = list(stretches(model, genome, [Place(name, shift, end)], plan))
    for head, size in (("profile", model.settings.resolution), ("segments", 1)):
        if head in model.settings.heads:
            a, b = _joined(one, head)[shift // size :], _joined(other, head)
            inside = slice(plan.length // size, len(b) - plan.length // size)
            a, b = a[inside], b[inside]
            for number, (x, y) in enumerate(zip(a.T, b.T, strict=True)):
                told = {"head": head, "output": number, "bases": len(x) * size, "r": float(np.corrcoef(x, y)[0, 1])}
                yield told | {"difference, RMS": float(np.sqrt(((x - y) ** 2).mean()) / (x.std() + 1e-12))}


def _joined(parts: list[Stretch], head: str) -> np.ndarray:
    return np.concatenate([getattr(part, head) for part in parts])


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _worked() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
