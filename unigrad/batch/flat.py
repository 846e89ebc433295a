"""Pieces of unequal length that lie one after another in one flat tensor, and records of such tensors."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def starts(lengths_P: Tensor) -> Tensor:
    """Where each of the pieces begins. i[P]."""
    return lengths_P.cumsum(0) - lengths_P


def owners(lengths_P: Tensor) -> Tensor:
    """The piece of each element. i[sum of the lengths]."""
    return torch.arange(len(lengths_P), device=lengths_P.device).repeat_interleave(lengths_P)


def ranges(start_P: Tensor, lengths_P: Tensor) -> Tensor:
    """start, start + 1, … of each piece, one after another. i[sum of the lengths]."""
    shift_N = (start_P - starts(lengths_P)).repeat_interleave(lengths_P)
    return shift_N + torch.arange(len(shift_N), device=lengths_P.device)


def moved(record: T, device: torch.device, dtype: torch.dtype) -> T:
    """A dataclass with its tensors on `device`, the floating-point ones as `dtype`; so are the dataclasses in it."""

    def each(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, dtype if value.is_floating_point() else value.dtype)
        return moved(value, device, dtype) if is_dataclass(value) and not isinstance(value, type) else value

    changed = {field.name: each(getattr(record, field.name)) for field in fields(record)}  # type: ignore[arg-type]
    return replace(record, **changed)  # type: ignore[type-var]
