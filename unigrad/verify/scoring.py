"""Completions to rewards: the verifier (Eq. 7), or a user's reward function in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unigrad.types import Attempt, Problem, Reason, Score, Verdict
from unigrad.verify.rewards import RewardFunction, score
from unigrad.verify.verifier import Check, Submission, Verifier


class VerifierScorer:
    """Reward 1 where the verifier accepts the answer, else 0 (Eq. 7). Checks run while more attempts are made."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def start(self, attempt: Attempt) -> Verdict | Check:
        problem = attempt.problem
        return self._verifier.start(Submission(attempt.completion, problem.answer, problem.kind, attempt.truncated))

    def finish(self, started: Sequence[Verdict | Check]) -> list[Score]:
        return [Score(float(verdict.correct), verdict) for verdict in map(self._verifier.finish, started)]


class RewardFunctionScorer:
    """A user's reward function, called once for all. A reward of None (it does not apply) is 0 and `unscored`."""

    def __init__(self, function: RewardFunction) -> None:
        self._function = function

    def start(self, attempt: Attempt) -> Attempt:
        return attempt

    def finish(self, started: Sequence[Attempt]) -> list[Score]:
        columns = _columns([attempt.problem for attempt in started])
        rewards = score(self._function, [a.prompt for a in started], [a.completion for a in started], columns)
        return [
            Score(0.0, Verdict(False, None, Reason.UNSCORED))
            if reward is None
            else Score(reward, Verdict(reward >= 1.0, None, Reason.REWARD_FUNCTION))
            for reward in rewards
        ]


def _columns(problems: Sequence[Problem]) -> Mapping[str, list[Any]]:
    """The problems' fields and extra columns, by name; None where a row lacks one."""
    names = {name for problem in problems for name in problem.columns}
    own = {name: [getattr(problem, name) for problem in problems] for name in ("id", "answer", "solution", "level")}
    return {**{name: [problem.columns.get(name) for problem in problems] for name in sorted(names)}, **own}
