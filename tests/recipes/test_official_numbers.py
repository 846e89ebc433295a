"""What `-official` sets is what the authors' scripts set, number by number, and what a row then weighs."""

from __future__ import annotations

import pytest

from unigrad.batch import Rows, Sequences
from unigrad.config import load_config
from unigrad.hybrid import decide, rows_of
from unigrad.train.objectives import objectives
from unigrad.types import Group, Problem, Reason, Trajectory, Verdict

FAMILIES = ("qwen2.5-math-1.5b", "qwen2.5-math-7b", "llama-3.1-8b")
RANKS, LENGTH, QUESTIONS = 8, 8192, 64
"""The scripts' GPUs, the padded length of a response, and the questions of a mini-batch."""


def trajectory(reward: float, sampled: bool, length: int = 1) -> Trajectory:
    return Trajectory(
        prompt_ids=(1,),
        completion_ids=(2,) * length,
        rollout_logprobs=(-1.0,) * length if sampled else None,
        text="",
        truncated=False,
        reward=reward,
        verdict=Verdict(reward >= 1, None, Reason.RIGHT if reward >= 1 else Reason.WRONG),
    )


def rows_by(recipe: str, solved: int, *, demonstration: int = 1) -> Rows:
    """The rows of a mini-batch whose questions all have `solved` solved rollouts, under this recipe."""
    config = load_config(recipe)
    (objective,) = objectives(config)
    n = config.rollout.num_generations
    groups = [
        Group(
            problem=Problem(id=str(index), problem="?", answer="1"),
            rollouts=tuple(trajectory(float(sample < solved), True) for sample in range(n)),
            demonstration=trajectory(1.0, False, demonstration),
        )
        for index in range(QUESTIONS)
    ]
    sequences = Sequences.of([each for group in groups for each in group.trajectories], 1.0)
    return rows_of(groups, [each.weights for each in decide(groups, objective)], objective.terms, sequences)


def weights_by_algorithm(rows: Rows) -> dict[str, tuple[float, float]]:
    """Coefficient and advantage of the last row of each algorithm."""
    advantages = [each[0].item() for each in rows.advantage_N.split(rows.length_R.tolist())]
    return {
        rows.algorithms[number].name: (coefficient, advantage)
        for number, coefficient, advantage in zip(
            rows.algorithm_R.tolist(), rows.coefficient_R.tolist(), advantages, strict=True
        )
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scripts_numbers(family: str) -> None:
    config = load_config(f"{family}-hpt-official")
    small, qwen = "1.5b" in family, family.startswith("qwen")
    assert (config.method.alpha, config.method.beta) == (64, 0.3 if small else 1)
    assert config.method.selected_mean
    algorithm = config.algorithm.model_dump(exclude_none=True)
    assert (algorithm["name"], algorithm["aggregation"], algorithm["constant_length"]) == ("dr_grpo", "constant", 8192)
    assert (algorithm["clip_low"], algorithm["clip_high"]) == (1, 1e9)
    assert (algorithm["entropy_coefficient"], algorithm["offline_aggregation"]) == (0.001, "token_mean")
    assert (config.train.weight_decay, config.train.max_grad_norm) == (0.01, 1)
    assert config.train.skip_grad_norm == (80 if qwen else 0)
    assert config.verify.no_box == "wrong"
    for baseline in ("luffy", "srft"):
        other = load_config(f"{family}-{baseline}-official")
        assert (other.train.learning_rate, other.train.skip_grad_norm) == (1e-6, 0)
    assert load_config(f"{family}-sft-official").method.beta == 1
    assert load_config(f"{family}-sft_then_grpo-official").method.beta == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_rollout_and_a_demonstration_weigh(family: str) -> None:
    """A rank's rows are summed over 8,192 and averaged over ranks; SFT is a mean over the demonstrations' tokens."""
    (coefficient, advantage) = weights_by_algorithm(rows_by(f"{family}-hpt-official", 4))["dr_grpo"]
    assert coefficient == pytest.approx(1 / (RANKS * LENGTH), rel=1e-12)
    assert advantage == pytest.approx(-0.5)  # centred alone
    (coefficient, advantage) = weights_by_algorithm(rows_by(f"{family}-hpt-official", 0, demonstration=5))["sft"]
    assert coefficient == pytest.approx((0.3 if "1.5b" in family else 1.0) / (QUESTIONS * 5), rel=1e-12)
    assert advantage == 1


@pytest.mark.parametrize("method", ["off_on", "mix_on"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lone_demonstration_has_advantage_one(family: str, method: str) -> None:
    official = weights_by_algorithm(rows_by(f"{family}-{method}-official", 0, demonstration=5))
    assert official["luffy"] == (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), 1)
    if method == "mix_on":
        assert official["sft"] == (pytest.approx(0.1 / (QUESTIONS * 5), rel=1e-12), 1)
    on_policy = weights_by_algorithm(rows_by(f"{family}-{method}-official", 4))
    assert on_policy == {"dr_grpo": (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), pytest.approx(-0.5))}
    # The paper's own reading compares it with the eight rollouts that it replaces: (1 − 1/9) / (1/3).
    assert weights_by_algorithm(rows_by(f"{family}-{method}", 0))["luffy"][1] == pytest.approx(8 / 3, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_srft_takes_luffys_shaping(family: str) -> None:
    official = weights_by_algorithm(rows_by(f"{family}-srft-official", 3, demonstration=5))
    assert set(official) == {"srft_rollouts", "luffy", "srft_sft"}
    assert official["srft_rollouts"] == (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), -1)
    # Four of eight are right.
    assert official["luffy"] == (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), pytest.approx(0.5))
    assert official["srft_sft"] == (pytest.approx(1 / (QUESTIONS * 5), rel=1e-12), 1)
    (objective,) = objectives(load_config(f"{family}-srft-official"))
    assert objective.terms[1].algorithm.defaults()["shaping_gamma"] == 0.1
    assert set(weights_by_algorithm(rows_by(f"{family}-srft", 3))) == {"srft_rollouts", "srft", "srft_sft"}


@pytest.mark.parametrize("family", FAMILIES)
def test_luffys_demonstration_is_one_row_of_eight(family: str) -> None:
    official = weights_by_algorithm(rows_by(f"{family}-luffy-official", 3))
    assert official["dr_grpo"] == (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), pytest.approx(-0.5))
    assert official["luffy"] == (pytest.approx(1 / (RANKS * LENGTH), rel=1e-12), pytest.approx(0.5))
