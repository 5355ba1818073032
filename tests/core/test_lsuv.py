"""Layer-sequential unit variance does what it says, in one pass, and leaves the rest alone."""

import torch
from isometry.initialise import initialise, lsuv
from torch import nn


def deep_silu():
    return nn.Sequential(*(m for _ in range(20) for m in (nn.Linear(64, 64), nn.SiLU(), nn.Dropout(0.3))))


def test_lsuv_gives_every_layer_unit_spread_in_one_pass():
    torch.manual_seed(0)
    net, x = deep_silu(), torch.randn(128, 64)
    initialise(net, "linear", method="orthogonal")
    before = torch.random.get_rng_state()
    report = lsuv(net, x, tolerance=0.01)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [line.name for line in report] == [str(3 * i) for i in range(20)]
    assert all(abs(line.after - 1) <= 0.01 and not line.note for line in report)
    assert min(line.before for line in report) < 0.8
    outputs = []
    for layer in net[::3]:
        layer.register_forward_hook(lambda _layer, _args, y: outputs.append(y.std().item()))
    net(x)  # other dropout masks: the spread holds, within what chance does to 20 layers of width 64
    assert 0.5 < min(outputs) <= max(outputs) < 2


def test_lsuv_leaves_statistics_and_what_it_cannot_reach():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.norm = nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8)
            self.unused, self.frozen, self.zero = nn.Linear(3, 3), nn.Linear(8, 8), nn.Linear(8, 1)
            self.frozen.weight.requires_grad_(False)
            nn.init.zeros_(self.zero.weight)
            nn.init.zeros_(self.zero.bias)

        def forward(self, x):
            return self.zero(self.frozen(self.norm(self.body(x)).mean(-1)))

    net = Net()
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    notes = {line.name: line.note for line in lsuv(net, torch.randn(32, 3, 20))}
    assert notes["body"] == ""
    assert notes["frozen"].startswith("frozen")
    assert notes["zero"].startswith("constant")
    assert notes["unused"] == "not reached by this batch"
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())
    assert {line.name: line.note for line in lsuv(net, torch.randn(32, 3, 20), skip=["bo*"])}["body"] == "left out"
