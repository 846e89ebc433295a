"""Problems made ready: what is dropped, what is scored, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from at_once import AtOnce
from transformers import PreTrainedTokenizerFast

from unigrad.data import encode_demonstration, encode_prompt, prepare_problems, prompt_template
from unigrad.types import Attempt, Problem, Reason, Score, Verdict


def score_last_word(attempts: Sequence[Attempt]) -> list[Score]:
    scores = []
    for attempt in attempts:
        word = attempt.completion.split()[-1].rstrip(".")
        correct = word == attempt.problem.answer
        verdict = Verdict(correct, word, Reason.RIGHT if correct else Reason.WRONG)
        scores.append(Score(float(correct), verdict))
    return scores


PROBLEMS = [
    Problem(id="right", problem="1+1?", answer="2", solution="It is 2."),
    Problem(id="wrong", problem="1+2?", answer="3", solution="It is 4."),
    Problem(id="bare", problem="1+3?", answer="4"),
    Problem(id="long prompt", problem="9" * 40, answer="9", solution="It is 9."),
    Problem(id="long solution", problem="1+4?", answer="5", solution="z" * 40),
]


def test_limits_and_verdicts(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = prompt_template("plain")
    prompt_length = len(encode_prompt(plain, "1+1?", tokenizer))
    solution_length = len(encode_demonstration("It is 2.", tokenizer))
    prepared = prepare_problems(
        PROBLEMS,
        plain,
        tokenizer,
        max_prompt_length=prompt_length,
        max_demonstration_length=solution_length,
        scorer=AtOnce(score_last_word),
    )
    assert [item.problem.id for item in prepared.problems] == ["right", "wrong", "bare", "long solution"]
    rewards = [item.demonstration.reward if item.demonstration else None for item in prepared.problems]
    assert rewards == [1.0, 0.0, None, None]

    right = prepared.problems[0]
    assert right.prompt == "1+1?\n"
    assert right.demonstration is not None
    assert right.prompt_ids == right.demonstration.prompt_ids == tuple(encode_prompt(plain, "1+1?", tokenizer))
    assert right.demonstration.completion_ids == tuple(encode_demonstration("It is 2.", tokenizer))
    assert right.demonstration.text == "It is 2."
    assert right.demonstration.solved
    assert not right.demonstration.on_policy
    assert not right.demonstration.truncated

    report = prepared.report
    assert (report.problems, report.demonstrations, report.demonstrations_right) == (5, 2, 0.5)
    assert report.dropped_long_prompts == ("long prompt",)
    assert report.dropped_long_demonstrations == ("long solution",)
    assert report.reasons == {Reason.RIGHT: 1, Reason.WRONG: 1}
    assert report.lines() == [
        "4 problems, 2 with a demonstration",
        "50.0% of the demonstrations earn the reward (1 wrong)",
        f"dropped 1 problems, prompt over {prompt_length} tokens: long prompt",
        f"dropped 1 demonstrations, over {solution_length} tokens: long solution",
    ]


def test_no_demonstrations(tokenizer: PreTrainedTokenizerFast) -> None:
    report = prepare_problems(
        [PROBLEMS[2]],
        prompt_template("plain"),
        tokenizer,
        max_prompt_length=99,
        max_demonstration_length=99,
        scorer=AtOnce(score_last_word),
    ).report
    assert report.demonstrations_right is None
    assert report.lines() == ["1 problems, 0 with a demonstration"]


def test_demonstrations_that_are_not_wanted_are_not_scored(tokenizer: PreTrainedTokenizerFast) -> None:
    def refuse(attempts: Sequence[Attempt]) -> list[Score]:
        assert not attempts
        return []

    prepared = prepare_problems(
        PROBLEMS,
        prompt_template("plain"),
        tokenizer,
        max_prompt_length=99,
        max_demonstration_length=None,
        scorer=AtOnce(refuse),
    )
    assert any(problem.solution is not None for problem in PROBLEMS)
    assert all(each.demonstration is None for each in prepared.problems)
    assert prepared.report.lines() == [f"{len(PROBLEMS)} problems"]


def test_nothing_left(tokenizer: PreTrainedTokenizerFast) -> None:
    lengths = [len(encode_prompt(prompt_template("plain"), problem.problem, tokenizer)) for problem in PROBLEMS]
    message = rf"max_prompt_length of 2 tokens: the prompts have {min(lengths)} to {max(lengths)}\Z"
    with pytest.raises(ValueError, match=message):
        prepare_problems(
            PROBLEMS,
            prompt_template("plain"),
            tokenizer,
            max_prompt_length=2,
            max_demonstration_length=99,
            scorer=AtOnce(score_last_word),
        )


@pytest.mark.parametrize(
    ("solutions", "warning"),
    [
        (["It is 9."] * 3, "WARNING: none of the demonstrations earns the reward, so SFT teaches"),
        (["It is 2."] + ["It is 9."] * 3, "WARNING: only 25% of the demonstrations earn the reward, so"),
        (["It is 2.", "It is 9."], None),
        (["It is 2."], None),
    ],
)
def test_few_demonstrations_that_earn_the_reward(
    tokenizer: PreTrainedTokenizerFast, solutions: list[str], warning: str | None
) -> None:
    problems = [Problem(id=f"p{n}", problem="1+1?", answer="2", solution=text) for n, text in enumerate(solutions)]
    lines = prepare_problems(
        problems,
        prompt_template("plain"),
        tokenizer,
        max_prompt_length=99,
        max_demonstration_length=99,
        scorer=AtOnce(score_last_word),
    ).report.lines()
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == (warning is not None)
    if warning is not None:
        assert warnings[0].startswith(warning)
        first = next(n for n, text in enumerate(solutions) if text != "It is 2.")
        assert f"The first, p{first}: gold '2', read '9', wrong" in warnings[0]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.RIGHT])
def test_each_reason_names_its_likely_cause(tokenizer: PreTrainedTokenizerFast, reason: Reason) -> None:
    report = prepare_problems(
        PROBLEMS[:1],
        prompt_template("plain"),
        tokenizer,
        max_prompt_length=99,
        max_demonstration_length=99,
        scorer=AtOnce(lambda attempts: [Score(0.0, Verdict(False, None, reason)) for _ in attempts]),
    ).report
    assert f"nothing was read, {reason}" in report.lines()[-1]
