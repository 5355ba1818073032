"""What a training step costs beyond a plain loop, with every safety of the engine on.

    python benchmarks/step_overhead.py

A perceptron 32-64-64-1 with AdamW at batch 64, where the engine's cost is as visible as it can be. The loops take
turns in one process, so that a busy machine slows all of them alike: the bare loop over batches in hand, the same loop
through torch's DataLoader, and our Fit (gradient clipping, finite test, moving average, schedule, log, a look at the
network's health every 100 steps) with the same batches in hand and through its own loader; then once more in hand
without any look, and with a look at every step, which tells what one costs. Prints the 10th and 50th percentile of
each in µs, and the ratios.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice

import numpy as np
import torch
from isometry.checkpoint import Vault
from isometry.events import Ledger
from isometry.fit import Fit, FitSettings, Task
from isometry.fleet import Fleet
from isometry.guard import GuardSettings
from isometry.objective import Loss, Objective
from isometry.optim import OptimSettings
from isometry.precision import PrecisionSettings
from torch import Tensor, nn
from torch.utils.data import DataLoader

N_ROUNDS, N_STEPS, BATCH = 12, 350, 64

Timer = Callable[[], list[float]]


class Records:
    def __init__(self, n: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(n, 32, generator=generator)
        self.y = self.x.sum(1)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def plain(records: Records, in_hand: bool) -> Timer:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loader = DataLoader(records, BATCH, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]
    batches = cycle(list(loader)) if in_hand else forever(loader)

    def timed() -> list[float]:
        times = [time.perf_counter()]
        for x, y in islice(batches, N_STEPS):
            loss = (model(x)[:, 0] - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.perf_counter())
        return np.diff(times).tolist()

    return timed


def forever(loader: DataLoader):
    while True:
        yield from loader


def ours(records: Records, in_hand: bool, folder: str, health_every: int = 100) -> Timer:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Loss:
        squared = (model(batch[0])[:, 0] - batch[1]).square()
        return Loss(squared, {"squared": squared.detach()})

    task = Task(
        model=network(),
        objective=Objective(loss, lambda *_: {}, lambda _: {}, decides="none"),
        train=records,
        valid=None,
        collate=collate,
        fit=FitSettings(epochs=10**6, batch_size=BATCH, average=0.999, save_every=1e9),
        optim=OptimSettings(clip=10.0),
        precision=PrecisionSettings(),
        guard=GuardSettings(),
        seed=0,
        fleet=Fleet(0, 1, torch.device("cpu"), "ddp"),
        vault=Vault(folder),
        emit=Ledger(f"{folder}/events.jsonl"),
        health_every=health_every,
    )
    fit = Fit(task)
    if in_hand:
        batches = cycle(DataLoader(records, BATCH, shuffle=True, collate_fn=collate))  # type: ignore[arg-type]
        fit.loader.fetch = lambda plan, epoch: islice(batches, len(plan))  # type: ignore[method-assign]
    times: list[float] = []
    take = fit._stop_or_save

    def noted() -> None:
        take()
        times.append(time.perf_counter())
        if len(times) > N_STEPS:
            raise _Enough

    fit._stop_or_save = noted  # type: ignore[method-assign]

    def timed() -> list[float]:
        times[:] = [time.perf_counter()]
        try:
            fit._train_epoch()
        except _Enough:
            fit.position.batch = 0
        return np.diff(times).tolist()

    return timed


class _Enough(Exception):
    """Leaves the loop once a round is over."""


def main() -> None:
    torch.set_num_threads(1)
    records = Records(BATCH * (N_STEPS + 1))
    with ExitStack() as stack:
        folders = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(4))
        loops = {
            "plain, batches in hand": plain(records, in_hand=True),
            "ours, batches in hand": ours(records, True, next(folders)),
            "plain, DataLoader": plain(records, in_hand=False),
            "ours, own loader": ours(records, False, next(folders)),
            "no look, in hand": ours(records, True, next(folders), health_every=0),
            "every step, in hand": ours(records, True, next(folders), health_every=1),
        }
        times: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(N_ROUNDS):
            for name, timed in loops.items():
                times[name] += timed()[5:]
    print(f"{'loop':<24} {'p10 µs':>8} {'p50 µs':>8} {'p10 ratio':>10} {'p50 ratio':>10} {'p10 extra µs':>13}")
    for name, values in times.items():
        p10, p50 = np.percentile(np.array(values) * 1e6, [10, 50])
        reference = times["plain, batches in hand" if "in hand" in name else "plain, DataLoader"]
        r10, r50 = np.percentile(np.array(reference) * 1e6, [10, 50])
        print(f"{name:<24} {p10:8.0f} {p50:8.0f} {p10 / r10:10.2f} {p50 / r50:10.2f} {p10 - r10:13.0f}")


if __name__ == "__main__":
    main()
