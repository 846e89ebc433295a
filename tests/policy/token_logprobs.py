"""What a policy thinks of given completions, as one padded batch.

Shapes: B rows, T tokens of the longest completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unigrad.batch import Sequences, laid_out
from unigrad.policy import Policy


@dataclass
class Statistics:
    logp_BT: Tensor
    entropy_BT: Tensor
    mask_BT: Tensor
    values_BT: Tensor | None


def token_logprobs(
    policy: Policy, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperatures: Sequence[float]
) -> Statistics:
    """Of the completions of (prompt_ids, completion_ids) rows, left-aligned; zero outside the mask."""
    sequences = Sequences.of_ids(rows, temperatures)
    everything = len(rows) * int(sequences.length_S.max())
    (batch,) = laid_out(sequences, range(len(rows)), everything)
    order = batch.indices_P.argsort()
    found = policy(batch.to(policy.device, policy.dtype))
    completion_B = sequences.completion_S[batch.indices_P]
    mask_BT = torch.arange(int(completion_B.max())) < completion_B[:, None]

    def rows_of(values_M: Tensor) -> Tensor:
        return values_M.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_M)[order]

    values = None if found.values_M is None else rows_of(found.values_M)
    return Statistics(rows_of(found.logp_M), rows_of(found.entropy_M), mask_BT[order], values)
