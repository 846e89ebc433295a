"""Rows of unequal length that lie flat, one after another, and their places in the block that has them side by side.

Shapes: P rows, W tokens of the longest, N tokens of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from unigrad.batch.flat import ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """rows × width: of the block, which is filled up on the right. place_N: where in it, flattened, each token is."""

    rows: int
    width: int
    place_N: Tensor

    @classmethod
    def of(cls, length_P: Tensor) -> Self:
        rows, width = len(length_P), int(length_P.max())
        return cls(rows=rows, width=width, place_N=ranges(torch.arange(rows) * width, length_P))
