"""Completions to rewards: the verifier (Eq. 7), a user's reward function in its place, or several, weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unigrad.options import SOLVED_AT, least_solved
from unigrad.types import Attempt, Problem, Reason, Score, Scorer, TrainerState, Verdict
from unigrad.verify.rewards import RewardFunction, score
from unigrad.verify.verifier import Check, Submission, Verifier

NOT_COLUMNS = frozenset({"prompts", "prompt", "completions", "completion", "completion_ids", "trainer_state"})
"""Names that TRL keeps for what it passes itself: columns of these names are left out."""
_FIELDS = ("id", "problem", "answer", "solution", "source", "level", "kind")
ENOUGH = 100
"""Rewards after which it is strange that none was full."""


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
    """A user's reward function, called once for all. A reward of None (it does not apply) is 0 and `unscored`.

    solved_at: the reward from which on a completion counts as solved. state: what the function is told of the run.
    """

    def __init__(
        self, function: RewardFunction, *, solved_at: float = SOLVED_AT, state: TrainerState | None = None
    ) -> None:
        self._function = function
        self._solved_at = solved_at
        self._state = state or TrainerState(max_steps=0)

    def start(self, attempt: Attempt) -> Attempt:
        return attempt

    def finish(self, started: Sequence[Attempt]) -> list[Score]:
        if not started:
            return []
        arguments = {
            **_columns([attempt.problem for attempt in started]),
            "completion_ids": [list(attempt.completion_ids) for attempt in started],
            "trainer_state": self._state,
        }
        rewards = score(self._function, [a.prompt for a in started], [a.completion for a in started], arguments)
        return [_scored(reward, self._solved_at) for reward in rewards]


class WeightedScorer:
    """The sum of several rewards by name, each times its weight; one that is None for a completion is left out.

    A completion that all leave out is 0 and `unscored`. What the verifier read, where it is one of them, is kept.
    """

    def __init__(self, parts: Mapping[str, tuple[Scorer, float]], *, solved_at: float = SOLVED_AT) -> None:
        self._parts = parts
        self._solved_at = solved_at

    def start(self, attempt: Attempt) -> list[Any]:
        return [scorer.start(attempt) for scorer, _ in self._parts.values()]

    def finish(self, started: Sequence[list[Any]]) -> list[Score]:
        scores = [
            scorer.finish([each[number] for each in started]) for number, (scorer, _) in enumerate(self._parts.values())
        ]
        return [self._sum(each) for each in zip(*scores, strict=True)]

    def _sum(self, scores: Sequence[Score]) -> Score:
        parts = {
            name: None if each.verdict.reason is Reason.UNSCORED else each.reward
            for name, each in zip(self._parts, scores, strict=True)
        }
        given = [reward * self._parts[name][1] for name, reward in parts.items() if reward is not None]
        extracted = next((each.verdict.extracted for each in scores if each.verdict.extracted is not None), None)
        return _scored(sum(given) if given else None, self._solved_at, extracted, parts)


class UnsolvedWarning:
    """Scores as another does, and says once where many rewards differ and none of them is full."""

    def __init__(self, scorer: Scorer, solved_at: float, say: Callable[[str], None]) -> None:
        self._scorer = scorer
        self._solved_at = solved_at
        self._say = say
        self._seen = 0
        self._least, self._most = float("inf"), float("-inf")
        self._watches = True

    def start(self, attempt: Attempt) -> Any:
        return self._scorer.start(attempt)

    def finish(self, started: Sequence[Any]) -> list[Score]:
        scores = self._scorer.finish(started)
        if self._watches:
            self._look(scores)
        return scores

    def _look(self, scores: Sequence[Score]) -> None:
        rewards = [each.reward for each in scores]
        self._seen += len(rewards)
        self._least, self._most = min([self._least, *rewards]), max([self._most, *rewards])
        if any(each.verdict.correct for each in scores):
            self._watches = False
        elif self._seen >= ENOUGH and self._least < self._most:
            self._watches = False
            self._say(
                f"WARNING: none of the first {self._seen} rewards reached method.solved_at = {self._solved_at:g} "
                f"(the largest was {self._most:g}), so every question counts as unsolved"
            )


def _scored(
    reward: float | None, solved_at: float, extracted: str | None = None, parts: Mapping[str, float | None] = {}
) -> Score:
    if reward is None:
        return Score(0.0, Verdict(False, extracted, Reason.UNSCORED), parts)
    return Score(reward, Verdict(reward >= least_solved(solved_at), extracted, Reason.REWARD_FUNCTION), parts)


def _columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' fields and other columns, by name; None where a row lacks one. A level may be its row's text."""
    names = dict.fromkeys((*sorted({name for each in problems for name in each.columns} - NOT_COLUMNS), *_FIELDS))
    return {name: [_value(problem, name) for problem in problems] for name in names}


def _value(problem: Problem, name: str) -> Any:
    own = getattr(problem, name) if name in _FIELDS else None
    return problem.columns.get(name) if own is None else own
