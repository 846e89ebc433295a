"""The processes that train together: who this one is, and what all of them add up to. One alone is a world of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """Ranks 0 to `size` − 1, this being `rank`. Every rank calls the same methods in the same order."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all ranks hold: one after another they are the whole, in its order."""
        start, stop = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[start:stop]

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over the ranks of tensors of one shape and dtype."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gather(self, mine: list[T]) -> list[T]:
        """The ranks' lists, one after another in the order of the ranks; the items must be picklable."""
        if self.size == 1:
            return mine
        everyone: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(everyone, mine)
        return [item for each in everyone for item in each]


def current_world() -> World:
    """The world of the process group that was initialised; of one process where there is none."""
    if not dist.is_available() or not dist.is_initialized():
        return World()
    return World(dist.get_rank(), dist.get_world_size())
