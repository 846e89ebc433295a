"""The processes that train together: who this one is, and what all of them add up to. One alone is a world of one.

The process group is made here and nowhere else, from the variables that torchrun sets. A process that is alone, or only
reads its command line, loads no torch for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from unigrad.errors import ConfigError
from unigrad.machine import Launched, launched

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_MEETING_SECONDS = 300.0
"""How long a rank looks for the store by which the ranks meet."""
_SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Socket Timeout", "Broken pipe")
"""Of a collective that failed: of its backends' errors some are plain RuntimeErrors."""


@dataclass(frozen=True, slots=True)
class World:
    """Ranks 0 to `size` − 1, this being `rank`. Every rank calls the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that claims the folder, writes and shows."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all ranks hold: one after another they are the whole, in its order."""
        start, stop = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:stop]

    def balanced(self, items: Sequence[T], sizes: Sequence[int]) -> Sequence[T]:
        """As `share`, cut where the sizes, which are positive, add up to about as much in each part."""
        total, before = sum(sizes), 0
        mine = []
        for item, size in zip(items, sizes, strict=True):
            # Where the middle of the item lies: no part is larger than its share by more than an item.
            if (2 * before + size) * self.size // (2 * total) == self.rank:
                mine.append(item)
            before += size
        return mine

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over the ranks of tensors of one shape and dtype."""
        if self.size == 1:
            return values
        import torch.distributed as dist

        total = values.clone()
        dist.all_reduce(total)
        return total

    def gather(self, mine: list[T]) -> list[T]:
        """The ranks' lists, one after another in the order of the ranks; the items must be picklable."""
        if self.size == 1:
            return mine
        import torch.distributed as dist

        everyone: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(everyone, mine)
        return [item for each in everyone for item in each]

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first rank makes, which the others get. What it raises of input, machine or numbers (ConfigError,
        OSError, FloatingPointError) is raised on all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made: list[Any] = [None]
        if self.is_first:
            try:
                made = [make()]
            except (ConfigError, OSError, FloatingPointError) as error:
                made = [error]
        dist.broadcast_object_list(made)
        if isinstance(made[0], Exception):
            raise made[0]
        result: T = made[0]
        return result

    def wait(self) -> None:
        """Until all ranks are here."""
        self.gather([])


ALONE = World()
"""Of one process."""


def current_world() -> World:
    """The world of the process group that was initialised; of one process where there is none."""
    import torch.distributed as dist

    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextlib.contextmanager
def joined(choose_device: Callable[[], torch.device], timeout_seconds: float) -> Iterator[World]:
    """The world of the ranks that were launched together; of one process where there is no other. Where someone has
    initialised a process group (Ray), it is that one's.

    choose_device: says on what kind of device the ranks train; of several GPUs each takes that of its LOCAL_RANK.
    timeout_seconds: a collective that takes longer is an error. Raises ConfigError where the ranks cannot meet.
    """
    here = launched()
    if here.size > 1:
        _store()  # now, as the rank that keeps it may be the one that is lost
    if current_world().size > 1 or here.size == 1:
        yield current_world()
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    device = choose_device()
    _check(here, device)
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(here.local_rank)
        # Objects and what lies in main memory go by gloo.
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(
        backend,
        store=PrefixStore(f"unigrad/{here.restarts}", _store()),
        rank=here.rank,
        world_size=here.size,
        timeout=timedelta(seconds=timeout_seconds),
    )
    yield current_world()
    # Only where all went well: else the others may be gone, or stand elsewhere.
    dist.destroy_process_group()


def speaks_first() -> bool:
    """Whether no other rank has asked this yet: it is the one to say what went wrong. One process alone always is."""
    here = launched()
    if here.size == 1:
        return True
    try:
        said_by: bytes = _store().compare_set(f"unigrad/said/{here.restarts}", "", str(here.rank))
    except (RuntimeError, ConfigError):
        # The first rank kept the store, and is gone.
        return here.rank == 1
    return said_by.decode() == str(here.rank)


def is_of_another_rank(error: BaseException) -> bool:
    """Whether a collective failed: another rank is gone, or was silent for too long."""
    if not isinstance(error, RuntimeError) or current_world().size == 1:
        return False
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS)


def _check(here: Launched, device: torch.device) -> None:
    import torch

    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ConfigError(f"WORLD_SIZE is {here.size}, but {name} is not set: start the ranks with torchrun")
    if device.type not in ("cuda", "cpu"):
        raise ConfigError(f"model.device = {device.type!r}: several ranks train on cuda or cpu")
    if device.type == "cuda" and device.index is not None:
        raise ConfigError(f"model.device = '{device}': each rank takes the GPU of its LOCAL_RANK; give cuda")
    if device.type == "cuda" and here.local_rank >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"{here.local_size} ranks on a machine with {count} GPUs: start {count} with --nproc-per-node {count}"
        )


@cache
def _store() -> Store:
    """By which the ranks meet: torchrun's, or the first rank's."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store: Store = next(rendezvous("env://", timeout=timedelta(seconds=_MEETING_SECONDS)))[0]
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise ConfigError(f"the ranks cannot meet at {where}: {error}") from error
    return store
