"""Reward functions of the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unigrad.errors import UserCodeError
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
    ],
)
def test_a_bad_result_is_refused(result: Any, message: str) -> None:
    def bad(prompts: list[str], completions: list[str]) -> Any:
        return result

    with pytest.raises(ValueError, match=f"'bad' .*{message}"):
        score(bad, ["p", "p"], ["a", "b"], {})


def test_numbers_of_any_library_count() -> None:
    rewards: Callable[..., Any] = lambda prompts, completions: np.array([0.5, 1.0], dtype=np.float32)  # noqa: E731
    assert score(rewards, ["p", "p"], ["a", "b"], {}) == [0.5, 1.0]


def test_an_exception_of_the_function_is_left_as_it_is() -> None:
    def broken(prompts: list[str], completions: list[str]) -> list[float]:
        raise KeyError("gold")

    with pytest.raises(UserCodeError, match="gold"):
        score(broken, ["p"], ["a"], {})
