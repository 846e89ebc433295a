"""What one forward pass takes, however its tokens are laid out.

Shapes: P trajectories of the micro-batch, Q prompts that several of them share, K tokens of the longest of those, L
tokens of the longest input, M completion tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from unigrad.batch.flat import moved
from unigrad.batch.sequences import Sequences

Layout = Literal["padded", "packed", "prefix"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Prompts that are computed once, ahead of the rows that go on from them.

    input_ids_QK: padded on the right. prompt_P: the prompt of each row. seen_PL: which of the K + L positions a row may
    attend to, and position_ids_PL: where its tokens stand; both None where all prompts are equally long.
    """

    input_ids_QK: Tensor
    prompt_P: Tensor
    seen_PL: Tensor | None
    position_ids_PL: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """indices_P: which trajectories it holds; the completion tokens are theirs, in this order. lengths: tokens of each
    prompt and completion. predicting_M: where in the flattened input the hidden state stands that predicts each
    completion token. position_ids_PL: of a packed input; None: from 0 in each row. temperature_M: None is 1 everywhere.
    """

    layout: Layout
    indices_P: Tensor
    lengths: tuple[tuple[int, int], ...]
    input_ids_PL: Tensor
    predicting_M: Tensor
    target_ids_M: Tensor
    temperature_M: Tensor | None
    position_ids_PL: Tensor | None = None
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
        """Tokens that its forward pass computes, padding included."""
        return self.input_ids_PL.numel() + (0 if self.prefix is None else self.prefix.input_ids_QK.numel())

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same, its floating-point numbers as `dtype`."""
        return moved(self, device, dtype)


def right_padded(ids_N: Tensor, length_P: Tensor) -> Tensor:
    """Rows that lie one after another, side by side. An arbitrary id of theirs fills them up: attention is causal, so
    that no position that counts sees it. i[P, longest]."""
    width = int(length_P.max())
    # Not 0: where that is the pad token its embedding may be zero, and a norm's gradient there is 0·∞.
    ids_PL = ids_N.new_full((len(length_P), width), int(ids_N[0]) if len(ids_N) else 0)
    ids_PL[torch.arange(width) < length_P[:, None]] = ids_N
    return ids_PL
