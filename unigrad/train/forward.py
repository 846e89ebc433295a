"""Trajectories through a policy: how they are cut into micro-batches, and at which temperature each is seen."""

from __future__ import annotations

from collections.abc import Sequence

from unigrad.policy import Policy, TokenStatistics, micro_batches
from unigrad.types import Trajectory


def split(trajectories: Sequence[Trajectory], token_budget: int) -> list[list[int]]:
    """The indices of each micro-batch; prompts and completions count."""
    return micro_batches([len(each.prompt_ids) + len(each.completion_ids) for each in trajectories], token_budget)


def token_statistics(policy: Policy, trajectories: Sequence[Trajectory], rollout_temperature: float) -> TokenStatistics:
    """One forward pass: rollouts at the temperature they were sampled at, demonstrations at temperature 1."""
    return policy.token_logprobs(
        [(each.prompt_ids, each.completion_ids) for each in trajectories],
        [rollout_temperature if each.on_policy else 1.0 for each in trajectories],
    )
