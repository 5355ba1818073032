"""Fleet: the processes of a run. Everything else in the engine is written as if there were one.

`torchrun --nproc-per-node N -m isometry train …` starts N of them; each holds the whole model (DDP) or a shard of it
(FSDP2), and works on its share of every global batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal, Self, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from isometry.settings import Settings


class FleetSettings(Settings):
    shard: Literal["ddp", "fsdp2"] = "ddp"
    """How several processes hold the model: a whole copy each (ddp) or a shard each (fsdp2)."""
    timeout: float = 600.0
    """Seconds after which a process that waits for the others gives up."""


class Fleet:
    """Rank, number of processes and the few exchanges between them; with one process each of them is a plain no-op."""

    def __init__(self, rank: int, world: int, device: torch.device, shard: str) -> None:
        self.rank, self.world, self.device, self.shard = rank, world, device, shard

    @classmethod
    def start(cls, settings: FleetSettings, device_name: str) -> Self:
        """Join the processes that `torchrun` started (it sets RANK, LOCAL_RANK and WORLD_SIZE); alone otherwise."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        device = choose_device(device_name, local if world > 1 else None)
        if world > 1 and not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=settings.timeout))
        return cls(rank, world, device, settings.shard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error the others may never arrive: leaving at once lets torchrun end them.
        if self.world > 1 and dist.is_initialized() and kind is None:
            dist.barrier()  # leave together: a connection that closes early may abort the process at its other end
            dist.destroy_process_group()

    @property
    def is_lead(self) -> bool:
        """True for the one process that writes files and speaks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as the processes train it together."""
        if self.world == 1:
            return model
        if self.shard == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, reshard_after_forward=False)
        return model

    def without_exchange(self, model: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        """Gradients of all but the last micro-batch stay at home until the last one's travel."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return nullcontext() if is_last else model.no_sync()
        if self.world > 1:
            cast(Any, model).set_requires_gradient_sync(is_last)
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on each process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """The lead process's value, on each process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Put the lead's buffers (running statistics) into every process's copy of the model."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()


def whole(tree: Any) -> Any:
    """Nested dicts, lists and tuples with every tensor detached and its shards put together."""
    if isinstance(tree, Tensor):
        return (cast(Any, tree).full_tensor() if hasattr(tree, "full_tensor") else tree).detach()
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(whole(value) for value in tree)
    return tree


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, cut the way `like` is."""
    if not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor.to(like.device) if tensor.shape == like.shape else tensor
    from torch.distributed.tensor import distribute_tensor

    placed = cast(Any, like)
    return distribute_tensor(tensor.to(placed.device), placed.device_mesh, placed.placements)


@contextmanager
def on_threads(n: int | None) -> Iterator[None]:
    """A context in which this process computes on `n` threads of a CPU. None: on as many as before."""
    before = torch.get_num_threads()
    try:
        if n is not None:
            torch.set_num_threads(n)
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device called `name` (auto, cpu, cuda, cuda:1, mps). Raises ValueError if this machine has none such."""
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device '{name}' is not known; expected auto, cpu, cuda, cuda:<n> or mps") from None
    if device.type == "cuda" and not has_cuda:
        raise ValueError(f"device '{name}' was asked for, but torch {torch.__version__} sees no GPU; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' was asked for, but is not available here; use --device cpu")
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if local_rank is not None else device.index or 0)
        torch.cuda.set_device(device)
    return device
