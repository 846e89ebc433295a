"""The mixed loss (Eq. 11–13) as data: which trajectories of which questions train, with which weight and algorithm.

Shapes: B trajectories, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unigrad.estimator import Algorithm, kl_in_reward
from unigrad.hybrid.gates import Gate
from unigrad.types import Group, Trajectory


@dataclass(frozen=True, slots=True)
class Row:
    """A trajectory that trains: its question, its algorithm, its advantage Â and its coefficient c.

    The coefficient is α or β of its question over the denominator of its term, so that the loss of any subset of rows
    is −Σ c_i Σ_t sg(w_it)·log π_it: no split of the rows can change the gradient. `advantage` is one number, or one a
    token; `returns` is what the value head is to predict, one a token, where there is one.
    """

    trajectory: Trajectory
    question: int
    algorithm: Algorithm
    advantage: float | tuple[float, ...]
    coefficient: float
    returns: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate said of one question: (α, β), and whether SFT was wanted and no demonstration was there."""

    alpha: float
    beta: float
    fell_back: bool


@dataclass(frozen=True, slots=True)
class Mixture:
    rows: tuple[Row, ...]
    decisions: tuple[Decision, ...]
    """One for each group, in their order."""
    skipped_tokens: int
    """Rollout tokens that need no forward or backward, because their weight is zero."""


def decide(group: Group, gate: Gate) -> Decision:
    """(α, β) of one question (Eq. 9). One that should go to SFT but has no demonstration falls back to RL."""
    alpha, beta = gate(solved=group.solved, n=len(group.rollouts))
    if beta and group.demonstration is None:
        return Decision(1.0, 0.0, True)
    return Decision(alpha, beta, False)


def mix(
    groups: Sequence[Group], gate: Gate, on_policy: Algorithm, offline: Algorithm, kl_reward_coefficient: float = 0.0
) -> Mixture:
    """Lay out the mixed loss of one update (Eq. 13), averaged over its questions.

    The denominators count every question's rollouts (Eq. 11) and demonstrations (Eq. 12) before the gate selects, so a
    question's weight does not depend on what the others train on. Rollouts with α = 0 or advantage 0 are left out: they
    would be computed for a zero gradient. Where the offline algorithm's advantages span demonstrations, the rollouts'
    are those of the same groups (LUFFY, SRFT).
    """
    decisions = tuple(decide(group, gate) for group in groups)
    rollouts = [(index, rollout) for index, group in enumerate(groups) for rollout in group.rollouts]
    shown = [(index, group.demonstration) for index, group in enumerate(groups) if group.demonstration is not None]
    if offline.spans_demonstrations:
        joint = _advantages(offline, [*rollouts, *shown], 0.0)
        advantages, shown_advantages = joint[: len(rollouts)], joint[len(rollouts) :]
    else:
        advantages = _advantages(on_policy, rollouts, kl_reward_coefficient)
        shown_advantages = _advantages(offline, shown, 0.0)

    rows: list[Row] = []
    for (index, rollout), (advantage, returns), normaliser in zip(
        rollouts, advantages, _normalisers(on_policy, rollouts), strict=True
    ):
        alpha = decisions[index].alpha
        if alpha and (advantage or not on_policy.skips_zero_advantages):
            rows.append(Row(rollout, index, on_policy, advantage, alpha * normaliser, returns))
    skipped = sum(len(r.completion_ids) for _, r in rollouts) - sum(len(r.trajectory.completion_ids) for r in rows)

    # Eq. 12 is a mean over questions, those without a demonstration included.
    share = len(shown) / max(len(groups), 1)
    for (index, demonstration), (advantage, _), normaliser in zip(
        shown, shown_advantages, _normalisers(offline, shown), strict=True
    ):
        beta = decisions[index].beta
        if beta and (advantage or not offline.skips_zero_advantages):
            rows.append(Row(demonstration, index, offline, advantage, beta * share * normaliser))
    return Mixture(tuple(rows), decisions, skipped)


_Advantage = tuple[float | tuple[float, ...], tuple[float, ...] | None]


def _advantages(
    algorithm: Algorithm, trajectories: Sequence[tuple[int, Trajectory]], kl_coefficient: float
) -> list[_Advantage]:
    """Each trajectory's advantage, and the value head's target where the algorithm has one."""
    if not trajectories:
        return []
    question_B = torch.tensor([index for index, _ in trajectories])
    on_policy_B = torch.tensor([each.on_policy for _, each in trajectories])
    rewards = torch.tensor([each.reward for _, each in trajectories], dtype=torch.float64)
    lengths = [len(each.completion_ids) for _, each in trajectories]
    mask_BT = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    if kl_coefficient:
        sampled_BT = _padded([each.rollout_logprobs or () for _, each in trajectories], mask_BT)
        reference_BT = _padded([each.reference_logprobs or () for _, each in trajectories], mask_BT)
        rewards = kl_in_reward(rewards, sampled_BT, reference_BT, mask_BT, kl_coefficient)
    if "values" not in algorithm.needs:
        found: list[float] = algorithm.advantages(rewards, question_B, on_policy_B, mask=mask_BT).tolist()
        return [(advantage, None) for advantage in found]
    values_BT = _padded([each.values or () for _, each in trajectories], mask_BT)
    advantage_BT = algorithm.advantages(rewards, question_B, on_policy_B, values=values_BT, mask=mask_BT)
    returns_BT = algorithm.returns(rewards, question_B, values=values_BT, mask=mask_BT)
    return [
        (tuple(advantage[:length].tolist()), tuple(returns[:length].tolist()))
        for advantage, returns, length in zip(advantage_BT, returns_BT, lengths, strict=True)
    ]


def _padded(rows: Sequence[Sequence[float]], mask_BT: Tensor) -> Tensor:
    values = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    return torch.zeros(mask_BT.shape, dtype=torch.float64).masked_scatter(mask_BT, values)


def _normalisers(algorithm: Algorithm, trajectories: Sequence[tuple[int, Trajectory]]) -> list[float]:
    lengths = torch.tensor([len(each.completion_ids) for _, each in trajectories], dtype=torch.float64)
    normalisers: list[float] = algorithm.normaliser(lengths).tolist()
    return normalisers
