"""Batches by length: within the budget, each record once, the same number every epoch, the same run if stopped."""

import numpy as np
import pytest
from isometry.lengths import RATIO, in_batches, length_classes
from isometry.order import Order
from isometry_wave.dataset import Points, simulated

TOKENS = 4000
LENGTHS = np.random.default_rng(0).gamma(4, 60, 1500).astype(int) + 1


class Uneven(Points):
    """Points that claim to have lengths."""

    def length(self, index: int) -> int:
        return 1 + index % 17


def uneven(n=200):
    points = simulated(n, 1, 0.1)
    return Uneven(points.x.numpy(), points.y.numpy())


def padded(batch):
    return len(batch) * LENGTHS[batch].max()


def test_every_record_comes_once_an_epoch_within_the_budget():
    order = Order(len(LENGTHS), 1, 3, LENGTHS, TOKENS)
    for epoch in range(3):
        batches = order.batches(epoch)
        assert len(batches) == order.n_batches
        assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
        assert max(map(padded, batches)) <= TOKENS


def test_little_is_padding_and_few_batches_are_small():
    batches = Order(len(LENGTHS), 1, 3, LENGTHS, TOKENS).batches(0)
    assert sum(map(padded, batches)) <= RATIO * LENGTHS.sum()
    assert np.mean([padded(batch) for batch in batches]) > 0.8 * TOKENS


def test_a_record_beyond_the_budget_is_a_batch_of_its_own():
    batches = Order(4, 1, 0, np.array([5, 9000, 5, 5]), TOKENS).batches(0)
    assert sorted(sorted(batch) for batch in batches) == [[0, 2, 3], [1]]


def test_order_by_length_is_a_pure_function_of_seed_and_epoch():
    def order(seed, epoch):
        return [batch.tolist() for batch in Order(len(LENGTHS), 1, seed, LENGTHS, TOKENS).batches(epoch)]

    assert order(1, 7) == order(1, 7)
    assert order(1, 8) != order(1, 7) != order(2, 7)
    assert order(1, 7) != sorted(order(1, 7), key=lambda batch: LENGTHS[batch].max()), "all lengths come mixed"


@pytest.mark.parametrize("lengths", [[0, 0], [3], [7, 7, 7], []])
def test_degenerate_lengths_make_classes(lengths):
    classes = length_classes(np.array(lengths, dtype=int), 7)
    assert sorted(i for members, _ in classes for i in members) == list(range(len(lengths)))


def test_an_evaluation_meets_every_record_of_its_share():
    records, mine = uneven(50), np.arange(1, 50, 2)
    for tokens in (None, 40):
        batches = in_batches(records, mine, 4, tokens)
        assert sorted(np.concatenate(batches)) == mine.tolist()
    assert all(len(batch) * max(records.length(i) for i in batch) <= 40 for batch in batches)


def test_data_without_lengths_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"offers no length\(index\).*leave fit\.tokens empty"):
        Order.of(simulated(10, 1, 0.1), 4, 100, seed=0)


@pytest.mark.parametrize("fit", [{}, {"accumulate": 3}, {"workers": 2}], ids=str)
def test_a_run_by_length_goes_on_bit_for_bit(run, with_task, same_bits, fit):
    change = with_task(train=uneven(), valid=uneven(40))
    fit = {"epochs": 3, "tokens": 90, **fit}
    whole = run("whole", change, fit=fit).until_end()
    assert whole.fit.order.n_batches > 20
    same_bits(run("stopped", change, fit=fit).stopped_at(31).until_end().fit.state(), whole.fit.state())


def test_scores_do_not_depend_on_how_they_are_batched(run, with_task):
    change = with_task(train=uneven(), valid=uneven(40))
    scores = [run(f"{t}", change, fit={"tokens": t}).fit.evaluate(uneven(40)) for t in (30, 300)]
    assert scores[0]["rmse"] == pytest.approx(scores[1]["rmse"], rel=1e-6)
