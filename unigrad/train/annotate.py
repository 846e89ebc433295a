"""What rollouts and demonstrations must carry before an algorithm can weigh them, one forward pass for each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from unigrad.policy import Policy
from unigrad.train.forward import split, token_statistics
from unigrad.types import Group, Trajectory


@dataclass(frozen=True, slots=True)
class Annotator:
    """Fills in the optional fields of trajectories, as far as the run's algorithms read them.

    reference: a frozen model for `reference_logprobs`; None where no algorithm compares with one.
    own_logprobs: whether rollouts need the trainer's own log π_old besides the engine's.
    """

    policy: Policy
    reference: Policy | None
    own_logprobs: bool
    tokens_per_micro_batch: int
    rollout_temperature: float

    def __call__(self, groups: Sequence[Group]) -> list[Group]:
        """The same groups, their trajectories annotated with what the policy and the reference say now."""
        trajectories = [each for group in groups for each in _trajectories(group)]
        if self.reference is not None:
            logprobs, _ = self._forward(self.reference, trajectories)
            trajectories = [
                replace(each, reference_logprobs=row) for each, row in zip(trajectories, logprobs, strict=True)
            ]
        if self.own_logprobs or self.policy.value_head is not None:
            logprobs, values = self._forward(self.policy, trajectories)
            trajectories = [
                replace(
                    each,
                    policy_logprobs=row if self.own_logprobs and each.on_policy else None,
                    values=row_values,
                )
                for each, row, row_values in zip(trajectories, logprobs, values, strict=True)
            ]
        annotated = iter(trajectories)
        return [
            replace(
                group,
                rollouts=tuple(next(annotated) for _ in group.rollouts),
                demonstration=None if group.demonstration is None else next(annotated),
            )
            for group in groups
        ]

    def _forward(
        self, policy: Policy, trajectories: Sequence[Trajectory]
    ) -> tuple[list[tuple[float, ...]], list[tuple[float, ...] | None]]:
        """Log-probs and values of each trajectory's tokens."""
        logprobs: dict[int, tuple[float, ...]] = {}
        values: dict[int, tuple[float, ...]] = {}
        for indices in split(trajectories, self.tokens_per_micro_batch):
            batch = [trajectories[index] for index in indices]
            with torch.no_grad():
                tokens = token_statistics(policy, batch, self.rollout_temperature)
            for row, (index, each) in enumerate(zip(indices, batch, strict=True)):
                length = len(each.completion_ids)
                logprobs[index] = tuple(tokens.logp_BT[row, :length].tolist())
                if tokens.values_BT is not None:
                    values[index] = tuple(tokens.values_BT[row, :length].tolist())
        order = range(len(trajectories))
        return [logprobs[index] for index in order], [values.get(index) for index in order]


def _trajectories(group: Group) -> list[Trajectory]:
    return [*group.rollouts, *([] if group.demonstration is None else [group.demonstration])]
