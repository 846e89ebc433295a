from __future__ import annotations

from typing import Any

from unigrad.types import Attempt, Problem, Reason, Score, Scorer
from unigrad.verify import RewardFunctionScorer, Verifier, VerifierScorer

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
