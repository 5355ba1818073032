"""What a safe checkpoint costs: Vault.save against torch.save, side by side in one run.

    python benchmarks/checkpoint_save.py [megabytes] [rounds]

Prints medians, and ratios to torch.save alone, which neither waits for the disk nor could tell a damaged file.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from isometry.checkpoint import Vault, read_checkpoint


def state_of(n_bytes: int) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and an optimizer state of Adam's shape: a quarter of the bytes weights, the rest three copies."""
    n_layers, n = 40, n_bytes // 4 // 4 // 40
    weights = {f"layer{index}.weight": torch.randn(n) for index in range(n_layers)}
    moments = {index: {"first": torch.randn(n), "second": torch.rand(n), "live": torch.randn(n)} for index in range(40)}
    return weights, {"optimizer": moments, "random": torch.get_rng_state(), "step": 0}


def plain(folder: Path, step: int, weights: dict, state: dict) -> None:
    torch.save({"weights": weights, "state": state}, folder / "plain.pt")


def careful(folder: Path, step: int, weights: dict, state: dict) -> None:
    """torch.save written beside, flushed and renamed, as a careful author would."""
    beside = folder / "beside.pt"
    with open(beside, "wb") as file:
        torch.save({"weights": weights, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / "careful.pt")
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def vault(folder: Path, step: int, weights: dict, state: dict) -> None:
    Vault(folder / "vault").save(step, weights, state)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    torch.set_num_threads(1)
    weights, state = state_of(megabytes * 1_000_000)
    seconds: dict[str, list[float]] = {}
    folder = Path(tempfile.mkdtemp(dir="."))
    try:
        for step in range(rounds + 2):
            for save in (plain, careful, vault):
                seconds.setdefault(save.__name__, []).append(timed(save, folder, step, weights, state))
        last = folder / "vault" / f"step-{rounds + 1:08d}"
        seconds["read back"] = [timed(lambda: read_checkpoint(last).state()) for _ in range(rounds + 2)]
    finally:
        shutil.rmtree(folder)
    medians = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:10} {1e3 * median:8.1f} ms   {median / medians['plain']:5.2f} × torch.save")


def timed(work: Callable, *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
