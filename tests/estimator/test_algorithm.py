"""The contract of `unigrad.estimator`: names, options, advantages, aggregations, and what never happens (NaN)."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from unigrad.errors import ConfigError
from unigrad.estimator import (
    Algorithm,
    advantages,
    algorithm,
    entropy_bonus,
    kl_in_reward,
    references,
    register,
    surrogate,
)
from unigrad.estimator.part import part

f64 = torch.float64


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=f64)


def assert_equal(actual: Tensor, *expected: float) -> None:
    torch.testing.assert_close(actual.flatten(), column(*expected), rtol=0, atol=1e-12)


def test_zscore_by_hand() -> None:
    # Rewards 1, 0, 0, 0: mean 1/4; sample variance (9/16 + 3/16)/3 = 1/4, std 1/2; z = 3/2 and −1/2.
    rewards = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    z = algorithm("grpo", std_epsilon=0.0).advantages(rewards, torch.zeros(4))
    torch.testing.assert_close(z, torch.tensor([1.5, -0.5, -0.5, -0.5], dtype=torch.float64), rtol=0, atol=1e-12)
    # Population std: sqrt(3/16); z = (3/4)/sqrt(3/16) = sqrt(3).
    z = algorithm("grpo", std_epsilon=0.0, std_ddof=0).advantages(rewards, torch.zeros(4))
    assert z[0].item() == pytest.approx(3**0.5, abs=1e-12)


def test_dr_grpo_only_centres() -> None:
    adv = algorithm("dr_grpo").advantages(torch.tensor([1.0, 0, 0, 0]), torch.zeros(4))
    assert adv.tolist() == [0.75, -0.25, -0.25, -0.25]


def test_statistics_of_a_group_use_its_on_policy_rows_alone() -> None:
    rewards, groups = torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3)
    on_policy = torch.tensor([True, True, False])
    assert algorithm("dr_grpo").advantages(rewards, groups, on_policy).tolist() == [0.5, -0.5, 0.0]


@pytest.mark.parametrize(
    "name", ["grpo", "dr_grpo", "rloo", "reinforce_pp", "reinforce_pp_baseline", "pass_at_k", "srft", "luffy_split"]
)
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, -7.3, 1e8])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_and_groups_of_one_have_advantage_exactly_zero(
    name: str, reward: float, size: int, dtype: torch.dtype
) -> None:
    rewards = torch.full((size,), reward, dtype=dtype)
    assert algorithm(name).advantages(rewards, torch.zeros(size)).tolist() == [0.0] * size


def test_rloo_by_hand() -> None:
    # 1 − mean(0, 0, 0) = 1; 0 − mean(1, 0, 0) = −1/3.
    adv = algorithm("rloo").advantages(column(1, 0, 0, 0), torch.zeros(4))
    assert_equal(adv, 1, -1 / 3, -1 / 3, -1 / 3)


def test_reinforce_pp_by_hand() -> None:
    # Rewards 1, 0 | 1, 1: batch mean 3/4, squares (3·1/16 + 9/16)/3 = 1/4, std 1/2.
    rewards, groups = column(1, 0, 1, 1), torch.tensor([0, 0, 1, 1])
    assert_equal(algorithm("reinforce_pp", std_epsilon=0.0).advantages(rewards, groups), 0.5, -1.5, 0.5, 0.5)
    # Group-centred: 1/2, −1/2, 0, 0; squares (1/4 + 1/4)/3 = 1/6.
    baseline = algorithm("reinforce_pp_baseline", std_epsilon=0.0).advantages(rewards, groups)
    assert_equal(baseline, 0.5 * 6**0.5, -0.5 * 6**0.5, 0, 0)
    # By token, with 3, 1, 0, 0 tokens: mean 3/4, squares (3·1/16 + 9/16)/3 = 1/4.
    mask = torch.arange(3) < torch.tensor([3, 1, 0, 0])[:, None]
    by_token = algorithm("reinforce_pp", std_epsilon=0.0, batch_statistics="tokens")
    assert_equal(by_token.advantages(rewards, groups, mask=mask)[:2], 0.5, -1.5)
    # Group-centred by token: 1/2 three times, −1/2 once; mean 1/4, squares (3·1/16 + 9/16)/3 = 1/4.
    by_token = algorithm("reinforce_pp_baseline", std_epsilon=0.0, batch_statistics="tokens")
    assert_equal(by_token.advantages(rewards, groups, mask=mask)[:2], 0.5, -1.5)


def test_a_discounts_returns_skip_holes_and_hold_the_kl_of_the_tokens_to_come() -> None:
    # γ = 1/2; rewards by token 0, (hole), 2 | 1: returns 1, (hole), 2 | 1; mean 4/3, squares (1/9 + 4/9 + 1/9)/2 = 1/3.
    mask = torch.tensor([[True, False, True], [True, False, False]])
    token_rewards = torch.tensor([[0.0, 99, 2], [1, 99, 99]], dtype=f64)
    alg = algorithm("reinforce_pp", std_epsilon=0.0, discount=0.5)
    adv = alg.advantages(token_rewards, torch.arange(2), mask=mask)
    assert_equal(adv, -(3**-0.5), 0, 2 * 3**-0.5, -(3**-0.5), 0, 0)
    # Statistics are those of on-policy rows: returns 1 and 2.
    alone = alg.advantages(token_rewards, torch.arange(2), torch.tensor([True, False]), mask=mask)
    assert_equal(alone, -(2**-0.5), 0, 2**-0.5, 0, 0, 0)


def test_grpo_over_the_batchs_std_by_hand() -> None:
    # Rewards 1, 0 | 1, 1: squares (3·1/16 + 9/16)/3 = 1/4, std 1/2, as the population's 1/4·(3/4) = 3/16.
    rewards, groups = column(1, 0, 1, 1), torch.tensor([0, 0, 1, 1])
    alg = algorithm("grpo", std_over="batch", std_epsilon=0.0)
    assert_equal(alg.advantages(rewards, groups), 1, -1, 0, 0)
    assert_equal(alg.with_options(std_ddof=0).advantages(rewards, groups), 2 / 3**0.5, -2 / 3**0.5, 0, 0)


def test_luffys_split_advantages_by_hand() -> None:
    # Rollouts 0, 0, 1, 0 and a demonstration of 1: (1 − 1/4)/(1/2); among failures (1 − 0)/1, among successes 0.
    on_policy = torch.tensor([True, True, True, True, False])
    alg = algorithm("luffy_split", std_epsilon=0.0)
    for rollouts, expected in (
        ((0.0, 0, 1, 0), (-0.5, -0.5, 1.5, -0.5, 1.5)),
        ((0.0, 0, 0, 0), (0, 0, 0, 0, 1)),
        ((1.0, 1, 1, 1), (0, 0, 0, 0, 0)),
    ):
        assert_equal(alg.advantages(column(*rollouts, 1), torch.zeros(5), on_policy), *expected)
    centred = alg.with_options(normalise_std=False).advantages(column(0, 0, 1, 0, 1), torch.zeros(5), on_policy)
    assert_equal(centred, -0.25, -0.25, 0.75, -0.25, 0.75)
    # Without a rollout: its reward.
    assert_equal(alg.advantages(column(1), torch.zeros(1), torch.tensor([False])), 1)


def test_maxrl_by_hand() -> None:
    # One of 4 solved: (1 − 1/4)/(1/4) = 3, −1; nothing solved, all solved: 0.
    rewards = column(1, 0, 0, 0, 0, 0, 1, 1)
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    assert_equal(algorithm("maxrl").advantages(rewards, groups), 3, -1, -1, -1, 0, 0, 0, 0)
    # A demonstration has no part in the mean.
    on_policy = torch.tensor([True, True, True, False])
    assert_equal(algorithm("maxrl").advantages(column(1, 1, 0, 1), torch.zeros(4), on_policy)[:3], 0.5, 0.5, -1)
    message = "maxrl divides by a group's mean reward: rewards must be at least 0, not -0.5"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        algorithm("maxrl").advantages(column(1, -0.5), torch.zeros(2))


def test_pass_at_k_by_hand() -> None:
    # One of 4 solved, k = 2: R̄ = 1 − C(3,2)/C(4,2) = 1/2, σ = 1/2. Solved: (1 − 1/2)/σ = 1;
    # unsolved: (1 − 1/2 − C(2,1)/C(3,1))/σ = −1/3.
    alg = algorithm("pass_at_k", pass_k=2)
    assert_equal(alg.advantages(column(1, 0, 0, 0), torch.zeros(4)), 1, -1 / 3, -1 / 3, -1 / 3)
    # Three of 4 solved: no pair fails.
    assert_equal(alg.advantages(column(1, 1, 1, 0), torch.zeros(4)), 0, 0, 0, 0)
    # A group of at most k: 0.
    assert_equal(alg.advantages(column(1, 0), torch.zeros(2)), 0, 0)


def test_zscores_without_the_std_are_centred() -> None:
    rewards, groups = column(1, 0, 0, 0, 3, 1), torch.tensor([0, 0, 0, 0, 1, 1])
    centred = algorithm("grpo", normalise_std=False).advantages(rewards, groups)
    assert_equal(centred, 0.75, -0.25, -0.25, -0.25, 1, -1)
    assert torch.equal(centred, algorithm("dr_grpo").advantages(rewards, groups))


@pytest.mark.parametrize("name", ["srft", "luffy"])
def test_advantages_over_rollouts_and_demonstrations(name: str) -> None:
    # 3 failures and a correct demonstration: LUFFY's authors' numbers, and their z-scores (sample std 1/2).
    rewards, on_policy = column(0, 0, 0, 1), torch.tensor([True, True, True, False])
    centred = algorithm(name, normalise_std=False).advantages(rewards, torch.zeros(4), on_policy)
    assert_equal(centred, -0.25, -0.25, -0.25, 0.75)
    zscores = algorithm(name, std_epsilon=0.0).advantages(rewards, torch.zeros(4), on_policy)
    assert_equal(zscores, -0.5, -0.5, -0.5, 1.5)
    assert "on_policy" not in algorithm(name).advantage.statistics
    assert "on_policy" in algorithm("grpo").advantage.statistics


def test_gae_by_hand_with_a_hole() -> None:
    # γ = 1, λ = 1/2; values 0.2, (hole), 0.6, padding; reward 1 on the last token.
    # δ_2 = 1 − 0.6 = 0.4; δ_0 = 0.6 − 0.2 = 0.4; Â_2 = 0.4, Â_0 = 0.4 + 0.4/2 = 0.6.
    mask = torch.tensor([[True, False, True, False]])
    values = torch.tensor([[0.2, 99.0, 0.6, float("nan")]], dtype=f64)
    alg = algorithm("ppo", gae_lambda=0.5)
    adv = alg.advantages(column(1), torch.zeros(1), values=values, mask=mask)
    assert_equal(adv, 0.6, 0, 0.4, 0)
    # λ-returns: Â + V; whitening changes the advantages, never what the value head is to predict.
    for each in (alg, alg.with_options(whiten=True)):
        assert_equal(each.returns(column(1), torch.zeros(1), values=values, mask=mask), 0.8, 0, 1.0, 0)
    whitened = alg.with_options(whiten=True).advantages(column(1), torch.zeros(1), values=values, mask=mask)
    torch.testing.assert_close(whitened, torch.tensor([[0.5**0.5, 0, -(0.5**0.5), 0]], dtype=f64), rtol=0, atol=1e-6)


def test_kl_in_the_reward() -> None:
    # KL by token: 0.5, −0.25; coefficient 0.1; the reward is on the last token.
    mask = torch.tensor([[True, True, False]])
    old = torch.tensor([[-1.0, -1.0, float("nan")]], dtype=f64)
    reference = torch.tensor([[-1.5, -0.75, 0.0]], dtype=f64)
    token_rewards = kl_in_reward(column(1), old, reference, mask, 0.1)
    assert_equal(token_rewards, -0.05, 1.025, 0)
    # A row's own estimate reads the sum: 0.975; two such rows, the other of reward 0.
    both = torch.cat([token_rewards, torch.zeros_like(token_rewards)])
    adv = algorithm("dr_grpo").advantages(both, torch.zeros(2), mask=mask.expand(2, 3))
    assert_equal(adv, 0.4875, -0.4875)
    # GAE reads it by token: γ = λ = 1, V = 0: the sum of what is to come.
    ppo = algorithm("ppo", gae_lambda=1.0)
    assert_equal(ppo.advantages(token_rewards, torch.zeros(1), values=0 * old, mask=mask), 0.975, 1.025, 0)


def test_dpo_is_the_mean_over_pairs_of_minus_log_sigmoid() -> None:
    generator = torch.Generator().manual_seed(0)
    logp, reference = -torch.rand(2, 4, 3, generator=generator, dtype=f64)
    logp.requires_grad_()
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3])[:, None]
    # Rows 0 and 3 are a pair, row 3 the winner; rows 1 and 2 another, row 1 the winner.
    rewards, groups = column(0, 1, 0, 1), torch.tensor([4, 2, 2, 4])
    alg = algorithm("dpo", dpo_beta=0.5)
    adv = alg.advantages(rewards, groups)
    alg.loss(logp, None, adv, mask, reference_logp=reference, groups=groups).backward()
    ours, logp.grad = logp.grad, None
    scores = 0.5 * ((logp - reference) * mask).sum(1)
    pairs = torch.stack([scores[3] - scores[0], scores[1] - scores[2]])
    (-torch.nn.functional.logsigmoid(pairs).mean()).backward()
    torch.testing.assert_close(ours, logp.grad, rtol=0, atol=1e-14)


def test_clip_cov_draws_by_seed_and_only_from_its_band() -> None:
    generator = torch.Generator().manual_seed(0)
    logp = -3 * torch.rand(8, 50, generator=generator, dtype=f64)
    adv = column(1, -1, 1, -1, 1, -1, 1, -1)
    mask = torch.ones(8, 50, dtype=torch.bool)
    cov = adv[:, None] * (logp - logp.mean())

    def dropped(seed: int, share: float) -> Tensor:
        alg = algorithm("clip_cov", cov_seed=seed, cov_share=share, cov_low=0.5, cov_high=1.2)
        return alg.weights(logp, None, adv, mask) == 0

    # 400 tokens · 0.05 = 20 are drawn; 400 · 2e-4 is less than one, and one is the least.
    assert dropped(0, 0.05).sum() == 20
    assert dropped(0, 2e-4).sum() == 1
    assert ((cov > 0.5) & (cov < 1.2))[dropped(0, 0.05)].all()
    assert (dropped(0, 0.05) == dropped(0, 0.05)).all()
    assert (dropped(0, 0.05) != dropped(1, 0.05)).any()
    # What is on a bound is outside the band: with every candidate drawn, the one token between two others alone.
    low, middle, high = cov.flatten().sort().values[-3:].tolist()
    whole = algorithm("clip_cov", cov_share=1.0, cov_low=low, cov_high=high).weights(logp, None, adv, mask) == 0
    assert cov[whole].tolist() == [middle]
    # A draw, not a choice by size: the mean place of the drawn in the band is near its middle.
    band = cov[(cov > 0.5) & (cov < 1.2)]
    assert abs(cov[dropped(0, 0.05)].mean() - band.mean()) < 3 * band.std() / 20**0.5


def test_entropy_bonus_reaches_the_entropy_and_leaves_the_weights() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    logp = torch.full((2, 3), -1.0, dtype=f64, requires_grad=True)
    entropy = torch.full((2, 3), 0.5, dtype=f64, requires_grad=True)
    alg = algorithm("sft", entropy_coefficient=0.01)
    loss = alg.loss(logp, None, torch.ones(2, dtype=f64), mask, entropy=entropy)
    # sequence_mean: 1/4, 1/4 | 1/2 a token.
    assert loss.item() == pytest.approx(1.0 - 0.01 * 0.5)
    loss.backward()
    assert_equal(logp.grad, -0.25, -0.25, 0, -0.5, 0, 0)
    assert_equal(entropy.grad, -0.0025, -0.0025, 0, -0.005, 0, 0)
    assert alg.needs == {"entropy"}
    assert entropy_bonus(entropy, mask, column(0.5, 0.25)).item() == pytest.approx(0.5 * 2 * 0.5 + 0.25 * 0.5)


def test_the_engines_cap_acts_after_the_clip() -> None:
    # r = 1.1 inside the clip; π_old/π_engine = 4, capped at 2: w = 2.2; the uncapped 1/2 halves it.
    old = torch.full((1, 2), -1.0, dtype=f64)
    engine = old - column(4, 0.5).log()
    alg = algorithm("grpo", engine_cap=2.0)
    weights = alg.weights(old + column(1.1).log(), old, column(1), torch.ones(1, 2).bool(), engine_logp=engine)
    assert_equal(weights, 2.2, 0.55)
    assert alg.row()["reference"] == "π_old / min(π_old/π_engine, C)"


def test_the_engines_ratio_of_a_whole_row_and_a_masked_one() -> None:
    # Ratios 4 and 1/2 make 2 of the row: at most 1.5 when truncated, and above it nothing trains.
    old = torch.full((1, 2), -1.0, dtype=f64)
    given = {"engine_logp": old - column(4, 0.5).log()}
    for name, cap, first, second in (
        ("token_mask", 2.0, 0, 0.5),
        ("sequence_truncate", 1.5, 1.5, 1.5),
        ("sequence_truncate", 3.0, 2, 2),
        ("sequence_mask", 1.5, 0, 0),
        ("sequence_mask", 3.0, 2, 2),
        ("token_mask", math.inf, 4, 0.5),
    ):
        alg = algorithm("grpo", engine_cap=cap, engine_correction=name)
        assert_equal(alg.weights(old, old, column(1), torch.ones(1, 2).bool(), **given), first, second)
        assert ("τ" in alg.row()["reference"], "≤" in alg.row()["reference"]) == ("seq" in name, "mask" in name)


@pytest.mark.parametrize(
    ("alg", "needs", "whole_batch", "skips"),
    [
        (algorithm("grpo"), set(), False, True),
        (algorithm("ppo"), {"values"}, False, True),
        (algorithm("grpo", kl_coefficient=0.1), {"reference_logp"}, False, False),
        (algorithm("grpo", engine_cap=2.0), {"engine_logp"}, False, True),
        (algorithm("grpo", high_entropy_share=0.2), {"entropy"}, True, False),
        (algorithm("grpo", trust_region=0.1), {"reference_logp"}, False, False),
        (algorithm("clip_cov"), set(), True, False),
        (algorithm("clip_cov", cov_share=0.0), set(), False, True),
        (algorithm("dpo"), {"reference_logp", "groups"}, True, False),
        (algorithm("sft", entropy_coefficient=0.1), {"entropy"}, False, False),
        (algorithm("sapo"), set(), False, True),
        (algorithm("gmpo"), set(), False, True),
        (algorithm("vespo"), set(), False, True),
        (algorithm("dppo"), set(), False, True),
        (algorithm("maxrl"), set(), False, True),
        (algorithm("luffy", off_policy_max_clip=0.5), set(), False, True),
        (algorithm("luffy", kl_coefficient=0.1), {"reference_logp"}, False, False),
    ],
    ids=lambda each: each.name if isinstance(each, Algorithm) else "",
)
def test_what_a_trainer_must_know_follows_from_the_parts(
    alg: Algorithm, needs: set[str], whole_batch: bool, skips: bool
) -> None:
    assert (alg.needs, alg.whole_batch, alg.skips_zero_advantages) == (needs, whole_batch, skips)


def test_relative_algorithms() -> None:
    assert [algorithm(name).is_relative for name in ("grpo", "dpo", "ppo", "sft")] == [True, True, False, False]


def test_on_policy_means_ratio_one() -> None:
    logp = torch.tensor([[-1.0, -2.0]])
    weights = algorithm("grpo").weights(logp, None, torch.tensor([0.5]), torch.tensor([[True, True]]))
    assert weights.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # Rows of 1 and 3 tokens, every weight 1: the gradient at each token is minus this.
        ("token_mean", [1 / 4, 1 / 4]),
        ("sequence_mean", [1 / 2, 1 / 6]),
        ("constant", [1 / 20, 1 / 20]),  # 2 rows · constant_length 10
        ("token_sum", [1 / 2, 1 / 2]),
    ],
)
def test_aggregations_by_hand(aggregation: str, expected: list[float]) -> None:
    alg = algorithm("sft", aggregation=aggregation, constant_length=10)
    mask = torch.tensor([[True, False, False], [True, True, True]])
    logp = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    alg.loss(logp, None, torch.ones(2, dtype=torch.float64), mask).backward()
    assert logp.grad is not None
    want = -torch.tensor(expected, dtype=torch.float64)[:, None] * mask
    torch.testing.assert_close(logp.grad, want, rtol=0, atol=1e-15)


def test_padding_of_any_value_is_harmless() -> None:
    mask = torch.tensor([[True, False, False]])
    logp = torch.tensor([[-1.0, float("-inf"), float("nan")]], requires_grad=True)
    loss = algorithm("grpo").loss(logp, torch.full((1, 3), float("nan")).masked_fill(mask, -1.0), torch.ones(1), mask)
    loss.backward()
    assert loss.isfinite()
    assert logp.grad is not None
    assert logp.grad.tolist() == [[-1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: algorithm("gropo"), "unknown algorithm 'gropo'; did you mean 'grpo'?"),
        (lambda: algorithm("grpo", clip_hi=0.2), "algorithm 'grpo' has no option 'clip_hi'; did you mean 'clip_high'?"),
        (
            lambda: algorithm("sft", aggregation="token_men"),
            "unknown aggregation 'token_men'; did you mean 'token_mean'?",
        ),
        (lambda: algorithm("sft", constant_length=0), "option constant_length must be an integer of at least 1, not 0"),
        (lambda: algorithm("grpo", clip_low=-0.1), "option clip_low must be a number of at least 0, not -0.1"),
        (lambda: algorithm("grpo", clip_low="0.2"), "option clip_low must be a number of at least 0, not '0.2'"),
        (lambda: algorithm("grpo", std_ddof=2), "option std_ddof must be 0 or 1, not 2"),
        (lambda: algorithm("pass_at_k", pass_k=1.5), "option pass_k must be an integer of at least 1, not 1.5"),
        (
            lambda: algorithm("grpo", kl_estimator="k4"),
            "option kl_estimator must be 'k1' or 'k2' or 'k3' or 'abs', not 'k4'",
        ),
        (
            lambda: algorithm("grpo", dual_clip=True),
            "option dual_clip must be a number above 1 or None, not True",
        ),
        (lambda: register(algorithm("grpo")), "an algorithm named 'grpo' is registered already"),
    ],
)
def test_errors_name_the_nearest(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()  # type: ignore[operator]


def test_shape_errors_show_the_shapes() -> None:
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 3\), got \(1, 2\)"):
        algorithm("sft").weights(torch.zeros(1, 3), None, torch.zeros(1), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"logp must have rank 2, got shape \(3,\)"):
        algorithm("sft").weights(torch.zeros(3), None, torch.zeros(1), torch.ones(3, dtype=torch.bool))


def test_a_row_of_table_1() -> None:
    row = algorithm("grpo", clip_high=0.28).row()
    assert (row["reference"], row["mask"], row["options"]["clip_high"]) == ("π_old", "clip", 0.28)
    assert set(row) == {"name", "reference", "advantage", "mask", "estimator", "optional", "source", "options"}


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("grpo", {}, "∇π_θ · Â·1_clip/π_old"),
        ("grpo", {"high_entropy_share": 0.2}, "∇π_θ · Â·1_clip·1_top-entropy/π_old"),
        ("grpo", {"kl_coefficient": 0.1}, "∇π_θ · Â·1_clip/π_old − c·KL"),
        ("grpo", {"engine_cap": 2.0}, "∇π_θ · Â·1_clip/π_ref"),
        ("clip_cov", {"cov_share": 0.0}, "∇π_θ · Â·1_clip/π_old"),
        ("reinforce", {}, "∇π_θ · Â/π_θ"),
        ("sft", {}, "∇π_θ · 1/π_θ"),
        ("sft", {"trust_region": 0.1}, "∇π_θ · Â/π_θ"),
        ("dft", {}, "∇π_θ · 1"),
        ("srft", {}, "∇π_θ · Â"),
        ("luffy", {}, "∇π_θ · Â/π_ref"),
        ("luffy", {"off_policy_max_clip": 0.5}, "∇π_θ · Â·1_f≤max/π_ref"),
    ],
)
def test_the_printed_formula_holds_the_active_parts(name: str, options: dict[str, float], formula: str) -> None:
    assert algorithm(name, **options).row()["estimator"] == formula


def test_a_row_names_the_parts_that_are_off() -> None:
    optional = algorithm("sft").row()["optional"]
    assert optional == {"trust_region": "Â − λ·log(π_θ(τ)/π_ref(τ))", "kl_coefficient": "− c·KL"}
    assert algorithm("sft", kl_coefficient=0.1).row()["optional"].keys() == {"trust_region"}
    assert {"engine_cap", "high_entropy_share", "off_policy_delta"} < algorithm("grpo").row()["optional"].keys()


def test_an_algorithm_holds_no_part_that_its_declaration_does_not_name() -> None:
    parts = {"reference": references.rollout, "advantage": advantages.reward}
    bare = Algorithm(name="bare", source="–", aggregation="token_sum", **parts)
    assert bare.defaults().keys() == {"aggregation", "constant_length", "entropy_coefficient"}
    assert bare.row()["optional"] == {}


@pytest.mark.parametrize(
    ("name", "options", "missing"),
    [
        (
            "grpo",
            {"kl_coefficient": 0.1},
            "reference_logp (log-probs of a frozen reference model, f[B,T]) for its kl_penalty",
        ),
        ("grpo", {"engine_cap": 2.0}, "engine_logp (log-probs that the rollout engine gave, f[B,T]) for its truncated"),
        ("high_entropy", {}, "entropy (the policy's entropy at each token, f[B,T]) for its high_entropy"),
        ("dpo", {}, "reference_logp (log-probs of a frozen reference model, f[B,T]) for its preference"),
        (
            "sft",
            {"entropy_coefficient": 0.1},
            "entropy (the policy's entropy at each token, f[B,T]) for its entropy_coefficient",
        ),
    ],
)
def test_a_missing_statistic_is_named(name: str, options: dict[str, float], missing: str) -> None:
    logp = torch.zeros(2, 3, requires_grad=True)
    with pytest.raises(ValueError, match=f"^{re.escape(f'algorithm {name!r} needs {missing}')}$"):
        algorithm(name, **options).loss(logp, None, torch.zeros(2), torch.ones(2, 3).bool())


def test_an_unknown_statistic_is_named() -> None:
    @part("π_old")
    def mine(log_p: Tensor) -> Tensor:
        return log_p

    message = "mine reads 'log_p', which is no statistic there; did you mean 'logp'?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(algorithm("grpo"), reference=mine)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ppo", {}, "algorithm 'ppo' needs mask (the completions' tokens, b[B,T]) for its gae"),
        (
            "ppo",
            {"mask": torch.ones(2, 3)},
            "algorithm 'ppo' needs values (the value head's estimates, f[B,T]) for its gae",
        ),
        ("grpo", {"rewards": torch.zeros(2, 3)}, "rewards by token need the mask"),
        ("grpo", {"rewards": torch.zeros(2).int()}, "rewards must be floating point, got torch.int32"),
        ("grpo", {"groups": torch.zeros(3)}, "rewards must have shape (3,), got (2,)"),
        ("reinforce_pp", {"batch_statistics": "tokens"}, "batch_statistics='tokens' needs the mask"),
        ("reinforce_pp_baseline", {"batch_statistics": "tokens"}, "batch_statistics='tokens' needs the mask"),
        ("reinforce_pp", {"discount": 1.0}, "discount needs the mask"),
    ],
)
def test_what_advantages_lack_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    options = {key: value for key, value in arguments.items() if key in ("batch_statistics", "discount")}
    given = {"rewards": torch.zeros(2), "groups": torch.zeros(2), **arguments}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        algorithm(name, **options).advantages(**{key: given[key] for key in given if key not in options})


def test_a_surrogate_of_nothing_is_zero() -> None:
    logp = torch.zeros(2, 0, requires_grad=True)
    mask = torch.zeros(2, 0, dtype=torch.bool)
    alg = algorithm("clip_cov")
    assert alg.loss(logp, None, torch.zeros(2), mask).item() == 0
    assert surrogate(logp, alg.weights(logp, None, torch.zeros(2), mask), torch.ones(2)).item() == 0


@pytest.mark.parametrize(
    ("name", "centred"), [("grpo", "R − mean(R)"), ("gspo", "R − mean(R)"), ("luffy", "R − mean(R_on∪off)")]
)
def test_the_row_shows_no_division_that_is_not_made(name: str, centred: str) -> None:
    divided = algorithm(name).row()["advantage"]
    assert "/ std(" in divided
    assert algorithm(name, normalise_std=False).row()["advantage"] == centred
    held = algorithm(name, normalise_std=False, trust_region=0.1)
    assert held.row()["advantage"].startswith(f"{centred} − λ")
    assert held.kept_unread("std_ddof") == "normalise_std"
    assert algorithm(name).kept_unread("std_ddof") is None


@pytest.mark.parametrize("name", ["reinforce", "srft_rollouts"])
def test_plus_or_minus_one_is_whether_a_row_is_solved(name: str) -> None:
    rewards, groups = column(0.1, 0.7 + 0.2 + 0.1, 0.0, 2.0), torch.zeros(4)
    assert_equal(algorithm(name).advantages(rewards, groups), -1, 1, -1, 1)
    solved = torch.tensor([True, False, True, True])
    assert_equal(algorithm(name).advantages(rewards, groups, solved=solved), 1, -1, 1, 1)
    with pytest.raises(ValueError, match="solved must have shape"):
        algorithm(name).advantages(rewards, groups, solved=solved[:2])


def test_pass_at_k_counts_what_is_solved() -> None:
    rewards, solved = column(0.5, 0.25, 0.25, 0.25), torch.tensor([True, False, False, False])
    full = algorithm("pass_at_k", pass_k=2).advantages(column(1, 0, 0, 0), torch.zeros(4))
    partial = algorithm("pass_at_k", pass_k=2)
    assert torch.equal(partial.advantages(rewards, torch.zeros(4), solved=solved), full)
    assert_equal(partial.advantages(rewards, torch.zeros(4)), 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "options", "logp", "old", "advantage"),
    [
        ("grpo", {"off_policy_delta": 0.5, "clip_low": 1.0}, -1.5, -1.0, -1.0),
        ("grpo", {"dual_clip": torch.tensor(0.5, dtype=f64).exp().item()}, -1.0, -1.5, -1.0),
        ("dppo", {"divergence_high": 0.5}, 0.0, math.log(0.5), 1.0),
        ("dppo", {"divergence_low": 0.5}, math.log(0.5), 0.0, -1.0),
        ("gmpo", {"log_clip_high": 0.25}, -1.0, -1.25, 1.0),
        ("gmpo", {"log_clip_low": 0.25}, -1.25, -1.0, -1.0),
        ("luffy", {"off_policy_max_clip": 1.0, "shaping": "no_reshape"}, 0.0, 0.0, 1.0),
    ],
)
def test_what_is_on_the_border_still_trains(
    name: str, options: dict[str, Any], logp: float, old: float, advantage: float
) -> None:
    """The papers stop what passes it."""

    def weight(**changed: float) -> float:
        rows = [torch.tensor([[each]], dtype=torch.float64) for each in (logp, old)]
        adv, mask = torch.tensor([advantage], dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
        return algorithm(name, **{**options, **changed}).weights(*rows, adv, mask).item()

    option = next(iter(options))
    assert weight() != 0
    assert weight(**{option: options[option] * (1 - 1e-9)}) == 0


def test_a_parts_parameter_with_a_default_is_an_option_of_its_type() -> None:
    @part("x")
    def own(logp: Tensor, *, warmth: float | None = None, heat: int = 3) -> Tensor:
        return logp * heat

    assert [(each.name, each.type, each.default) for each in own.options.values()] == [
        ("warmth", float, None),
        ("heat", int, 3),
    ]


def test_the_dual_clip_stops_no_good_token() -> None:
    """However little better than its group it is."""
    logp, old, mask = torch.zeros(2, 1, dtype=f64), torch.full((2, 1), -1.0, dtype=f64), torch.ones(2, 1)
    weights = algorithm("grpo", clip_high=10.0, dual_clip=2.0).weights(logp, old, column(0.5, -0.5), mask.bool())
    assert_equal(weights, 0.5 * math.e, 0)


def test_a_lower_bound_of_one_is_none() -> None:
    """A token that became unlikelier by any factor still trains, as with no bound at all."""
    logp, old = torch.full((1, 1), -30.0), torch.zeros(1, 1)
    for low in (1.0, 2.0, None):
        weights = algorithm("cispo", mask_low=low, cap_low=1.0).weights(logp, old, torch.tensor([-1.0]), old == 0)
        assert weights.item() < 0


def test_ratios_end_at_e_to_the_20() -> None:
    """As in verl."""
    assert references.ratio_of(torch.tensor([1000.0, 20.0, -1.0], dtype=f64)).tolist() == pytest.approx(
        [math.exp(20), math.exp(20), math.exp(-1)], rel=1e-15
    )


def test_who_reads_the_size_of_rewards_and_who_the_policy_that_sampled() -> None:
    names = ("grpo", "ppo", "reinforce", "srft_rollouts", "sft", "dpo")
    assert [algorithm(name).reads_rewards for name in names] == [True, True, False, False, False, True]
    assert [algorithm(name).compares_with_old for name in names] == [True, True, False, False, False, False]
