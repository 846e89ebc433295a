"""The padded layout: trajectories of like length side by side, filled up on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unigrad.batch.flat import ranges, starts
from unigrad.batch.micro_batch import MicroBatch
from unigrad.batch.sequences import Sequences


def padded(sequences: Sequences, indices: Sequence[int]) -> MicroBatch:
    """The trajectories `indices`, each a row from its first token; no mask is needed, for the pads come last."""
    indices_P = torch.tensor(indices)
    part = sequences.take(indices_P)
    input_ids_PL = right_padded(*inputs(part))
    row_P = torch.arange(len(part)) * input_ids_PL.shape[1]
    return MicroBatch.of(
        part,
        indices_P,
        "padded",
        input_ids_PL=input_ids_PL,
        predicting_M=ranges(row_P + part.prompt_S - 1, part.completion_S),
    )


def inputs(part: Sequences) -> tuple[Tensor, Tensor]:
    """All tokens but each trajectory's last, which predicts nothing that is asked for; and how many each has."""
    input_P = part.length_S - 1
    return part.token_ids_L[ranges(starts(part.length_S), input_P)], input_P


def right_padded(ids_N: Tensor, length_P: Tensor) -> Tensor:
    """Rows that lie one after another, side by side. An arbitrary id of theirs fills them up: attention is causal, so
    that no position that counts sees it. i[P, longest]."""
    width = int(length_P.max())
    # Not 0: where that is the pad token its embedding may be zero, and a norm's gradient there is 0·∞.
    ids_PL = ids_N.new_full((len(length_P), width), int(ids_N[0]))
    ids_PL[torch.arange(width) < length_P[:, None]] = ids_N
    return ids_PL


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
