"""Reward functions of the user's."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unigrad.errors import RewardError, UserCodeError
from unigrad.verify import load_reward_function, score

MODULE = """
def length(prompts, completions, answer, **columns):
    return [float(len(c)) if a else None for c, a in zip(completions, answer)]

constant = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_rewards.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    return "my_rewards"


@pytest.mark.parametrize("separator", [".", ":"])
def test_a_function_of_the_current_folder(module: str, separator: str) -> None:
    function = load_reward_function(f"{module}{separator}length")
    assert score(function, ["p", "q"], ["abc", "d"], {"answer": ["1", ""], "level": [1, 2]}) == [3.0, None]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("length", "expected 'package.module.function'"),
        ("verfy", "expected 'package.module.function' or 'file.py:function', or 'verify'"),
        ("", "expected 'package.module.function'"),
        (".length", "expected 'package.module.function'"),
        ("no_such_module.f", "No module named 'no_such_module'"),
        ("my_rewards.lenght", "the nearest is 'length'"),
        ("my_rewards.constant", "not a function, but int"),
    ],
)
def test_a_bad_path_is_one_line(module: str, path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_reward_function(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1.0], "1 rewards for 2 completions"),
        (None, "returned NoneType"),
        (0.5, "returned float"),
        ([1.0, "1"], "returned '1' at 1"),
        ([float("nan"), 1.0], "nan at 0"),
        ([1.0, float("inf")], "inf at 1"),
        ([1.0, -(10**5000)], "a number too large for a float at 1"),
        ([1.0, 2j], r"returned 2j at 1"),
        ([np.array([1.0]), 1.0], r"returned array\(\[1\.\]\) at 0"),
        ({3: 1.0, 4: 0.5}, "returned dict, expected a list of 2 numbers"),
        ({0.5, 1.0}, "returned set"),
        ("ab", "returned str"),
        ((each for each in (1.0, 0.0)), "returned generator"),
        (np.ones((2, 1)), r"returned ndarray of shape \(2, 1\)"),
        (torch.ones(()), r"returned Tensor of shape \(\)"),
    ],
)
def test_a_bad_result_is_refused(result: Any, message: str) -> None:
    def bad(prompts: list[str], completions: list[str]) -> Any:
        return result

    with pytest.raises(ValueError, match=f"'bad' .*{message}") as caught:
        score(bad, ["p", "p"], ["a", "b"], {})
    assert isinstance(caught.value, RewardError)
    assert "\n" not in str(caught.value)


def test_numbers_of_any_library_count() -> None:
    rewards: Callable[..., Any] = lambda prompts, completions: np.array([0.5, 1.0], dtype=np.float32)  # noqa: E731
    assert score(rewards, ["p", "p"], ["a", "b"], {}) == [0.5, 1.0]
    tensor = torch.tensor([0.5, 1.0], dtype=torch.bfloat16, requires_grad=True)
    for result in (tensor, (np.float16(0.5), True), [Fraction(1, 2), Decimal(1)], [torch.tensor(0.5), np.int8(1)]):
        assert score(lambda prompts, completions, result=result: result, ["p", "p"], ["a", "b"], {}) == [0.5, 1.0]


def test_an_exception_of_the_function_is_left_as_it_is() -> None:
    def broken(prompts: list[str], completions: list[str]) -> list[float]:
        raise KeyError("gold")

    with pytest.raises(UserCodeError, match="gold"):
        score(broken, ["p"], ["a"], {})


@pytest.mark.parametrize("waits", [False, True])
def test_leaving_from_within_a_function_is_a_bug_of_its_own(waits: bool) -> None:
    def leaves(prompts: list[str], completions: list[str]) -> list[float]:
        raise SystemExit(0)

    async def leaves_later(prompts: list[str], completions: list[str]) -> list[float]:
        await asyncio.sleep(0)
        raise SystemExit(0)

    with pytest.raises(UserCodeError) as caught:
        score(leaves_later if waits else leaves, ["p"], ["a"], {})
    assert str(caught.value).splitlines()[1].endswith("in leaves_later" if waits else "in leaves")
    assert "SystemExit" in str(caught.value)


def test_a_task_that_cancels_itself_is_a_bug_of_its_own() -> None:
    async def cancelled(prompts: list[str], completions: list[str]) -> list[float]:
        raise asyncio.CancelledError

    with pytest.raises(UserCodeError, match="CancelledError"):
        score(cancelled, ["p"], ["a"], {})


def test_an_interrupt_within_a_function_is_left_as_it_is() -> None:
    def interrupted(prompts: list[str], completions: list[str]) -> list[float]:
        raise KeyboardInterrupt

    async def in_a_thread(prompts: list[str], completions: list[str]) -> list[float]:
        return await asyncio.to_thread(interrupted, prompts, completions)

    async def signalled(prompts: list[str], completions: list[str]) -> list[float]:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)
        return []

    async def steady(prompts: list[str], completions: list[str]) -> list[float]:
        return [0.5]

    for function in (interrupted, in_a_thread, signalled):
        with pytest.raises(KeyboardInterrupt):
            score(function, ["p"], ["a"], {})
        assert score(steady, ["p"], ["a"], {}) == [0.5]


def test_a_module_that_leaves_is_a_bug_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_rewards.py").write_text("import sys; sys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserCodeError, match="SystemExit"):
        load_reward_function("leaving_rewards.f")


def test_a_function_gets_what_its_signature_takes() -> None:
    def few(completions: list[str], gold: list[str]) -> list[float]:
        return [float(c == g) for c, g in zip(completions, gold, strict=True)]

    arguments = {"gold": ["a", "c"], "level": [1, 2]}
    assert score(few, ["p", "p"], ["a", "b"], arguments) == [1.0, 0.0]
    expected = r"'few' asks for 'gold', which is no column of the data; did you mean 'golden'\?"
    with pytest.raises(RewardError, match=expected):
        score(few, ["p"], ["a"], {"golden": ["a"]})


def test_coroutines_share_one_loop() -> None:
    loops = []

    async def judge(prompts: list[str], completions: list[str]) -> list[float]:
        loops.append(asyncio.get_running_loop())
        return list(await asyncio.gather(*(asyncio.sleep(0, len(each) / 2) for each in completions)))

    async def notebook() -> list[float | None]:
        return score(judge, ["p"], ["ab"], {})

    assert [score(judge, ["p"], ["a"], {}) for _ in range(2)] == [[0.5], [0.5]]
    assert asyncio.run(notebook()) == [1.0]
    assert loops[0] is loops[1] is loops[2]
