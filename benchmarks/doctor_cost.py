"""What an examination costs, in training steps of the same network on the same batch.

    python benchmarks/doctor_cost.py

A step is one forward and backward pass and an update by AdamW. The examination is made of many small operations, so
networks whose step takes a few milliseconds pay relatively more; the median of three is told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from isometry.app import load_app
from isometry.doctor import Examination, examine
from isometry.doctor.visit import visited
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from nets import DEEP_NETS, MEMORY_NETS, OTHER_NETS, cross_entropy

N_TIMES = 3


class Subject(NamedTuple):
    name: str
    model: nn.Module
    batch: Any
    loss: Callable[[nn.Module, Any], torch.Tensor]


def subjects() -> Iterator[Subject]:
    chosen = ("tanh, orthogonal", "ReLU, He, residual × 1/√L", "CNN, 20", "Transformer, pre", "LSTM, torch")
    for net in (*DEEP_NETS, *OTHER_NETS, *MEMORY_NETS):
        if net.name.startswith(chosen):
            yield Subject(net.name, net.make(), net.batch(), cross_entropy)
    layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True, norm_first=True)
    wide = nn.Sequential(nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), nn.Linear(256, 10))
    data = torch.randn(8, 128, 256), torch.randint(0, 10, (8, 128))
    yield Subject(
        "Transformer, 6 × 256, 1,024 tokens",
        wide,
        data,
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten()),
    )
    for preset in ("tiny", "silicon"):
        app = load_app("crystal")
        with visited(app, app.presets[preset].changed(device="cpu")) as patient:
            yield Subject(f"crystal, {preset}", patient.model, patient.batch, patient.loss)


def told(name: str, found: list[Examination]) -> str:
    costs = {m: median(f.seconds.get(m, 0.0) / f.step_seconds for f in found) for m in found[0].seconds}
    parts = "  ".join(f"{measure} {cost:.1f}" for measure, cost in costs.items() if cost >= 0.05)
    step = median(f.step_seconds for f in found)
    return f"{name:<36} step {1e3 * step:7.1f} ms   {median(f.cost for f in found):5.1f} steps:  {parts}"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, model, batch, loss in subjects():
        print(told(name, [examine(model, batch, loss) for _ in range(N_TIMES)]), flush=True)


if __name__ == "__main__":
    main()
