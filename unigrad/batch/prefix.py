"""The prefix layout: a prompt that several trajectories share is computed once, its keys and values kept in the graph,
and every completion goes on from them. Prompts lie one after another without a pad, and so do what follows them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unigrad.batch.flat import ranges, starts
from unigrad.batch.micro_batch import MicroBatch, Prefix
from unigrad.batch.ragged import Ragged
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
    return MicroBatch.of(
        part,
        indices_P,
        "prefix",
        input_ids_PL=part.token_ids_L[ranges(starts(part.length_S) + shared_P, rest_P)][None],
        position_ids_PL=ranges(shared_P, rest_P)[None],
        ragged=Ragged.of(rest_P),
        # A row's input is as long as its completion, whose tokens it predicts one by one.
        predicting_M=torch.arange(int(rest_P.sum())),
        prefix=Prefix(
            input_ids_1K=leading.token_ids_L[ranges(starts(leading.length_S), shared_Q)][None],
            position_ids_1K=ranges(torch.zeros_like(shared_Q), shared_Q)[None],
            ragged=Ragged.of(shared_Q),
            prompt_P=prompt_P,
            shared_P=shared_P[:1] if bool((shared_Q == shared_Q[0]).all()) else shared_P,
        ),
    )


def shared_prompts(sequences: Sequences, indices: Sequence[int]) -> list[list[int]]:
    """The trajectories `indices` by their prompt, in the order in which the prompts come."""
    begin = starts(sequences.length_S).tolist()
    length = sequences.prompt_S.tolist()
    groups: dict[bytes, list[int]] = {}
    for index in indices:
        prompt = sequences.token_ids_L[begin[index] : begin[index] + length[index]]
        groups.setdefault(prompt.numpy().tobytes(), []).append(index)
    return list(groups.values())
