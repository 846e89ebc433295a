from __future__ import annotations

from typing import Any

import pytest

from unigrad.types import Attempt, Problem, Reason, Score, Scorer, TrainerState
from unigrad.verify import RewardFunctionScorer, UnsolvedWarning, Verifier, VerifierScorer, WeightedScorer

SUM = Problem(id="a", problem="1+1?", answer="2", solution="\\boxed{2}", level=1, columns={"topic": "sums"})
PRODUCT = Problem(id="b", problem="2*3?", answer="6")


def scored(scorer: Scorer, attempts: list[Attempt]) -> list[Score]:
    return scorer.finish([scorer.start(each) for each in attempts])


def test_the_verifier_rewards_right_answers_with_one() -> None:
    with Verifier() as verifier:
        scores = scored(
            VerifierScorer(verifier),
            [Attempt(SUM, "1+1?", "\\boxed{2}"), Attempt(SUM, "1+1?", "\\boxed{3}"), Attempt(SUM, "1+1?", "hm")],
        )
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0]
    assert [score.verdict.reason for score in scores] == [Reason.RIGHT, Reason.WRONG, Reason.UNPARSEABLE]


def test_a_completion_that_was_cut_off_needs_a_box() -> None:
    with Verifier() as verifier:
        scores = scored(
            VerifierScorer(verifier),
            [Attempt(SUM, "1+1?", text, cut) for text in ("It is 2", "\\boxed{2} is") for cut in (False, True)],
        )
    assert [score.reward for score in scores] == [1.0, 0.0, 1.0, 1.0]


def test_a_reward_function_sees_trls_arguments() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float | None]:
        seen.update(columns, prompts=prompts, completions=completions)
        return [1.0, None]

    scores = scored(RewardFunctionScorer(reward), [Attempt(SUM, "p", "c"), Attempt(PRODUCT, "q", "d")])
    assert (seen["prompts"], seen["completions"]) == (["p", "q"], ["c", "d"])
    assert seen["answer"] == ["2", "6"]
    assert seen["solution"] == ["\\boxed{2}", None]
    assert seen["topic"] == ["sums", None]
    assert [(score.reward, score.verdict.reason) for score in scores] == [
        (1.0, Reason.REWARD_FUNCTION),
        (0.0, Reason.UNSCORED),
    ]


def test_a_partial_reward_is_kept_but_is_not_correct() -> None:
    scores = scored(RewardFunctionScorer(lambda prompts, completions, **columns: [0.25]), [Attempt(SUM, "p", "c")])
    assert (scores[0].reward, scores[0].verdict.correct) == (0.25, False)


def test_what_trl_passes_and_every_column_of_the_row() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts: list[str], completions: list[str], **arguments: Any) -> list[float]:
        seen.update(arguments)
        return [0.0] * len(completions)

    kept = {"prompts": 1, "prompt": 2, "completions": 3, "completion": 4, "completion_ids": 5, "trainer_state": 6}
    own = Problem(id="c", problem="2?", answer="2", source="sums", columns={"level": "easy", "tags": ["x"], **kept})
    state = TrainerState(global_step=3, max_steps=9)
    attempts = [Attempt(own, "p", "c", completion_ids=(7, 2)), Attempt(SUM, "q", "d", completion_ids=(8,))]
    scored(RewardFunctionScorer(reward, state=state), attempts)
    assert seen.pop("trainer_state") is state
    assert seen == {
        "completion_ids": [[7, 2], [8]], "id": ["c", "a"], "problem": ["2?", "1+1?"], "answer": ["2", "2"],
        "solution": [None, "\\boxed{2}"], "source": ["sums", None], "level": ["easy", 1], "kind": ["math", "math"],
        "tags": [["x"], None], "topic": [None, "sums"],
    }  # fmt: skip


def test_a_function_is_never_called_with_nothing() -> None:
    def longest(prompts: list[str], completions: list[str]) -> list[float]:
        return [float(max(map(len, completions)))] * len(completions)

    assert scored(RewardFunctionScorer(longest), []) == []
    assert scored(WeightedScorer({"longest": (RewardFunctionScorer(longest), 1.0)}), []) == []


@pytest.mark.parametrize(
    ("reward", "solved_at", "solved"),
    [
        (0.7 + 0.2 + 0.1, 1.0, True),
        (0.999, 1.0, False),
        (0.1 + 0.2, 0.3, True),
        (0.5, 0.5, True),
        (0.49, 0.5, False),
        (-1e-9, 0.0, True),
        (1e9 * (1 - 1e-9), 1e9, True),
    ],
)
def test_solved_begins_at_a_reward(reward: float, solved_at: float, solved: bool) -> None:
    scorer = RewardFunctionScorer(lambda prompts, completions: [reward], solved_at=solved_at)
    assert scored(scorer, [Attempt(SUM, "p", "c")])[0].verdict.correct is solved


def test_several_rewards_are_summed_by_weight_and_none_is_left_out() -> None:
    def short(completions: list[str]) -> list[float | None]:
        return [None if "hm" in each else 1.0 for each in completions]

    with Verifier() as verifier:
        parts: dict[str, tuple[Scorer, float]] = {
            "verify": (VerifierScorer(verifier), 0.75),
            "short": (RewardFunctionScorer(short), 0.25),
        }
        texts = ("\\boxed{2}", "\\boxed{3}", "hm \\boxed{2}")
        scores = scored(WeightedScorer(parts), [Attempt(SUM, "p", text) for text in texts])
    assert [each.reward for each in scores] == [1.0, 0.25, 0.75]
    assert [each.parts for each in scores] == [
        {"verify": 1.0, "short": 1.0}, {"verify": 0.0, "short": 1.0}, {"verify": 1.0, "short": None},
    ]  # fmt: skip
    assert [(each.verdict.correct, each.verdict.extracted) for each in scores] == [
        (True, "2"), (False, "3"), (False, "2"),
    ]  # fmt: skip
    (score,) = scored(WeightedScorer({"short": (RewardFunctionScorer(short), 1.0)}), [Attempt(SUM, "p", "hm")])
    assert (score.reward, score.verdict.reason) == (0.0, Reason.UNSCORED)


@pytest.mark.parametrize(("rewards", "warned"), [((0.1, 0.4), 1), ((0.1, 0.1), 0), ((0.1, 1.0), 0)])
def test_rewards_that_differ_and_are_never_full_are_said_once(rewards: tuple[float, ...], warned: int) -> None:
    said: list[str] = []
    function = RewardFunctionScorer(lambda completions: [rewards[len(each) % 2] for each in completions])
    scorer = UnsolvedWarning(function, 1.0, said.append)
    for _ in range(3):
        scored(scorer, [Attempt(SUM, "p", "x" * number) for number in range(60)])
    assert len(said) == warned
    assert all(
        "none of the first 120 rewards reached method.solved_at = 1 (the largest was 0.4)" in each for each in said
    )
