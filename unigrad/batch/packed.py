"""The packed layout: trajectories one after another in one row, without a pad.

A model's attention is told where each of them starts: by position ids that begin again where its kernel takes rows of
varying length, else by their places in a block of rows side by side, which it alone computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unigrad.batch.flat import ranges, starts
from unigrad.batch.micro_batch import MicroBatch
from unigrad.batch.padded import inputs
from unigrad.batch.ragged import Ragged
from unigrad.batch.sequences import Sequences


def packed(sequences: Sequences, indices: Sequence[int]) -> MicroBatch:
    """The trajectories `indices`, end to end."""
    indices_P = torch.tensor(indices)
    part = sequences.take(indices_P)
    ids_L, input_P = inputs(part)
    return MicroBatch.of(
        part,
        indices_P,
        "packed",
        input_ids_PL=ids_L[None],
        position_ids_PL=ranges(torch.zeros_like(input_P), input_P)[None],
        ragged=Ragged.of(input_P),
        predicting_M=ranges(starts(input_P) + part.prompt_S - 1, part.completion_S),
    )
