"""The contract of `unigrad.estimator`: names, options, advantages, aggregations, and what never happens (NaN)."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unigrad.estimator import algorithm, algorithm_names

NAMES = algorithm_names()


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


@pytest.mark.parametrize("name", ["grpo", "dr_grpo"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, -7.3, 1e8])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_and_groups_of_one_have_advantage_exactly_zero(
    name: str, reward: float, size: int, dtype: torch.dtype
) -> None:
    rewards = torch.full((size,), reward, dtype=dtype)
    assert algorithm(name).advantages(rewards, torch.zeros(size)).tolist() == [0.0] * size


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


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant", "token_sum"])
@pytest.mark.parametrize("name", NAMES)
def test_splitting_a_batch_under_its_denominator_changes_nothing(name: str, aggregation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    alg = algorithm(name, aggregation=aggregation)
    mask = torch.arange(6) < torch.tensor([6, 2, 5, 1])[:, None]
    old = -torch.rand(4, 6, generator=generator, dtype=torch.float64)
    logp = old + 0.3 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    adv = alg.advantages(torch.tensor([1.0, 0, 1, 0], dtype=torch.float64), torch.tensor([0, 0, 1, 1]))
    whole = alg.loss(logp, old, adv, mask)
    denominator = float(mask.sum()) if aggregation == "token_mean" else 4.0
    for cut in (1, 2, 3):
        parts = [
            alg.loss(logp[rows], old[rows], adv[rows], mask[rows], denominator)
            for rows in (slice(0, cut), slice(cut, 4))
        ]
        torch.testing.assert_close(sum(parts), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_weights_are_finite_for_any_log_probs(name: str, data: st.DataObject) -> None:
    logps = st.one_of(st.floats(-1e4, 0), st.sampled_from([0.0, -1e4, -1e-30]))
    rows = data.draw(st.lists(st.lists(st.tuples(logps, logps), min_size=3, max_size=3), min_size=1, max_size=4))
    rewards = data.draw(st.lists(st.floats(-1e3, 1e3), min_size=len(rows), max_size=len(rows)))
    tokens = torch.tensor(rows, dtype=torch.float32)
    alg = algorithm(name)
    adv = alg.advantages(torch.tensor(rewards), torch.zeros(len(rows)))
    mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
    weights = alg.weights(tokens[..., 0], tokens[..., 1], adv, mask)
    assert weights.isfinite().all()


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
        (lambda: algorithm("sft", constant_length=0), "constant_length must be at least 1, not 0"),
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
    assert set(row) == {"name", "reference", "advantage", "mask", "estimator", "source", "options"}
