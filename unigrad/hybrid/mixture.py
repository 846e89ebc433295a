"""The mixed loss (Eq. 11–13) as data: which trajectories of which questions train, with which weight and algorithm.

Shapes: B trajectories, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unigrad.estimator import Algorithm, kl_in_reward
from unigrad.hybrid.gates import Gate
from unigrad.hybrid.schedules import Assignment, Schedule, constant, own
from unigrad.types import Group, Trajectory


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A stage of a method, ready to use: its gate, and the algorithms of its terms.

    offline: algorithms on demonstrations with their coefficients; the gate gives one β for all, or one each. alpha,
    beta: multiply the RL term and all offline terms. selected_mean: an offline term is the mean over the
    demonstrations that it trains on (the authors' code) instead of over all questions (Eq. 12). until: the share of
    the run after which the next stage begins. Raises ValueError if the gate and the offline terms do not fit.
    """

    gate: Gate
    across: Assignment = own
    schedule: Schedule = field(default_factory=constant)
    on_policy: Algorithm
    offline: tuple[tuple[Algorithm, float], ...]
    alpha: float = 1.0
    beta: float = 1.0
    selected_mean: bool = False
    samples: bool = True
    until: float = 1.0

    def __post_init__(self) -> None:
        betas = len(self.gate(solved=0, n=1)) - 1
        if betas not in (1, len(self.offline)):
            raise ValueError(f"the gate weighs {betas} offline terms, and the method has {len(self.offline)}")


@dataclass(frozen=True, slots=True)
class Row:
    """A trajectory that trains: its question, its algorithm, its advantage Â and its coefficient c.

    The coefficient is α or β of its question over the denominator of its term, so that the loss of any subset of rows
    is −Σ c_i Σ_t sg(w_it)·log π_it: no split of the rows can change the gradient. `advantage` is one number, or one a
    token; `returns` is what the value head is to predict, one a token, where there is one. A trajectory that several
    terms train on has a row for each.
    """

    trajectory: Trajectory
    question: int
    algorithm: Algorithm
    advantage: float | tuple[float, ...]
    coefficient: float
    returns: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """α of one question, β of each offline term, and whether a demonstration was wanted and not there."""

    alpha: float
    betas: tuple[float, ...]
    fell_back: bool = False

    @property
    def beta(self) -> float:
        """Of all offline terms together."""
        return sum(self.betas)

    @property
    def is_dropped(self) -> bool:
        return not self.alpha and not self.beta


@dataclass(frozen=True, slots=True)
class Mixture:
    rows: tuple[Row, ...]
    skipped_tokens: int
    """Rollout tokens that need no forward or backward, because their weight is zero."""


def decide(groups: Sequence[Group], objective: Objective, *, progress: float = 0.0, seed: int = 0) -> list[Decision]:
    """(α, β) of each question of a step (Eq. 9). One that wants a demonstration and has none falls back to RL."""
    decided = [objective.gate(solved=group.solved, n=len(group.rollouts)) for group in groups]
    on, off = objective.schedule(progress)
    decisions = []
    for group, (alpha, *betas) in zip(groups, objective.across(decided, seed), strict=True):
        if len(betas) == 1:
            betas = betas * len(objective.offline)
        scale = off * objective.beta
        weighted = tuple(
            beta * scale * coefficient for beta, (_, coefficient) in zip(betas, objective.offline, strict=True)
        )
        if any(weighted) and group.demonstration is None:
            decisions.append(Decision(objective.alpha, (0.0,) * len(weighted), True))
        else:
            decisions.append(Decision(alpha * on * objective.alpha, weighted))
    return decisions


def mix(
    groups: Sequence[Group],
    decisions: Sequence[Decision],
    objective: Objective,
    kl_reward_coefficient: float = 0.0,
) -> Mixture:
    """Lay out the mixed loss of one update (Eq. 13), averaged over its questions.

    The denominators count every question's rollouts (Eq. 11) and demonstrations (Eq. 12) whatever the gate selects,
    so a question's weight does not depend on what the others train on; only a dropped question counts nowhere.
    Rollouts with α = 0 or advantage 0 are left out: they would be computed for a zero gradient. Where an offline
    algorithm's advantages span demonstrations, a demonstration is one more member of its group (LUFFY, SRFT): the
    rollouts' advantages are over the same members where they are relative, and the denominator is the group's.
    """
    kept = [index for index, decision in enumerate(decisions) if not decision.is_dropped]
    rollouts = [(index, rollout) for index in kept for rollout in groups[index].rollouts]
    shown = [(index, each) for index in kept if (each := groups[index].demonstration) is not None]
    on_policy = objective.on_policy
    spanning = next((term for term, (each, _) in enumerate(objective.offline) if each.spans_demonstrations), None)

    members = rollouts if spanning is None else [*rollouts, *shown]
    group_normalisers = _normalisers(on_policy, members)
    if spanning is not None and on_policy.is_relative:
        present = [each for each in shown if decisions[each[0]].betas[spanning]]
        advantages = _advantages(objective.offline[spanning][0], [*rollouts, *present], 0.0)[: len(rollouts)]
    else:
        advantages = _advantages(on_policy, rollouts, kl_reward_coefficient)
    rows: list[Row] = []
    for (index, rollout), (advantage, returns), normaliser in zip(
        rollouts, advantages, group_normalisers[: len(rollouts)], strict=True
    ):
        alpha = decisions[index].alpha
        if alpha and (advantage or not on_policy.skips_zero_advantages):
            rows.append(Row(rollout, index, on_policy, advantage, alpha * normaliser, returns))
    skipped = sum(len(r.completion_ids) for _, r in rollouts) - sum(len(r.trajectory.completion_ids) for r in rows)
    skipped += sum(
        len(rollout.completion_ids)
        for group, decision in zip(groups, decisions, strict=True)
        if decision.is_dropped
        for rollout in group.rollouts
    )

    for term, (algorithm, _) in enumerate(objective.offline):
        trained = [each for each in shown if decisions[each[0]].betas[term]]
        if algorithm.spans_demonstrations:
            found = _advantages(algorithm, [*rollouts, *trained], 0.0)[len(rollouts) :]
            of_group = dict(zip([index for index, _ in shown], group_normalisers[len(rollouts) :], strict=True))
            normalisers = [of_group[index] for index, _ in trained]
        else:
            found = _advantages(algorithm, trained, 0.0)
            counted = trained if objective.selected_mean else shown
            # Eq. 12 is a mean over questions, those without a demonstration included.
            share = 1.0 if objective.selected_mean else len(shown) / max(len(kept), 1)
            of_term = dict(zip([index for index, _ in counted], _normalisers(algorithm, counted), strict=True))
            normalisers = [share * of_term[index] for index, _ in trained]
        for (index, demonstration), (advantage, _), normaliser in zip(trained, found, normalisers, strict=True):
            if advantage or not algorithm.skips_zero_advantages:
                coefficient = decisions[index].betas[term] * normaliser
                rows.append(Row(demonstration, index, algorithm, advantage, coefficient))
    return Mixture(tuple(rows), skipped)


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
