"""The mixed loss as rows: coefficients by hand, and equality with Eq. 11–13 written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unigrad.estimator import algorithm
from unigrad.hybrid import gate, mix
from unigrad.types import Group, Problem, Reason, Trajectory, Verdict


def trajectory(length: int, reward: float, on_policy: bool = True) -> Trajectory:
    return Trajectory(
        prompt_ids=(1,),
        completion_ids=tuple(range(length)),
        rollout_logprobs=(-1.0,) * length if on_policy else None,
        text="",
        truncated=False,
        reward=reward,
        verdict=Verdict(reward >= 1, None, Reason.RIGHT if reward >= 1 else Reason.WRONG),
    )


def group(rewards: list[float], lengths: list[int], demonstration: int | None) -> Group:
    return Group(
        problem=Problem(id="p", problem="?", answer="1"),
        rollouts=tuple(trajectory(n, r) for n, r in zip(lengths, rewards, strict=True)),
        demonstration=None if demonstration is None else trajectory(demonstration, 1.0, on_policy=False),
    )


RL = algorithm("grpo", aggregation="token_sum", std_epsilon=0.0)
SFT = algorithm("sft")
SOLVED_IN_PART = group([1, 0], [3, 5], demonstration=4)
SOLVED_NEVER = group([0, 0], [2, 2], demonstration=6)
SOLVED_ALWAYS = group([1, 1], [2, 3], demonstration=4)
NO_DEMONSTRATION = group([0, 0], [2, 4], demonstration=None)


def test_hpt_by_hand() -> None:
    mixture = mix([SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS], gate("switch", threshold=0), RL, SFT)
    rl, sft = mixture.rows[:2], mixture.rows[2:]
    # Question 1 goes to RL: z-scores of (1, 0) are ±1/√2·... = (1/2)/(1/√2); coefficient 1/(3 questions · 2 rollouts).
    assert [row.trajectory for row in rl] == list(SOLVED_IN_PART.rollouts)
    assert [row.advantage for row in rl] == pytest.approx([0.5 * 2**0.5, -0.5 * 2**0.5], abs=1e-12)
    assert [row.coefficient for row in rl] == pytest.approx([1 / 6, 1 / 6], abs=1e-15)
    # Question 2 goes to SFT: one row of 6 tokens, 1/(3 questions · 6 tokens). Question 3 is solved: nothing trains.
    assert [row.trajectory for row in sft] == [SOLVED_NEVER.demonstration]
    assert (sft[0].algorithm.name, sft[0].advantage) == ("sft", 1.0)
    assert sft[0].coefficient == pytest.approx(1 / 18, abs=1e-15)
    assert [(d.alpha, d.beta) for d in mixture.decisions] == [(1, 0), (0, 1), (1, 0)]
    assert mixture.skipped_tokens == 4 + 5  # the failed group's and the solved group's rollouts


def test_a_question_without_demonstration_falls_back_to_rl() -> None:
    mixture = mix([NO_DEMONSTRATION, SOLVED_NEVER], gate("switch", threshold=0), RL, SFT)
    assert [(d.alpha, d.beta, d.fell_back) for d in mixture.decisions] == [(1, 0, True), (0, 1, False)]
    # All its rewards are equal, so nothing trains; the other question's share stays 1/2.
    assert [row.coefficient for row in mixture.rows] == pytest.approx([1 / 12], abs=1e-15)


def test_without_rollouts_every_demonstration_trains() -> None:
    groups = [
        Group(problem=g.problem, rollouts=(), demonstration=g.demonstration) for g in (SOLVED_NEVER, SOLVED_ALWAYS)
    ]
    mixture = mix(groups, gate("demonstrations"), RL, SFT)
    assert [row.coefficient for row in mixture.rows] == pytest.approx([1 / 12, 1 / 8], abs=1e-15)
    assert mixture.skipped_tokens == 0


def test_the_rows_are_the_mixed_loss_of_eq_13() -> None:
    groups = [SOLVED_IN_PART, SOLVED_NEVER, SOLVED_ALWAYS]
    generator = torch.Generator().manual_seed(1)
    logps = {
        id(each): -torch.rand(len(each.completion_ids), generator=generator, dtype=torch.float64)
        for g in groups
        for each in (*g.rollouts, g.demonstration)
        if each is not None
    }
    for values in logps.values():
        values.requires_grad_()

    loss = torch.zeros((), dtype=torch.float64)
    for g, (alpha, beta) in zip(groups, [(1, 0), (0, 1), (1, 0)], strict=True):
        rewards = torch.tensor([each.reward for each in g.rollouts], dtype=torch.float64)
        z = (rewards - rewards.mean()) / rewards.std() if rewards.std() > 0 else torch.zeros_like(rewards)
        for each, advantage in zip(g.rollouts, z, strict=True):
            ratio = (logps[id(each)] - torch.tensor(each.rollout_logprobs, dtype=torch.float64)).exp()
            objective = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).sum()  # Eq. 11
            loss = loss - alpha * objective / len(g.rollouts) / len(groups)
        assert g.demonstration is not None
        loss = loss - beta * logps[id(g.demonstration)].mean() / len(groups)  # Eq. 12
    loss.backward()

    expected = {key: torch.zeros_like(values) for key, values in logps.items()}
    for row in mix(groups, gate("switch", threshold=0), RL, SFT).rows:
        each = row.trajectory
        logp = logps[id(each)].detach()[None]
        old = None if each.rollout_logprobs is None else torch.tensor([each.rollout_logprobs], dtype=torch.float64)
        adv = torch.tensor([row.advantage], dtype=torch.float64)
        weights = row.algorithm.weights(logp, old, adv, torch.ones_like(logp, dtype=torch.bool))
        expected[id(each)] = -row.coefficient * weights[0]
    for key, values in logps.items():
        grad = torch.zeros_like(values) if values.grad is None else values.grad
        torch.testing.assert_close(grad, expected[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant", "token_sum"])
def test_a_questions_weight_does_not_depend_on_what_the_others_train_on(aggregation: str) -> None:
    rl = algorithm("grpo", aggregation=aggregation)
    other_fails = group([0, 0], [2, 3], demonstration=4)
    other_mixed = group([1, 0], [2, 3], demonstration=4)
    switch = gate("switch", threshold=0)
    first = mix([SOLVED_IN_PART, other_fails], switch, rl, SFT).rows[0]
    second = mix([SOLVED_IN_PART, other_mixed], switch, rl, SFT).rows[0]
    assert first == second


def test_luffys_groups_hold_their_demonstration() -> None:
    failed = group([0, 0, 0], [2, 3, 2], demonstration=4)
    luffy = algorithm("luffy", normalise_std=False)
    rows = mix([failed], gate("both"), RL, luffy).rows
    # Three failures and one right demonstration: mean 1/4, as in the authors' code.
    assert [row.advantage for row in rows] == pytest.approx([-0.25, -0.25, -0.25, 0.75], abs=1e-12)
    assert [row.algorithm.name for row in rows] == ["grpo", "grpo", "grpo", "luffy"]
    # With demonstration and rollouts alike there is nothing to compare.
    assert mix([group([1, 1], [2, 3], demonstration=4)], gate("both"), RL, luffy).rows == ()


def test_rows_without_advantage_stay_where_they_change_the_gradient() -> None:
    with_entropy = algorithm("grpo", aggregation="token_sum", entropy_coefficient=0.1)
    mixture = mix([SOLVED_ALWAYS], gate("rollouts"), with_entropy, SFT)
    assert [row.advantage for row in mixture.rows] == [0.0, 0.0]
    assert mixture.skipped_tokens == 0


def test_a_kl_in_the_reward_moves_the_advantages() -> None:
    def annotated(each: Trajectory, reference: float) -> Trajectory:
        return replace(each, reference_logprobs=(reference,) * len(each.completion_ids))

    # Log-probs are −1 at each token; a reference of −2 makes each token cost 0.1 · 1. Rewards 1 and 0, lengths 3 and 5.
    one, two = SOLVED_IN_PART.rollouts
    kl_group = replace(SOLVED_IN_PART, rollouts=(annotated(one, -2.0), annotated(two, -1.0)), demonstration=None)
    rows = mix([kl_group], gate("rollouts"), algorithm("dr_grpo"), SFT, kl_reward_coefficient=0.1).rows
    # 1 − 0.3 and 0: centred, ±0.35.
    assert [row.advantage for row in rows] == pytest.approx([0.35, -0.35], abs=1e-12)


def test_ppo_gives_every_token_an_advantage_and_a_return() -> None:
    one = replace(SOLVED_IN_PART.rollouts[0], values=(0.5, 0.25, 0.75))
    ppo = algorithm("ppo", gae_lambda=1.0)
    (row,) = mix([replace(SOLVED_IN_PART, rollouts=(one,))], gate("rollouts"), ppo, SFT).rows
    # λ = γ = 1: the return is the reward 1 at every token, the advantage what the value misses of it.
    assert row.returns == pytest.approx((1.0, 1.0, 1.0), abs=1e-12)
    assert row.advantage == pytest.approx((0.5, 0.75, 0.25), abs=1e-12)
