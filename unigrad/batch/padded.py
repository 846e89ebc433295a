"""The padded layout: trajectories of like length side by side, filled up on the right.

Shapes: P trajectories of the micro-batch, L tokens of its longest input, M completion tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from unigrad.batch.flat import moved, ranges, starts
from unigrad.batch.sequences import Sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one forward pass takes.

    indices_P: which trajectories it holds; the completion tokens are theirs, in this order. lengths: tokens of each
    prompt and completion. predicting_M: where in the flattened input the hidden state stands that predicts each
    completion token. temperature_M: None is 1 everywhere.
    """

    indices_P: Tensor
    lengths: tuple[tuple[int, int], ...]
    input_ids_PL: Tensor
    predicting_M: Tensor
    target_ids_M: Tensor
    temperature_M: Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The same, its floating-point numbers as `dtype`."""
        return moved(self, device, dtype)


def padded(sequences: Sequences, indices: Sequence[int], token_budget: int) -> Iterator[MicroBatch]:
    """The trajectories `indices`, cut by `micro_batches` so that a padded size is at most `token_budget`."""
    lengths = sequences.length_S.tolist()
    for places in micro_batches([lengths[index] for index in indices], token_budget):
        chosen_P = torch.tensor([indices[place] for place in places])
        yield _lay_out(sequences.take(chosen_P), chosen_P)


def _lay_out(part: Sequences, indices_P: Tensor) -> MicroBatch:
    # The last token predicts nothing that is asked for.
    input_P = part.length_S - 1
    width = int(input_P.max())
    # Padded on the right with an arbitrary id and without an attention mask: attention is causal, so no position that
    # counts sees a pad, and positions count from the first real token.
    input_ids_PL = torch.zeros(len(part), width, dtype=torch.int64)
    cells = ranges(torch.arange(len(part)) * width, input_P)
    input_ids_PL.view(-1)[cells] = part.token_ids_L[ranges(starts(part.length_S), input_P)]
    temperature_M = part.temperature_S[part.sequence_M]
    return MicroBatch(
        indices_P=indices_P,
        lengths=tuple(zip(part.prompt_S.tolist(), part.completion_S.tolist(), strict=True)),
        input_ids_PL=input_ids_PL,
        predicting_M=ranges(torch.arange(len(part)) * width + part.prompt_S - 1, part.completion_S),
        target_ids_M=part.token_ids_L[part.target_L],
        temperature_M=None if bool((temperature_M == 1).all()) else temperature_M,
    )


def micro_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Row indices in groups whose padded size, rows x longest row, is at most `token_budget`.

    Rows of like length share a group, so little is padded; the longest come first, so a budget that does not fit in
    memory fails at the first group. A row longer than the budget is alone in its group. Equal lengths keep their order.

    Raises:
        ValueError: a budget below one token.
    """
    if token_budget < 1:
        raise ValueError(f"the token budget of a micro-batch must be at least 1, not {token_budget}")
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= token_budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
