"""From a method's terms to the rows of an update: advantages, coefficients, and denominators fixed over the whole step.

Shapes: B trajectories, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unigrad.batch import Row, Rows, Sequences
from unigrad.estimator import Algorithm, kl_in_reward
from unigrad.hybrid.terms import Members, Term
from unigrad.types import Group, Trajectory


@dataclass(frozen=True, slots=True)
class _Member:
    question: int
    sequence: int
    trajectory: Trajectory


def rows_of(
    groups: Sequence[Group],
    weights: Sequence[Sequence[float]],
    terms: Sequence[Term],
    sequences: Sequences,
    *,
    questions: Collection[int] | None = None,
    kl_reward_coefficient: float = 0.0,
) -> Rows:
    """The mixed loss of one update (Eq. 13), averaged over its questions.

    groups: of the whole step. weights: of each group's question, one number a term; a question of zeros counts
    nowhere. sequences: the groups' trajectories in their order. questions: those of this update; None: all.

    The denominators count every question's peers whatever the gate selects, so a question's weight does not depend on
    what the others train on. Trajectories of weight 0 or advantage 0 get no row where they would be computed for a zero
    gradient. A demonstration is a peer only where a term trains on it.
    """
    everywhere = range(len(groups)) if questions is None else questions
    kept = [index for index in everywhere if any(weights[index])]
    everyone = _members(groups, kept)
    rows: list[Row] = []
    for number, term in enumerate(terms):
        pool = [each for each in everyone if _is_among(each, term.compared)]
        trained = [each for each in everyone if _is_among(each, term.members) and weights[each.question][number]]
        allies = [k for k, other in enumerate(terms) if other.compared == term.compared and other.members != "rollouts"]
        peers = [each for each in pool if each.trajectory.on_policy or any(weights[each.question][k] for k in allies)]
        found = _advantages(term.algorithm, peers, trained, sequences, kl_reward_coefficient)
        if term.lone:
            found = [
                each_found if weights[each.question][0] else (each.trajectory.reward, None)
                for each, each_found in zip(trained, found, strict=True)
            ]
        normalisers = _normalisers(term, trained if term.selected_mean else pool, trained, len(kept))
        for each, (advantage, returns), normaliser in zip(trained, found, normalisers, strict=True):
            if isinstance(advantage, Tensor) or advantage or not term.algorithm.skips_zero_advantages:
                rows.append(
                    Row(
                        sequence=each.sequence,
                        question=each.question,
                        algorithm=term.algorithm,
                        coefficient=weights[each.question][number] * normaliser,
                        advantage=advantage,
                        returns=returns,
                    )
                )
    return Rows.of(sequences, rows)


def _members(groups: Sequence[Group], kept: Sequence[int]) -> list[_Member]:
    """The kept questions' trajectories: all rollouts, then all demonstrations."""
    first, at = 0, []
    for group in groups:
        at.append(first)
        first += len(group.trajectories)
    rollouts = [
        _Member(index, at[index] + sample, each) for index in kept for sample, each in enumerate(groups[index].rollouts)
    ]
    demonstrations = [
        _Member(index, at[index] + len(groups[index].rollouts), each)
        for index in kept
        if (each := groups[index].demonstration) is not None
    ]
    return rollouts + demonstrations


def _is_among(each: _Member, members: Members) -> bool:
    return members == "both" or (members == "rollouts") == each.trajectory.on_policy


_Advantage = tuple[float | Tensor, Tensor | None]


def _advantages(
    algorithm: Algorithm,
    peers: Sequence[_Member],
    trained: Sequence[_Member],
    sequences: Sequences,
    kl_coefficient: float,
) -> list[_Advantage]:
    """The advantage of each of `trained`, and the value head's target at each of its tokens where there is one."""
    if not trained:
        return []
    is_peer = {each.sequence for each in peers}
    members = [*peers, *(each for each in trained if each.sequence not in is_peer)]
    index_B = torch.tensor([each.sequence for each in members])
    length_B = sequences.completion_S[index_B]
    mask_BT = torch.arange(int(length_B.max())) < length_B[:, None]

    def padded(values_M: Tensor) -> Tensor:
        return values_M.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_M)

    rewards = torch.tensor([each.trajectory.reward for each in members], dtype=torch.float64)
    if kl_coefficient and sequences.reference_logp_M is not None:
        part = sequences.take(index_B)
        assert part.reference_logp_M is not None  # as in the whole
        # What was not sampled from the policy has no divergence to pay for.
        sampled_M = part.sampled_S[part.sequence_M]
        reference_M = torch.where(sampled_M, part.reference_logp_M, part.rollout_logp_M)
        rewards = kl_in_reward(rewards, padded(part.rollout_logp_M), padded(reference_M), mask_BT, kl_coefficient)
    question_B = torch.tensor([each.question for each in members])
    compared_B = torch.tensor([each.sequence in is_peer for each in members])
    place = {each.sequence: number for number, each in enumerate(members)}
    wanted = [place[each.sequence] for each in trained]
    solved_B = torch.tensor([each.trajectory.solved for each in members])
    if "values" not in algorithm.needs:
        found = algorithm.advantages(rewards, question_B, compared_B, mask=mask_BT, solved=solved_B)
        by_token = found.dim() == 2
        return [(found[number][mask_BT[number]] if by_token else found[number].item(), None) for number in wanted]
    assert sequences.values_M is not None  # what the value head said
    values_BT = padded(sequences.values_M[sequences.completion_tokens(index_B)])
    advantage_BT = algorithm.advantages(
        rewards, question_B, compared_B, values=values_BT, mask=mask_BT, solved=solved_B
    )
    returns_BT = algorithm.returns(rewards, question_B, values=values_BT, mask=mask_BT)
    return [(advantage_BT[number][mask_BT[number]], returns_BT[number][mask_BT[number]]) for number in wanted]


def _normalisers(term: Term, counted: Sequence[_Member], trained: Sequence[_Member], questions: int) -> list[float]:
    """What each trained trajectory's token sum is multiplied with, for a mean over `questions` questions."""
    lengths = [len(each.trajectory.completion_ids) for each in counted]
    denominator = float(sum(lengths) if term.algorithm.aggregation == "token_mean" else len(lengths))
    # Questions that have nothing to count are in the mean, too.
    share = 1.0 if term.selected_mean else len({each.question for each in counted}) / max(questions, 1)
    own = torch.tensor([len(each.trajectory.completion_ids) for each in trained], dtype=torch.float64)
    return [share * value for value in term.algorithm.normaliser(own, denominator).tolist()]
