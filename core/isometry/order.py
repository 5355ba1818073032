"""Order: which records make up which batch, as a pure function of seed, epoch and position.

Nothing is remembered between batches, so a run that was stopped anywhere goes on with exactly the records that would
have come next, whatever the number of workers or processes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch.utils.data import DataLoader

from isometry.curriculum import Curriculum, draws_by_level
from isometry.lengths import length_classes, lengths_of


class Records(Protocol):
    """A data set: a length and a pure lookup.

    `draw(index, rng)` may be offered for randomised training samples, or `draw(index, rng, level)` for a curriculum;
    `length(index)`, a record's number of positions, for batches of similar length.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class Order:
    """The batches of every epoch.

    Args:
        n_records: size of the training set.
        batch_size: records of one optimizer step, over all processes and micro-batches together.
        seed: of the permutations.
        lengths: [n_records] positions of each record, if batches are to hold records of similar length.
        tokens: padded positions of one batch, which then counts in place of `batch_size`.

    One epoch has ceil(n_records / batch_size) batches; the last may be smaller and every record comes exactly once.
    With `tokens` it has as many for each class of similar length, see `isometry.lengths`; batches of all classes come
    mixed.
    """

    def __init__(
        self, n_records: int, batch_size: int, seed: int, lengths: np.ndarray | None = None, tokens: int | None = None
    ) -> None:
        if n_records < 1:
            raise ValueError("the training set has 0 records; training needs at least one")
        self.n_records, self.batch_size, self.seed = n_records, batch_size, seed
        self.classes = length_classes(lengths, tokens) if lengths is not None and tokens is not None else None

    @classmethod
    def of(cls, records: Records, batch_size: int, tokens: int | None, seed: int) -> Self:
        """The order of a data set. Raises ValueError if `tokens` is set, but the data set knows no lengths."""
        return cls(len(records), batch_size, seed, None if tokens is None else lengths_of(records), tokens)

    @property
    def n_batches(self) -> int:
        if self.classes is not None:
            return sum(members.n_batches for members in self.classes)
        return math.ceil(self.n_records / self.batch_size)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The record numbers of each batch of an epoch, from a counter-based generator keyed by (seed, epoch)."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed % 2**64, epoch]))
        if self.classes is not None:
            dealt = [batch for members in self.classes for batch in members.dealt(generator)]
            return [dealt[place] for place in generator.permutation(len(dealt))]
        shuffled = generator.permutation(self.n_records)
        return [shuffled[start : start + self.batch_size] for start in range(0, self.n_records, self.batch_size)]


def share(batch: np.ndarray, rank: int, world: int, n_parts: int) -> list[np.ndarray]:
    """This process's part of a batch, cut into `n_parts` micro-batches, or fewer when the batch is small.

    Every process gets the same number of parts, because a sharded model gathers its weights for each; where the batch
    does not divide, a part may be empty.
    """
    n_largest = -(-len(batch) // world)
    return np.array_split(batch[rank::world], min(n_parts, n_largest))


class Loader:
    """Fetches the items of listed batches, in order, with any number of worker processes.

    A record is fetched as `records.draw(i, rng)` where offered, with a generator that depends on seed, epoch and record
    alone, else as `records[i]`: workers change the speed, never the data. A `draw` that takes a level is given that of
    the epoch by `curriculum`, 1 without.

    Args:
        is_drawn: False for what is evaluated: always `records[i]`.
    """

    def __init__(
        self,
        records: Records,
        collate: Callable[[list[Any]], Any],
        *,
        seed: int = 0,
        n_workers: int = 0,
        pin: bool = False,
        curriculum: Curriculum | None = None,
        is_drawn: bool = True,
    ) -> None:
        self._plan, self._keyed, self._collate = _Plan(), _Keyed(records, seed, curriculum, is_drawn), collate
        self._loader = None
        if n_workers > 0 or pin:
            # A generator of its own: the loader's iterator must not draw from the global random state.
            self._loader = DataLoader(
                self._keyed,  # type: ignore[arg-type]
                batch_sampler=self._plan,
                collate_fn=collate,
                num_workers=n_workers,
                persistent_workers=n_workers > 0,
                generator=torch.Generator(),
                pin_memory=pin,
                worker_init_fn=_leave_the_group,
            )

    def fetch(self, batches: Sequence[Sequence[int] | np.ndarray], epoch: int = 0) -> Iterator[Any]:
        """The collated batches, one after another."""
        plan = ([(epoch, i) for i in np.asarray(batch).tolist()] for batch in batches)
        if self._loader is None:
            return (self._collate([self._keyed[key] for key in keys]) for keys in plan)
        self._plan.batches = list(plan)
        return iter(self._loader)


def _leave_the_group(_worker: int) -> None:
    """A signal to the whole group of processes (Ctrl-C, `timeout`) is for the training process to act upon."""
    os.setpgid(0, 0)


class _Plan:
    """A batch sampler whose list is laid anew for each pass, so that worker processes can persist."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Keyed:
    def __init__(self, records: Records, seed: int, curriculum: Curriculum | None, is_drawn: bool) -> None:
        self.records, self.seed, self.curriculum = records, seed, curriculum
        self.draw = getattr(records, "draw", None) if is_drawn else None
        self.has_levels = draws_by_level(records)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        if self.draw is None:
            return self.records[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        if not self.has_levels:
            return self.draw(index, rng)
        return self.draw(index, rng, self.curriculum.level(epoch) if self.curriculum else 1.0)


def to_device(batch: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A batch on a device, its real numbers in `dtype`: tensors, dicts, lists, tuples, PyG data, packed sequences."""
    if isinstance(batch, torch.Tensor):
        wanted = dtype if dtype is not None and batch.is_floating_point() else None
        return batch.to(device=device, dtype=wanted, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device, dtype) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device, dtype) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device, dtype) for value in batch)
    if hasattr(batch, "apply"):
        return batch.apply(lambda tensor: to_device(tensor, device, dtype))
    return batch.to(device) if hasattr(batch, "to") else batch
