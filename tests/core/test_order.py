"""What the order of records promises: a pure function of seed and epoch, each record once, however work is divided."""

import numpy as np
import pytest
import torch
from isometry.order import Loader, Order, share, to_device


def fetched(loader: Loader, order: Order, epoch: int = 0) -> list[list[int]]:
    return [batch.tolist() for batch in loader.fetch(order.batches(epoch), epoch)]


@pytest.mark.parametrize(("n", "size"), [(1, 1), (1, 8), (10, 3), (12, 4), (7, 7), (100, 16)])
def test_every_record_comes_once_an_epoch(n, size):
    order = Order(n, size, seed=3)
    for epoch in range(3):
        batches = order.batches(epoch)
        assert len(batches) == order.n_batches == -(-n // size)
        assert sorted(np.concatenate(batches)) == list(range(n))
        assert all(len(batch) == size for batch in batches[:-1])


def test_order_is_a_pure_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(Order(50, 8, seed).batches(epoch)).tolist()

    np.random.seed(0)
    first = order(1, 7)
    np.random.seed(99)
    torch.manual_seed(99)
    assert order(1, 7) == first
    assert order(1, 8) != first
    assert order(2, 7) != first


@pytest.mark.parametrize("n", [1, 2, 5, 15, 16, 33])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n_parts", [1, 2, 4])
def test_the_processes_share_each_batch_without_loss_and_keep_in_step(n, world, n_parts):
    batch = np.arange(100, 100 + n)
    shares = [share(batch, rank, world, n_parts) for rank in range(world)]
    assert sorted(int(record) for parts in shares for part in parts for record in part) == batch.tolist()
    assert len({len(parts) for parts in shares}) == 1, "a sharded model needs the same number of passes everywhere"
    assert 1 <= len(shares[0]) <= n_parts
    assert all(len(part) for part in shares[0])


def test_workers_do_not_change_the_batches():
    records, order = torch.arange(40), Order(40, 7, seed=0)
    alone, helped = (fetched(Loader(records, torch.stack, n_workers=n), order, epoch=2) for n in (0, 2))
    assert alone == helped == [batch.tolist() for batch in order.batches(2)]


class Noisy:
    """Records that are drawn anew in every epoch."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        raise AssertionError("a training record that can be drawn must be drawn")

    def draw(self, index, rng):
        return torch.tensor([index, rng.integers(1 << 30)])


def test_random_draws_depend_on_seed_epoch_and_record_alone():
    order = Order(20, 6, seed=0)

    def drawn(epoch: int, seed: int, n_workers: int = 0, size: int = 6) -> list[list[int]]:
        loader = Loader(Noisy(), torch.stack, seed=seed, n_workers=n_workers)
        batches = Order(20, size, seed=0).batches(epoch)
        return sorted(row.tolist() for batch in loader.fetch(batches, epoch) for row in batch)

    assert drawn(1, 5) == drawn(1, 5, n_workers=2) == drawn(1, 5, size=3)
    assert drawn(1, 5) != drawn(2, 5)
    assert drawn(1, 5) != drawn(1, 6)
    assert order.n_batches == 4


def test_what_is_evaluated_is_never_drawn():
    class Both(Noisy):
        def __getitem__(self, index):
            return torch.tensor(index)

    (batch,) = Loader(Both(), torch.stack, is_drawn=False).fetch([range(4)])
    assert batch.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("n_workers", [0, 1])
def test_fetching_draws_nothing_from_the_global_generators(n_workers):
    loader = Loader(torch.arange(8), torch.stack, n_workers=n_workers)
    before = torch.get_rng_state()
    list(loader.fetch([[0, 1], [2]]))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="0 records"):
        Order(0, 4, seed=0)


def test_batches_of_any_form_reach_device_and_number_format():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3), torch.ones(2)])
    batch = {
        "x": torch.ones(2),
        "n": torch.arange(2),
        "pair": (torch.ones(1), [torch.ones(1)]),
        "name": "a",
        "p": packed,
    }
    moved = to_device(batch, torch.device("cpu"), torch.float64)
    assert moved["x"].dtype == moved["pair"][1][0].dtype == moved["p"].data.dtype == torch.float64
    assert moved["n"].dtype == moved["p"].batch_sizes.dtype == torch.int64
    assert moved["name"] == "a"
