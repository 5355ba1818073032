"""What fp16 flushes: the doctor's forecast beside what autocast really does, on networks of seven kinds.

    python docs/half_precision.py            # prints the table; half a minute on one core
    python docs/half_precision.py --write    # and puts it into docs/half_precision.md

Measured: `torch.autocast` with torch's own fp16 kernels, gradients caught by hooks and from `.grad`. Forecast: from
fp32 arithmetic alone (`isometry.doctor.half`). Both count the entries of gradients that are not zero in fp32 and zero
in fp16, over all layers' outputs and over all weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from isometry.doctor.half import Half, flushed, forecast, measure_half
from isometry.doctor.subject import Subject
from page import fill
from torch import Tensor, nn

SCALES = (1.0, 2.0**5, 2.0**10, 2.0**16)
PAGE = Path(__file__).with_suffix(".md")
TOLERANCE = 2.0  # percentage points


class Net(NamedTuple):
    name: str
    model: nn.Module
    batch: tuple[Tensor, Tensor]


class Row(NamedTuple):
    net: str
    scale: float
    of: str
    forecast: float  # %
    measured: float  # %

    @property
    def difference(self) -> float:
        return self.forecast - self.measured


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return nn.functional.cross_entropy(model(x).float(), y)


def perceptron(
    activation: nn.Module, start: Callable[[Tensor], Any], n_layers: int = 50, width: int = 128
) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(n_layers):
        linear = nn.Linear(width, width)
        start(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 64, 2), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.transpose(0, 1))[0][-1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, activation="gelu", batch_first=True)
        self.embed, self.encoder, self.head = nn.Linear(16, 64), nn.TransformerEncoder(layer, 4), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x)).mean(1))


def convolutional() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 16), (16, 32), (32, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def nets() -> Iterator[Net]:
    """Deep ones are 128 wide."""
    normal, uniform = nn.init.xavier_normal_, nn.init.xavier_uniform_
    flat, steps, image = torch.Size([128, 128]), torch.Size([32, 20, 16]), torch.Size([32, 3, 12, 12])
    made: list[tuple[str, Callable[[], nn.Module], torch.Size]] = [
        ("ReLU, Xavier, 50 layers", lambda: perceptron(nn.ReLU(), normal), flat),
        ("ReLU, He, 50 layers", lambda: perceptron(nn.ReLU(), nn.init.kaiming_normal_), flat),
        ("tanh, Xavier, 50 layers", lambda: perceptron(nn.Tanh(), normal), flat),
        ("tanh, gain 5/3, 50 layers", lambda: perceptron(nn.Tanh(), lambda w: normal(w, 5 / 3)), flat),
        ("GELU, Xavier, 20 layers", lambda: perceptron(nn.GELU(), uniform, 20), flat),
        ("GELU, gain 1.5335, 50 layers", lambda: perceptron(nn.GELU(), lambda w: normal(w, 1.5335)), flat),
        ("sigmoid, Xavier, 12 layers", lambda: perceptron(nn.Sigmoid(), normal, 12), flat),
        ("CNN with batch norm", convolutional, image),
        ("LSTM, 2 layers, 20 steps", Recurrent, steps),
        ("Transformer, 4 layers", Attentive, steps),
    ]
    for seed, (name, make, shape) in enumerate(made):
        torch.manual_seed(seed)
        yield Net(name, make(), (torch.randn(shape), torch.randint(10, shape[:1])))


def measured(net: Net, scale: float) -> dict[str, float]:
    """By kind, the share (%) that autocast flushes; the model's hooks and gradients are taken away afterwards."""
    exact, half = _kept(net, None), _kept(net, scale)
    return {of: 100 * (1 - min(half[of] / exact[of], 1.0)) for of in exact}


def _kept(net: Net, scale: float | None) -> dict[str, int]:
    """Entries that are not zero, of the gradients by outputs and by weights; in fp32 without a scale."""
    caught: list[Tensor] = []

    def watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        first.register_hook(caught.append)

    layers = [m for m in net.model.modules() if not list(m.children()) or list(m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(watch) for layer in layers]
    is_recurrent = isinstance(net.model, Recurrent)  # mkldnn's LSTM has no fp16
    torch.manual_seed(0)
    with (
        torch.backends.mkldnn.flags(enabled=False) if is_recurrent else nullcontext(),
        torch.autocast("cpu", dtype=torch.float16, enabled=scale is not None),
    ):
        value = loss(net.model, net.batch)
    (value * (scale or 1.0)).backward()
    found = {"activation": caught, "weight": [p.grad for p in net.model.parameters() if p.grad is not None]}
    counts = {of: sum(int(g.count_nonzero()) for g in gradients) for of, gradients in found.items()}
    for hook in hooks:
        hook.remove()
    net.model.zero_grad(set_to_none=True)
    return counts


def rows_of(net: Net, scales: tuple[float, ...] = SCALES) -> list[Row]:
    with Subject.of(net.model, net.batch, loss) as subject:
        foreseen = forecast(subject, scales)
        truth = {scale: measured(net, scale) for scale in scales}
    return [
        Row(net.name, scale, of, 100 * flushed(foreseen[scale], of), truth[scale][of])
        for scale in scales
        for of in ("activation", "weight")
    ]


def examined(net: Net) -> Half:
    with Subject.of(net.model, net.batch, loss) as subject:
        return measure_half(subject)


def table(rows: list[Row]) -> str:
    lines = [
        "| network | loss scale | gradients of | forecast % | measured % | difference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.net} | {r.scale:g} | {r.of}s | {r.forecast:.2f} | {r.measured:.2f} | {r.difference:+.2f} |" for r in rows
    ]
    worst = max(abs(row.difference) for row in rows)
    return "\n".join([*lines, "", f"Largest difference: {worst:.2f} percentage points."])


def windows(halves: dict[str, Half]) -> str:
    lines = [
        "| network | need | allow | start | flushed at scale 1, weights % | at start % |",
        "|---|---|---|---|---|---|",
    ]
    for name, half in halves.items():
        shares = [100 * half.weights[at].flushed for at in ("unscaled", "scaled")] if half.weights else [0.0, 0.0]
        cells = [f"{x:g}" if x is not None else "–" for x in (half.need, half.allow, half.start)]
        lines.append(f"| {name} | {' | '.join(cells)} | {shares[0]:.2f} | {shares[1]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    rows, halves = [], {}
    for net in nets():
        rows += rows_of(net)
        halves[net.name] = examined(net)
    text = f"{table(rows)}\n\n{windows(halves)}"
    print(text)
    if "--write" in sys.argv:
        fill(PAGE, text)


if __name__ == "__main__":
    main()
