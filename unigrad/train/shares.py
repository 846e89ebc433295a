"""A rank's part of an update's forward passes.

Where the weights are sharded, every pass gathers them, so that all ranks must make equally many: one that has fewer
micro-batches than another adds some that weigh nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unigrad.batch import MicroBatch, Sequences, laid_out, micro_batch_of
from unigrad.policy import Policy
from unigrad.world import World


@dataclass(frozen=True, slots=True)
class Share:
    """The micro-batches of a rank. idle: what it computes beside them, only to take part; nothing of it counts."""

    batches: Sequence[MicroBatch]
    idle: Sequence[MicroBatch] = ()


def share_of(
    policy: Policy, sequences: Sequences, indices: Sequence[int], tokens_per_micro_batch: int, world: World
) -> Share:
    """This rank's share of the trajectories `indices`, about as many tokens as every other's."""
    lengths = sequences.length_S[list(indices)].tolist()
    mine = world.balanced(indices, lengths)
    batches = list(laid_out(sequences, mine, tokens_per_micro_batch, policy.costs))
    if not policy.is_sharded:
        return Share(batches)
    missing = max(world.gather([len(batches)])) - len(batches)
    if not missing:
        return Share(batches)
    shortest = indices[lengths.index(min(lengths))]
    return Share(batches, [micro_batch_of(sequences, [[shortest]], "padded")] * missing)
