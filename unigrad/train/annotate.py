"""What trajectories must carry before an algorithm can weigh them: one forward pass for each model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unigrad.batch import Sequences
from unigrad.policy import Policy, TokenStatistics
from unigrad.train.shares import share_of
from unigrad.world import ALONE, World


@dataclass(frozen=True, slots=True)
class Annotator:
    """Fills in the optional statistics of trajectories, as far as the run's algorithms read them.

    reference: for `reference_logp_M`, a frozen model, or the policy itself where it can be without its adapter; None
    where no algorithm compares with one. own_logprobs: whether rollouts need the trainer's own log π_old besides the
    engine's.
    """

    policy: Policy
    reference: Policy | None
    own_logprobs: bool
    tokens_per_micro_batch: int
    world: World = ALONE

    def __call__(self, sequences: Sequences) -> Sequences:
        """The same trajectories, with what the policy and the reference say of them now."""
        if self.reference is not None:
            with self.reference.without_adapter():
                sequences = replace(sequences, reference_logp_M=self._forward(self.reference, sequences)[0])
        if self.own_logprobs or self.policy.value_head is not None:
            logp_M, values_M = self._forward(self.policy, sequences)
            sequences = replace(sequences, values_M=values_M)
            if self.own_logprobs:
                sampled_M = sequences.sampled_S[sequences.sequence_M]
                sequences = replace(sequences, old_logp_M=torch.where(sampled_M, logp_M, sequences.rollout_logp_M))
        return sequences

    def _forward(self, policy: Policy, sequences: Sequences) -> tuple[Tensor, Tensor | None]:
        """Log-probs and values of the trajectories' completion tokens, on the CPU; each rank computes its share."""
        logp_M = torch.zeros_like(sequences.rollout_logp_M)
        values_M = None if policy.value_head is None else torch.zeros_like(logp_M)
        everything = list(range(len(sequences)))
        mine = share_of(policy, sequences, everything, self.tokens_per_micro_batch, self.world)
        for number, batch in enumerate((*mine.batches, *mine.idle)):
            with torch.no_grad():
                statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
            if number >= len(mine.batches):
                continue
            here_M = sequences.completion_tokens(batch.indices_P)
            logp_M[here_M] = statistics.logp_M.cpu().to(logp_M.dtype)
            if values_M is not None and statistics.values_M is not None:
                values_M[here_M] = statistics.values_M.cpu().to(values_M.dtype)
        return self.world.sum(logp_M), None if values_M is None else self.world.sum(values_M)
