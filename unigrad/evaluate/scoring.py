"""Completions to rewards: the verifier (Eq. 7), or a user's reward function in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unigrad.types import Attempt, Problem, Reason, Score, Verdict
from unigrad.verify import Submission, Verifier
from unigrad.verify.rewards import RewardFunction, score


class VerifierScorer:
    """Reward 1 where the verifier accepts the answer, else 0 (Eq. 7)."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def __call__(self, attempts: Sequence[Attempt]) -> list[Score]:
        verdicts = self._verifier.verify_batch(
            [Submission(a.completion, a.problem.answer, a.problem.kind, a.truncated) for a in attempts]
        )
        return [Score(float(verdict.correct), verdict) for verdict in verdicts]


class RewardFunctionScorer:
    """A user's reward function. A reward of None (it does not apply) counts as 0 and as `unscored`."""

    def __init__(self, function: RewardFunction) -> None:
        self._function = function

    def __call__(self, attempts: Sequence[Attempt]) -> list[Score]:
        columns = _columns([attempt.problem for attempt in attempts])
        rewards = score(self._function, [a.prompt for a in attempts], [a.completion for a in attempts], columns)
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
