"""The average is the recursion it claims to be, and evaluating with it leaves no trace."""

import copy

import pytest
import torch
from isometry.average import Average
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

FP64 = 1e-12


class Tied(nn.Module):
    """Two uses of one weight, running statistics, and an integer counter."""

    def __init__(self):
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 7)
        self.head.weight = self.table.weight

    def forward(self, index):
        return self.head(self.norm(self.table(index)))


def train_a_little(model, average, n_steps=20):
    rate = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(n_steps):
        model(torch.arange(7)).square().mean().backward()
        rate.step()
        rate.zero_grad()
        average.update(model)


def test_average_follows_its_recursion_from_the_first_weights():
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    average, expected = Average(model, decay=0.5), 0.0
    for t in range(1, 30):
        nn.init.constant_(model.weight, float(t))
        average.update(model)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * t
        assert average.values["weight"].item() == pytest.approx(expected, abs=FP64)


def test_buffers_are_copied_not_averaged():
    model = Tied()
    average = Average(model)
    train_a_little(model, average)
    assert torch.equal(average.values["norm.running_mean"], model.norm.running_mean)
    assert average.values["norm.num_batches_tracked"].item() == 20
    assert not torch.equal(average.values["table.weight"], model.table.weight)


def test_raw_weights_come_back_bit_for_bit_even_after_an_error():
    torch.manual_seed(0)
    model = Tied()
    average = Average(model, 0.9)
    train_a_little(model, average)
    raw = copy.deepcopy(model.state_dict())

    def evaluate():
        with average.swapped(model) as averaged:
            assert averaged is model
            assert torch.equal(model.head.weight, average.values["table.weight"])
            assert not torch.equal(model.head.weight, raw["head.weight"])
            assert model.head.weight is model.table.weight
            model(torch.arange(7))  # in training mode: it changes the running statistics
            raise RuntimeError("in evaluation")

    with pytest.raises(RuntimeError, match="in evaluation"):
        evaluate()
    assert all(torch.equal(tensor, raw[name]) for name, tensor in model.state_dict().items())


def test_training_through_a_swap_is_the_same_training():
    def trained(is_swapping):
        torch.manual_seed(0)
        model = Tied()
        average = Average(model, 0.9)
        train_a_little(model, average, 5)
        if is_swapping:
            with average.swapped(model.eval()), torch.no_grad():
                model(torch.arange(7))
            model.train()
        train_a_little(model, average, 5)
        return {**model.state_dict(), **{f"average.{k}": v for k, v in average.values.items()}}

    plain, swapped = trained(False), trained(True)
    assert all(torch.equal(tensor, swapped[name]) for name, tensor in plain.items())


def test_restored_average_goes_on_bit_for_bit():
    torch.manual_seed(0)
    model = Tied()
    average = Average(model, 0.9)
    train_a_little(model, average, 5)
    restored = Average(copy.deepcopy(model), 0.9)
    restored.load_state_dict(copy.deepcopy(average.state_dict()))
    twin = copy.deepcopy(model)
    train_a_little(model, average, 5)
    train_a_little(twin, restored, 5)
    assert restored.n_updates == 10
    assert all(torch.equal(restored.values[name], value) for name, value in average.values.items())


def test_sharded_weights_are_averaged_and_swapped_though_fsdp_keeps_gathered_ones():
    """FSDP2 holds on to gathered weights after a forward pass without backward; they must not hide the swap."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        model, x = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3)), torch.ones(2, 6)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        average, rate = Average(model, 0.9), torch.optim.SGD(model.parameters(), lr=0.1)
        first = model(x)
        first.square().sum().backward()
        rate.step()
        average.update(model)
        with torch.no_grad():
            raw = model(x)
            with average.swapped(model):
                averaged = model(x)
            assert torch.equal(model(x), raw)
        step, expected = raw - first, (1 - 2 / 11) * (raw - first)
        assert (averaged - first - expected).norm() < 0.1 * step.norm()  # the net is almost linear in so small a step
    finally:
        torch.distributed.destroy_process_group()


def test_another_models_average_is_refused():
    with pytest.raises(ValueError, match="another model's: bias"):
        Average(nn.Linear(2, 2)).load_state_dict(Average(nn.Linear(2, 2, bias=False)).state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_impossible_decay_is_refused(decay):
    with pytest.raises(ValueError, match="expected 0 <= decay < 1"):
        Average(nn.Linear(2, 2), decay)
