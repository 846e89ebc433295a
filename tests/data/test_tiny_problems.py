"""The generator against an evaluator of its own: the text is parsed and worked anew, step by step."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from unigrad.data.tiny import tiny_problems
from unigrad.types import Problem

PROBLEM = re.compile(r"(\d+)([-+])(\d+) (\d)\?")
STEP = re.compile(r"(\d):(\d+)([-+])(\d+)=(\d+)")


def parse(text: str) -> tuple[int, int, int]:
    """Start, addend and number of steps."""
    match = PROBLEM.fullmatch(text)
    assert match is not None
    start, sign, operand, steps = match.groups()
    return int(start), int(sign + operand), int(steps)


def wrong_steps(problem: Problem) -> int:
    """Steps of the demonstration whose result is wrong; asserts that all else of it follows from the problem."""
    assert problem.solution is not None
    value, addend, count = parse(problem.problem)
    assert count == problem.level
    wrong = 0
    *steps, boxed = problem.solution.split(";")
    assert len(steps) == count
    for index, step in enumerate(steps):
        match = STEP.fullmatch(step)
        assert match is not None
        left, before, sign, operand, result = match.groups()
        assert (int(left), int(before), int(sign + operand)) == (count - index, value, addend)
        wrong += int(result) != value + addend
        value = int(result)
        assert 100 <= value <= 999
    assert boxed == f"\\boxed{{{value}}}"
    assert (str(value) == problem.answer) == (wrong == 0)
    return wrong


def test_answers_are_exact() -> None:
    for problem in tiny_problems("train", 1000, seed=3):
        start, addend, count = parse(problem.problem)
        assert problem.answer == str(start + count * addend)


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_share_of_wrong_demonstrations_is_the_configured_one(rate: float) -> None:
    counts = Counter(wrong_steps(problem) for problem in tiny_problems("train", 500, seed=1, expert_error_rate=rate))
    assert counts == Counter({0: round(500 * (1 - rate)), 1: round(500 * rate)})


def test_levels_come_in_turn_and_count_the_steps() -> None:
    problems = tiny_problems("eval", 7, seed=0, levels=[2, 5])
    assert [problem.level for problem in problems] == [2, 5, 2, 5, 2, 5, 2]
    assert [parse(problem.problem)[2] for problem in problems] == [2, 5, 2, 5, 2, 5, 2]


def test_train_and_eval_are_disjoint_whatever_the_seeds() -> None:
    # Level 1 is the smallest space, where a chance overlap is likeliest.
    train = {each.problem for seed in range(4) for each in tiny_problems("train", 800, seed, 0.2, [1])}
    held_out = {each.problem for seed in range(4) for each in tiny_problems("eval", 200, seed, 0.2, [1])}
    assert not train & held_out


def test_a_seed_fixes_the_problems() -> None:
    first = tiny_problems("train", 50, seed=5)
    assert first == tiny_problems("train", 50, seed=5)
    assert first != tiny_problems("train", 50, seed=6)
    assert len({problem.id for problem in first}) == len({problem.problem for problem in first}) == 50
    assert first[0].source == "tiny"


@pytest.mark.parametrize("level", [1, 5])
def test_two_problems_rarely_share_an_answer(level: int) -> None:
    counts = Counter(problem.answer for problem in tiny_problems("train", 2000, seed=0, levels=[level]))
    assert sum(n * (n - 1) for n in counts.values()) / (2000 * 1999) <= 0.01


def test_lengths_fit_the_token_budget() -> None:
    for problem in tiny_problems("train", 500, seed=0, levels=[5]):
        assert problem.solution is not None
        assert len(problem.problem) <= 10
        assert len(problem.solution) <= 72


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "choose train or eval"),
        ({"count": -1}, "choose 0 or more"),
        ({"expert_error_rate": 1.5}, "from 0 to 1"),
        ({"levels": [6]}, r"choose some of \[1, 2, 3, 4, 5\]"),
        ({"levels": []}, "choose some of"),
        ({"split": "eval", "count": 5000, "levels": [1]}, "level 1 has no more distinct eval problems"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, object], message: str) -> None:
    arguments = {"split": "train", "count": 10, "seed": 0, "expert_error_rate": 0.2, "levels": [1, 2]} | options
    with pytest.raises(ValueError, match=message) as error:
        tiny_problems(**arguments)
    assert "\n" not in str(error.value)
