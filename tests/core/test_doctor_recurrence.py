"""Growth through time against closed forms, and against autograd through the module as its user runs it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from isometry.doctor.recurrence import Recurrence, measure_recurrence, reach
from isometry.doctor.subject import Subject
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

FP32 = 1e-4  # relative, over hundreds of steps
WIDTH = 16


def last(model: nn.Module, batch: Any) -> Tensor:
    """Of a recurrent module's output."""
    out = model(batch)[0]
    return (out.data if isinstance(out, PackedSequence) else out).square().mean()


def recurrences(model: nn.Module, batch: Any, loss: Any = last) -> list[Recurrence]:
    with Subject.of(model, batch, loss) as subject:
        found = measure_recurrence(subject)
    json.dumps([asdict(record) for record in found])
    return found


def linear_like(rho: float, width: int = WIDTH, **how: Any) -> nn.RNN:
    """A tanh net whose states are so small that tanh is the identity: h_t = ρ Q h_{t-1} + x_t."""
    module = nn.RNN(width, width, bias=False, **how)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.eye(width))
            if "hh" in name:
                weight.copy_(rho * nn.init.orthogonal_(torch.empty(width, width)))
    return module


def share_at(record: Recurrence, distance: int) -> float:
    assert record.shares is not None
    return next(reached.log10_share for reached in record.shares if reached.distance == distance)


def loss_of_tiny(model: nn.Module, batch: Any) -> Tensor:
    return (1e12 * model(batch)[0]).square().mean()


def test_what_underflows_on_the_way_is_still_measured() -> None:
    """0.5^230 is 6e-70; fp32 ends at 1e-38."""
    torch.manual_seed(0)
    (found,) = recurrences(linear_like(0.5), 1e-6 * torch.randn(231, 2, WIDTH), loss_of_tiny)
    assert found.lyapunov == pytest.approx(math.log(0.5), abs=1e-4)
    assert share_at(found, 100) == pytest.approx(100 * math.log10(0.5), abs=1e-3)


@pytest.mark.parametrize(("gain", "sign"), [(0.8, -1), (1.5, 1)])
def test_random_tanh_nets_forget_below_gain_one_and_explode_above(gain: float, sign: int) -> None:
    """Sompolinsky et al. 1988: chaos above g = 1, without input."""
    torch.manual_seed(0)
    module = nn.RNN(4, 200, bias=False)
    nn.init.normal_(module.weight_hh_l0, std=gain / math.sqrt(200))
    (found,) = reach(module, 200, like=torch.zeros(1, 4) + 0.01)
    assert found.lyapunov is not None
    assert found.lyapunov_error is not None
    assert sign * found.lyapunov > 3 * found.lyapunov_error
    if gain < 1:
        assert found.lyapunov == pytest.approx(math.log(gain), abs=0.05)


def test_an_open_forget_gate_remembers() -> None:
    torch.manual_seed(0)
    module = nn.LSTM(4, 32)
    (closed,) = reach(module, 300)
    with torch.no_grad():
        module.bias_hh_l0[32:64] = 6.0
    (opened,) = reach(module, 300)
    assert share_at(closed, 100) < -15
    assert share_at(opened, 100) > -2
    assert [gate.name for gate in opened.gates or []] == ["input", "forget", "cell", "output"]


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("is_packed", [False, True])
def test_shares_are_those_of_autograd_through_the_module(kind: Any, is_packed: bool) -> None:
    """In each direction of a bidirectional module, for sequences of different lengths."""
    torch.manual_seed(0)
    module, lengths = kind(3, 5, bidirectional=True, batch_first=True), torch.tensor([7, 4])
    x = torch.randn(2, 7, 3)
    batch: Any = pack_padded_sequence(x, lengths, batch_first=True) if is_packed else x[:1]
    if not is_packed:
        lengths = lengths[:1]
    onward, backward = recurrences(module, batch)
    assert (onward.is_reverse, backward.is_reverse) == (False, True)
    assert onward.n_steps == backward.n_steps == 7
    noise = torch.randn(len(lengths), 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = (noise / noise.norm(dim=1, keepdim=True)).float()
    squares = np.zeros((2, 7, len(lengths)))
    for i, n in enumerate(lengths.tolist()):
        leaf = x[i, :n].clone().requires_grad_()
        out = module(leaf)[0]
        for direction, (step, part) in enumerate([(n - 1, out[:, :5]), (0, out[:, 5:])]):
            (gradient,) = torch.autograd.grad(part[step] @ u[i], leaf, retain_graph=True)
            norms = gradient.square().sum(-1).numpy()
            squares[direction, :n, i] = norms if direction else norms[::-1]
    for record, of in zip((onward, backward), squares, strict=True):
        for distance in (1, 2, 5, 6):
            known = lengths.numpy() > distance
            expected = 0.5 * math.log10(of[distance, known].sum() / of[0, known].sum())
            assert share_at(record, distance) == pytest.approx(expected, abs=1e-4)


def test_every_layer_and_direction_is_told_apart() -> None:
    torch.manual_seed(0)
    module = nn.GRU(3, 4, num_layers=2, bidirectional=True)
    found = recurrences(module, torch.randn(9, 2, 3))
    assert [(record.layer, record.is_reverse) for record in found] == [(0, False), (0, True), (1, False), (1, True)]
    assert all(record.lyapunov is not None and len(record.gates or []) == 3 for record in found)


def test_a_projected_state_recurs_through_its_projection() -> None:
    torch.manual_seed(0)
    module = nn.LSTM(3, 8, proj_size=4, batch_first=True)
    (found,) = recurrences(module, torch.randn(2, 9, 3))
    forget = module.weight_hh_l0[8:16] @ module.weight_hr_l0
    assert found.gates is not None
    assert found.gates[1].norm == pytest.approx(float(torch.linalg.matrix_norm(forget.detach(), 2)), rel=FP32)
    assert found.lyapunov is not None


class Loop(nn.Module):
    """One cell, or one matrix, called for every step."""

    def __init__(self, rho: float, is_cell: bool) -> None:
        super().__init__()
        self.cell = nn.RNNCell(WIDTH, WIDTH, bias=False) if is_cell else nn.Linear(WIDTH, WIDTH, bias=False)
        self.is_cell = is_cell
        with torch.no_grad():
            for name, weight in self.cell.named_parameters():
                weight.copy_(torch.eye(WIDTH))
                if name != "weight_ih":
                    weight.copy_(rho * nn.init.orthogonal_(torch.empty(WIDTH, WIDTH)))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        h = torch.zeros_like(x[0])
        for step in x:
            h = self.cell(step, h) if self.is_cell else self.cell(h + step)
        return (h,)


@pytest.mark.parametrize("is_cell", [True, False])
@pytest.mark.parametrize("rho", [0.9, 1.1])
def test_cells_called_in_a_loop_are_measured_in_it(is_cell: bool, rho: float) -> None:
    torch.manual_seed(0)
    (found,) = recurrences(Loop(rho, is_cell), 1e-6 * torch.randn(41, 3, WIDTH), loss_of_tiny)
    assert (found.name, found.n_steps) == ("cell", 41)
    assert found.lyapunov == pytest.approx(math.log(rho), rel=1e-3)
    assert found.first_share == pytest.approx(rho**40, rel=1e-3)
    assert (found.gates or [])[0].spectral_radius == pytest.approx(rho, rel=FP32)


def test_a_layer_used_twice_is_no_recurrence() -> None:
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = shared

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.shared(part) for part in x])

    assert recurrences(Shared(), torch.randn(5, 3, 4), lambda model, x: model(x).square().mean()) == []


def test_a_net_without_numbers_says_so() -> None:
    module = nn.RNN(3, 4)
    module.weight_hh_l0.data.fill_(0.0)
    (found,) = recurrences(module, torch.randn(6, 2, 3))
    assert found.lyapunov == -math.inf
    assert found.first_share == 0
    module.weight_ih_l0.data.fill_(0.0)
    (found,) = recurrences(module, torch.randn(6, 2, 3))
    assert found.lyapunov is None
    assert found.reason
