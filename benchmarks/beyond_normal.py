"""Mutual information of the 40 "Beyond Normal" tasks of known truth: ours, nearest neighbours, correlations. Nats.

    python benchmarks/beyond_normal.py --seeds 1 [--only WORD]

Each row is a task, a mean over the seeds: the truth, ours with the interval of 95 %, Kraskov's estimator with 10
neighbours on coordinates of variance 1, and canonical correlation of the values as they are. The last rows: the mean
absolute error over tasks and seeds, and how often the interval held the truth, and where it did not, on which side.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from isometry.information.beyond_normal import Task, tasks
from isometry.information.bits import NATS, Array
from isometry.information.continuous import mutual_information
from isometry.information.nearest import ksg

ROW = "{:40s}{:>7s}{:>8s}  {:16s}{:>8s}{:>8s}{:>7s}"


def by_correlations(x: Array, y: Array) -> float:
    """I of Gaussian variables with the sample's covariance."""
    n_x, covariance = x.shape[1], np.cov(np.hstack([x, y]).T)
    parts = (covariance[:n_x, :n_x], covariance[n_x:, n_x:], covariance)
    of_x, of_y, of_both = (np.linalg.slogdet(np.atleast_2d(part))[1] for part in parts)
    return float(of_x + of_y - of_both) / 2


def estimates(task: Task, seed: int, n_samples: int, has_neighbours: bool) -> Array:
    """Ours, its low and high, by neighbours (NaN: left out), by correlations; the seconds ours took."""
    x, y = task.sample(n_samples, seed)
    started = time.process_time()
    ours = mutual_information(x, y, seed=seed).times(NATS)
    seconds = time.process_time() - started
    neighbours = ksg(x / x.std(0), y / y.std(0)) * NATS if has_neighbours else np.nan
    return np.array([ours.value, ours.low, ours.high, neighbours, by_correlations(x, y), seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="how many samples of each task (default: 1)")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        help="1 and on judge the value, 2 and on the interval; seeds before these, and of 100 and on, made them",
    )
    parser.add_argument("--samples", type=int, default=10_000, help="of each task (default: 10000, as published)")
    parser.add_argument(
        "--no-ksg", action="store_true", help="leave out the neighbours: minutes in 25 dimensions and more"
    )
    parser.add_argument("--only", default="", help="tasks whose name has this word")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(ROW.format("task", "truth", "ours", "interval", "KSG", "CCA", "CPU s"))
    truths, found = [], []
    for task in (task for task in tasks() if options.only in task.name):
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        rows = np.array([estimates(task, seed, options.samples, not options.no_ksg) for seed in seeds])
        truths.append(task.nats)
        found.append(rows)
        value, low, high, neighbours, correlations, seconds = rows.mean(0)
        numbers = [f"{number:.3f}" for number in (task.nats, value, neighbours, correlations)]
        interval = f"[{low:.3f}, {high:.3f}]"
        print(ROW.format(task.name, *numbers[:2], interval, *numbers[2:], f"{seconds:.1f}"), flush=True)
    summarise(np.array(truths)[:, None], np.array(found))


def summarise(truths: Array, found: Array) -> None:
    """truths: [n_tasks, 1]; found: [n_tasks, n_seeds, 6] of `estimates`."""
    errors = np.abs(found[..., [0, 3, 4]] - truths[..., None]).mean((0, 1))
    numbers = [f"{number:.3f}" for number in errors]
    seconds = f"{found[..., 5].mean():.1f}"
    print(ROW.format("mean absolute error", "", numbers[0], "", *numbers[1:], seconds))
    above, below = (found[..., 1] > truths).mean(), (found[..., 2] < truths).mean()
    width, slowest = (found[..., 2] - found[..., 1]).mean(), found[..., 5].max()
    print(f"interval of 95 % holds the truth: {1 - above - below:.0%}; above it: {above:.0%}, below: {below:.0%}")
    print(f"mean width of the interval: {width:.3f}; slowest task: {slowest:.1f} CPU s")


if __name__ == "__main__":
    main()
