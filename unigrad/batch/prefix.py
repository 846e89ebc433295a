"""The prefix layout: a prompt that several trajectories share is computed once, its keys and values kept in the graph,
and every completion goes on from them.

Shapes: P trajectories, Q prompts, K tokens of the longest prompt but its last, L tokens of the longest rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unigrad.batch.flat import ranges, starts
from unigrad.batch.micro_batch import MicroBatch, Prefix, right_padded
from unigrad.batch.sequences import Sequences


def prefix(sequences: Sequences, groups: Sequence[Sequence[int]]) -> MicroBatch:
    """The trajectories of each group, which share a prompt of at least two tokens."""
    indices_P = torch.tensor([index for group in groups for index in group])
    part = sequences.take(indices_P)
    first_Q = torch.tensor([group[0] for group in groups])
    leading = sequences.take(first_Q)
    # A prompt's last token predicts the first token of each completion, so it belongs to the rows.
    shared_Q = leading.prompt_S - 1
    prompt_P = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(group) for group in groups]))
    shared_P, rest_P = shared_Q[prompt_P], part.completion_S
    input_ids_QK = right_padded(leading.token_ids_L[ranges(starts(leading.length_S), shared_Q)], shared_Q)
    input_ids_PL = right_padded(part.token_ids_L[ranges(starts(part.length_S) + shared_P, rest_P)], rest_P)
    (rows, width), ragged = input_ids_PL.shape, bool((shared_Q != shared_Q[0]).any())
    return MicroBatch.of(
        part,
        indices_P,
        "prefix",
        input_ids_PL=input_ids_PL,
        predicting_M=ranges(torch.arange(rows) * width, part.completion_S),
        prefix=Prefix(
            input_ids_QK=input_ids_QK,
            prompt_P=prompt_P,
            seen_PL=_seen(shared_P, input_ids_QK.shape[1], width) if ragged else None,
            position_ids_PL=_positions(shared_P, rest_P, width) if ragged else None,
        ),
    )


def _positions(shared_P: Tensor, rest_P: Tensor, width: int) -> Tensor:
    """Pads stay at their row's last position: a model may have no other, or another rope for all rows past one."""
    return shared_P[:, None] + torch.minimum(torch.arange(width), rest_P[:, None] - 1)


def _seen(shared_P: Tensor, longest: int, width: int) -> Tensor:
    """All but the pads that stand between a shorter prompt and its rows. b[P, longest + width]."""
    place_L = torch.arange(longest + width)
    return (place_L < shared_P[:, None]) | (place_L >= longest)


def shared_prompts(sequences: Sequences, indices: Sequence[int]) -> list[list[int]]:
    """The trajectories `indices` by their prompt, in the order in which the prompts come."""
    begin = starts(sequences.length_S).tolist()
    length = sequences.prompt_S.tolist()
    groups: dict[bytes, list[int]] = {}
    for index in indices:
        prompt = sequences.token_ids_L[begin[index] : begin[index] + length[index]]
        groups.setdefault(prompt.numpy().tobytes(), []).append(index)
    return list(groups.values())
