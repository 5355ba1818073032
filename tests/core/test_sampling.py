"""What sequence decoders promise: who is fed what, where the gradient goes, and what the measures of error mean."""

import math
import runpy
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from isometry.sampling import (
    SamplingSettings,
    Start,
    chosen,
    decode,
    error_by_step,
    exposure_gap,
    forcing_at,
    free_run,
)
from torch import nn

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "decoder.py"
FALLING = ("linear", "exponential", "sigmoid")
CLOSE = 1e-6


def add_one(state, previous):
    return state + 1, previous + 1


def start(n, *rest):
    return Start(torch.zeros(n), torch.zeros(n, *rest))


@pytest.mark.parametrize("schedule", FALLING)
def test_the_forcing_falls_from_one_to_zero(schedule):
    rates = [forcing_at(i / 20, SamplingSettings(schedule=schedule)) for i in range(21)]
    assert (rates[0], rates[-1]) == (1.0, 0.0)
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_the_schedules_have_their_published_forms():
    exponential = [forcing_at(x, SamplingSettings(schedule="exponential", sharpness=20.0)) for x in (0.1, 0.2, 0.3)]
    assert exponential[1] / exponential[0] == pytest.approx(exponential[2] / exponential[1], rel=1e-4)
    k = 50.0  # of k / (k + exp(i / k)): a logistic fall around i = k ln k, of width k
    n = 2 * k * math.log(k)
    published = [k / (k + math.exp(i / k)) for i in (0.4 * n, 0.5 * n, 0.7 * n)]
    sharpness = math.log(k)
    ours = [forcing_at(x, SamplingSettings(schedule="sigmoid", sharpness=sharpness)) for x in (0.4, 0.5, 0.7)]
    assert ours == pytest.approx(published, abs=1 / k)


def test_forced_and_free_stay_what_they_are():
    assert [forcing_at(x, SamplingSettings(schedule="forced")) for x in (0, 0.5, 1)] == [1, 1, 1]
    assert [forcing_at(x, SamplingSettings(schedule="free")) for x in (0, 0.5, 1)] == [0, 0, 0]


def test_a_forced_decoder_hears_the_truth_and_a_free_one_itself():
    targets = torch.tensor([[10.0, 20.0, 30.0]])
    assert decode(add_one, start(1), targets, 1.0).tolist() == [[1, 11, 21]]
    assert decode(add_one, start(1), targets, 0.0).tolist() == [[1, 2, 3]]
    assert free_run(add_one, start(1), 3).tolist() == [[1, 2, 3]]


def test_coins_decide_for_every_token_of_every_sequence():
    targets = torch.tensor([[10.0, 20.0, 30.0], [10.0, 20.0, 30.0]])
    coins = torch.tensor([[True, False, True], [False, True, False]])
    assert decode(add_one, start(2), targets, coins).tolist() == [[1, 11, 12], [1, 2, 21]]


def test_the_truth_is_fed_as_often_as_the_forcing_says():
    targets = torch.full((400, 101), 1000.0)
    outputs = decode(add_one, start(400), targets, 0.3, torch.Generator().manual_seed(0))
    heard = (outputs[:, 1:] == 1001).float()
    three_standard_errors = 3 * math.sqrt(0.3 * 0.7 / heard.numel())
    assert heard.mean().item() == pytest.approx(0.3, abs=three_standard_errors)
    assert heard.mean(0).std() > 0
    assert heard.mean(1).std() > 0


def test_the_same_generator_tosses_the_same_coins():
    targets = torch.randn(5, 7)
    one, other = (decode(add_one, start(5), targets, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


def test_an_unknown_target_is_never_fed():
    targets = torch.tensor([[10.0, math.nan, 30.0]])
    assert decode(add_one, start(1), targets, 1.0).tolist() == [[1, 11, 12]]


def test_tokens_are_fed_back_as_chosen():
    table = torch.eye(4).roll(1, dims=1)  # after token k comes token k + 1
    targets = torch.tensor([[2, 3, 0]])
    begin = Start(None, torch.tensor([1]))
    logits = decode(lambda state, token: (state, table[token]), begin, targets, 0.0, feed=chosen)
    assert logits.argmax(-1).tolist() == [[2, 3, 0]]


def test_what_is_fed_back_is_given_data_unless_the_gradient_may_pass():
    factor = torch.tensor(2.0, requires_grad=True)

    def multiply(state, previous):
        return state, factor * previous

    begin, targets = Start(None, torch.ones(1)), torch.zeros(1, 3)
    (given,) = torch.autograd.grad(decode(multiply, begin, targets, 0.0)[:, 2].sum(), factor)
    (passed,) = torch.autograd.grad(decode(multiply, begin, targets, 0.0, through=True)[:, 2].sum(), factor)
    assert given.item() == 4.0  # d(a · 4)/da
    assert passed.item() == 12.0  # d(a³)/da


def test_the_gradient_flows_along_the_state_either_way():
    torch.manual_seed(0)
    cell = nn.GRUCell(2, 2)
    hidden = torch.zeros(1, 2, requires_grad=True)

    def step(state, previous):
        state = cell(previous, state)
        return state, state

    decode(step, Start(hidden, torch.ones(1, 2)), torch.zeros(1, 5, 2), 1.0)[:, 4].sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum() > 0


def test_the_exposure_gap_is_the_price_of_hearing_oneself():
    targets = torch.arange(2.0, 12.0, 2.0)[None]  # grows by 2, the decoder by 1
    exposure = exposure_gap(add_one, start(1), targets, lambda outputs, targets: (outputs - targets).abs())
    assert exposure.forced == pytest.approx(1.0)
    assert exposure.free == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)
    assert exposure.gap == pytest.approx(2.0)


def test_errors_are_told_step_by_step_over_what_is_known():
    targets = torch.tensor([[0.0, 0.0, math.nan], [0.0, 0.0, 0.0]])
    outputs = torch.tensor([[1.0, 3.0, 9.0], [1.0, 4.0, 2.0]])
    assert error_by_step(outputs, targets).tolist() == pytest.approx([1, math.sqrt(12.5), 2], rel=CLOSE)


def test_wrong_coins_and_rates_are_refused():
    with pytest.raises(ValueError, match="expected a probability"):
        decode(add_one, start(1), torch.zeros(1, 2), 1.5)
    with pytest.raises(ValueError, match=r"expected \[1, 2\] bool"):
        decode(add_one, start(1), torch.zeros(1, 2), torch.ones(1, 3, dtype=torch.bool))


def test_the_example_says_when_scheduled_sampling_helps(capsys, monkeypatch):
    example = runpy.run_path(str(EXAMPLE))
    noisy = {name: runs[0] for name, runs in example["compared"](noise=0.3, n_updates=150, n_seeds=1).items()}
    assert noisy["teacher forcing"].gap > 0.1 > 0 > noisy["scheduled"].gap
    assert noisy["scheduled"].by_step[-1] < noisy["teacher forcing"].by_step[-1] / 5
    monkeypatch.setattr(sys, "argv", ["decoder.py", "--noise", "0", "--updates", "10", "--seeds", "2"])
    example["main"]()
    said = capsys.readouterr().out
    assert all(name in said for name in ("teacher forcing", "free running", "scheduled, no gradient", "error at 20"))
