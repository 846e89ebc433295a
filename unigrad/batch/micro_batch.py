"""What one forward pass takes, however its tokens are laid out.

Shapes: P trajectories of the micro-batch, L tokens of the longest input; or 1 and all tokens, where they lie one after
another; Q prompts that several of them share and K tokens of those, likewise; M completion tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from unigrad.batch.flat import moved
from unigrad.batch.ragged import Ragged
from unigrad.batch.sequences import Sequences

Layout = Literal["padded", "packed", "prefix"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Prompts that are computed once, ahead of the rows that go on from them.

    input_ids_1K: one after another; position_ids_1K: begin again with each. ragged: their places side by side.
    prompt_P: the prompt of each row; shared_P: its length, one number where all are equally long.
    """

    input_ids_1K: Tensor
    position_ids_1K: Tensor
    ragged: Ragged
    prompt_P: Tensor
    shared_P: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """indices_P: which trajectories it holds; the completion tokens are theirs, in this order. lengths: tokens of each
    prompt and completion. predicting_M: where in the flattened input the hidden state stands that predicts each
    completion token. temperature_M: None is 1 everywhere. position_ids_PL and ragged: of an input of one row, in which
    they lie one after another; None: each is a row of its own, from position 0.
    """

    layout: Layout
    indices_P: Tensor
    lengths: tuple[tuple[int, int], ...]
    input_ids_PL: Tensor
    predicting_M: Tensor
    target_ids_M: Tensor
    temperature_M: Tensor | None
    position_ids_PL: Tensor | None = None
    ragged: Ragged | None = None
    prefix: Prefix | None = None

    @classmethod
    def of(cls, part: Sequences, indices_P: Tensor, layout: Layout, **laid_out: Any) -> Self:
        """Of `part`, the trajectories `indices_P` in their order, with the tensors of a layout."""
        temperature_M = part.temperature_S[part.sequence_M]
        return cls(
            layout=layout,
            indices_P=indices_P,
            lengths=tuple(zip(part.prompt_S.tolist(), part.completion_S.tolist(), strict=True)),
            target_ids_M=part.token_ids_L[part.target_L],
            temperature_M=None if bool((temperature_M == 1).all()) else temperature_M,
            **laid_out,
        )

    @property
    def positions(self) -> int:
        """Tokens that its forward pass computes, padding included (but for what attention alone fills up)."""
        return self.input_ids_PL.numel() + (0 if self.prefix is None else self.prefix.input_ids_1K.numel())

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same, its floating-point numbers as `dtype`."""
        return moved(self, device, dtype)
