"""Reward functions as people have them: in a file, over chats, and slow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unigrad.config import load_config
from unigrad.errors import ConfigError, UserCodeError
from unigrad.types import Attempt, Problem, Reason, Score, Scorer, TrainerState
from unigrad.verify import RewardFunctionScorer, UnsolvedWarning, WeightedScorer, load_reward_function, score

TEXT = Problem(id="t", problem="1+1?", answer="2")
CHAT = Problem(id="c", problem="1+1?", answer="2", messages=(("system", "Be brief."), ("user", "1+1?")))


def scored(scorer: Scorer, attempts: Sequence[Attempt]) -> list[Score]:
    return scorer.finish([scorer.start(each) for each in attempts])


def attempts(count: int) -> list[Attempt]:
    return [Attempt(TEXT, "p", str(number)) for number in range(count)]


def test_a_chat_is_handed_over_as_messages() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts: list[Any], completions: list[Any]) -> list[float]:
        seen.update(prompts=prompts, completions=completions)
        return [0.0] * len(completions)

    scored(RewardFunctionScorer(reward), [Attempt(TEXT, "p", "2"), Attempt(CHAT, "<system>…", "It is 2.")])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert seen == {"prompts": ["p", messages], "completions": ["2", [{"role": "assistant", "content": "It is 2."}]]}


def test_a_function_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of").mkdir()
    (tmp_path / "of" / "beside_it.py").write_text("WORTH = 0.5\n")
    file = tmp_path / "of" / "my rewards.py"
    file.write_text(
        "from beside_it import WORTH\n\n\ndef half(completions):\n    return [WORTH] * len(completions)\n\n\n"
        "def broken(completions):\n    return [1 / 0]\n"
    )
    monkeypatch.chdir(tmp_path)
    for path in ("of/my rewards.py:half", f"{file}:half"):
        assert score(load_reward_function(path), ["p"], ["c"], {}) == [0.5]
    # One module, whatever way leads to it.
    assert load_reward_function("of/my rewards.py:half") is load_reward_function(f"{file}:half")
    with pytest.raises(UserCodeError, match=r'my rewards\.py", line 9, in broken'):
        score(load_reward_function("of/my rewards.py:broken"), ["p"], ["c"], {})
    (tmp_path / "bad.py").write_text("\n\nraise RuntimeError('on import')\n")
    with pytest.raises(UserCodeError, match=r'bad\.py", line 3'):
        load_reward_function("bad.py:f")
    for path, said in (
        ("of/my rewards.py:hlaf", "has no 'hlaf'; the nearest is 'half'"),
        ("of/my rewadrs.py:half", r"no file my rewadrs.py in .*/of; did you mean 'my rewards.py'\?"),
        ("nowhere/x.py:half", "no file x.py in .*/nowhere$"),
        ("of/my rewards.py", "names no function of the file; expected 'file.py:function'"),
    ):
        with pytest.raises(ValueError, match=said):
            load_reward_function(path)


def test_calls_side_by_side() -> None:
    together = threading.Barrier(4, timeout=5)
    sizes = []

    def judge(completions: list[str], answer: list[str], trainer_state: TrainerState) -> list[float]:
        together.wait()  # all four are in it at once, or it breaks
        sizes.append((len(completions), len(answer), trainer_state.max_steps))
        return [float(each) for each in completions]

    scores = scored(RewardFunctionScorer(judge, calls=4, state=TrainerState(max_steps=7)), attempts(10))
    assert [each.reward for each in scores] == [float(number) for number in range(10)]
    assert sorted(sizes) == [(2, 2, 7), (2, 2, 7), (3, 3, 7), (3, 3, 7)]

    async def coroutine(completions: list[str]) -> list[float]:
        await asyncio.to_thread(together.wait)
        return [float(each) for each in completions]

    assert [each.reward for each in scored(RewardFunctionScorer(coroutine, calls=4), attempts(4))] == [0, 1, 2, 3]
    # No more calls than completions.
    assert len(scored(RewardFunctionScorer(lambda completions: [0.0] * len(completions), calls=9), attempts(2))) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_late_is_counted_apart(is_async: bool) -> None:
    def judge(completions: list[str]) -> list[float]:
        time.sleep(0.6 if "3" in completions else 0)
        return [1.0] * len(completions)

    async def coroutine(completions: list[str]) -> list[float]:
        await asyncio.sleep(60 if "3" in completions else 0)
        return [1.0] * len(completions)

    said: list[str] = []
    scorer = RewardFunctionScorer(coroutine if is_async else judge, calls=4, timeout=0.3)
    scores = scored(UnsolvedWarning(scorer, 1.0, said.append), attempts(4))
    assert [(each.reward, each.verdict.reason) for each in scores] == [
        *[(1.0, Reason.REWARD_FUNCTION)] * 3,
        (0.0, Reason.REWARD_TIMED_OUT),
    ]
    (line,) = said
    assert line.startswith("WARNING: 1 of 4 completions were not scored within verify.reward_timeout_seconds")
    # Beside another reward it is left out of the sum, as None is, and still counted.
    both = WeightedScorer({"late": (scorer, 2.0), "one": (RewardFunctionScorer(lambda completions: [1.0] * 4), 1.0)})
    scores = scored(both, attempts(4))
    assert [each.reward for each in scores] == [3.0, 3.0, 3.0, 1.0]
    assert [each.parts["late"] for each in scores] == [1.0, 1.0, 1.0, None]
    assert [each.verdict.reason for each in scores[2:]] == [Reason.REWARD_FUNCTION, Reason.REWARD_TIMED_OUT]


def test_a_judges_own_timeout_is_its_own_bug() -> None:
    def judge(completions: list[str]) -> list[float]:
        raise TimeoutError("the judge gave up")

    async def coroutine(completions: list[str]) -> list[float]:
        raise TimeoutError("the judge gave up")

    for function in (judge, coroutine):
        with pytest.raises(UserCodeError, match="TimeoutError: the judge gave up"):
            scored(RewardFunctionScorer(function, calls=2, timeout=5), attempts(4))


def test_limits_without_a_reward_function_are_refused() -> None:
    for key, value in (("reward_workers", "4"), ("reward_timeout_seconds", "9")):
        with pytest.raises(ConfigError, match=rf"verify\.{key} is for verify\.reward_function, and there is none"):
            load_config("tiny", {f"verify.{key}": value})
