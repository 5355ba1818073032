"""The doctor in a plain PyTorch loop, on a network that half dies: every finding is told with its remedy.

python examples/adapters/plain_loop.py
"""

import torch
from isometry.adapters.watch import Watch
from isometry.doctor import examine
from torch import Tensor, nn

N_STEPS = 300


def network() -> nn.Module:
    """A perceptron whose second layer was given a bias that no ReLU survives."""
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    with torch.no_grad():
        model[2].bias[:40] = -50.0
    return model


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return (model(x)[:, 0] - y).square().mean()


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(2048, 16)
    y = x[:, 0] * x[:, 1]
    model = network()
    print(examine(model, (x[:128], y[:128]), loss).text())

    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    watch = Watch(model, optimizer, every=50, tell=print)  # the only line; the loop stays as it is
    for _ in range(N_STEPS):
        rows = torch.randint(0, len(x), (128,))
        optimizer.zero_grad()
        loss(model, (x[rows], y[rows])).backward()
        optimizer.step()
    print({name: round(value, 6) for name, value in watch.last.summary().items()})


if __name__ == "__main__":
    main()
