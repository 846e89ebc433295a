"""The mixed loss (Eq. 11–13) as data: which trajectories of which questions train, with which weight and algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unigrad.estimator import Algorithm
from unigrad.hybrid.gates import Gate
from unigrad.types import Group, Trajectory


@dataclass(frozen=True, slots=True)
class Row:
    """A trajectory that trains: its algorithm, its advantage Â and its coefficient c.

    The coefficient is α or β of its question over the denominator of its term, so that the loss of any subset of rows
    is −Σ c_i Σ_t sg(w_it)·log π_it: no split of the rows can change the gradient.
    """

    trajectory: Trajectory
    algorithm: Algorithm
    advantage: float
    coefficient: float


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


def mix(groups: Sequence[Group], gate: Gate, on_policy: Algorithm, offline: Algorithm) -> Mixture:
    """Lay out the mixed loss of one update (Eq. 13), averaged over its questions.

    The denominators count every question's rollouts (Eq. 11) and demonstrations (Eq. 12) before the gate selects, so a
    question's weight does not depend on what the others train on. Rollouts with α = 0 or advantage 0 are left out: they
    would be computed for a zero gradient.
    """
    decisions = tuple(decide(group, gate) for group in groups)
    rows: list[Row] = []

    rollouts = [rollout for group in groups for rollout in group.rollouts]
    question = [index for index, group in enumerate(groups) for _ in group.rollouts]
    if rollouts:
        advantages = on_policy.advantages(
            torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64), torch.tensor(question)
        ).tolist()
        normalisers = _normalisers(on_policy, rollouts)
        for index, rollout, advantage, normaliser in zip(question, rollouts, advantages, normalisers, strict=True):
            if decisions[index].alpha and advantage:
                rows.append(Row(rollout, on_policy, advantage, decisions[index].alpha * normaliser))
    skipped_tokens = sum(len(r.completion_ids) for r in rollouts) - sum(len(r.trajectory.completion_ids) for r in rows)

    shown = [
        (group.demonstration, decision.beta)
        for group, decision in zip(groups, decisions, strict=True)
        if group.demonstration is not None
    ]
    if any(beta for _, beta in shown):
        # Eq. 12 is a mean over questions, those without a demonstration included.
        share = len(shown) / len(groups)
        normalisers = _normalisers(offline, [demonstration for demonstration, _ in shown])
        for (demonstration, beta), normaliser in zip(shown, normalisers, strict=True):
            if beta:
                rows.append(Row(demonstration, offline, 1.0, beta * share * normaliser))
    return Mixture(tuple(rows), decisions, skipped_tokens)


def _normalisers(algorithm: Algorithm, trajectories: Sequence[Trajectory]) -> list[float]:
    lengths = torch.tensor([len(trajectory.completion_ids) for trajectory in trajectories], dtype=torch.float64)
    normalisers: list[float] = algorithm.normaliser(lengths).tolist()
    return normalisers
