"""Completions to rewards: the verifier (Eq. 7), a user's reward function in its place, or several, weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from unigrad.options import SOLVED_AT, least_solved
from unigrad.types import Attempt, Problem, Reason, Score, Scorer, TrainerState, Verdict
from unigrad.verify.awaiting import TIMED_OUT
from unigrad.verify.rewards import RewardFunction, scores
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
    """A user's reward function. A reward of None (it does not apply) is 0 and `unscored`.

    solved_at: the reward from which on a completion counts as solved. state: what the function is told of the run.
    calls: side by side, each of its share of the completions. timeout: of each call, in seconds; what it does not score
    in time is 0 and `reward timed out`.
    """

    def __init__(
        self,
        function: RewardFunction,
        *,
        solved_at: float = SOLVED_AT,
        state: TrainerState | None = None,
        calls: int = 1,
        timeout: float | None = None,
    ) -> None:
        self._function = function
        self._solved_at = solved_at
        self._state = state or TrainerState(max_steps=0)
        self._calls = calls
        self._timeout = timeout

    def start(self, attempt: Attempt) -> Attempt:
        return attempt

    def finish(self, started: Sequence[Attempt]) -> list[Score]:
        if not started:
            return []
        arguments = {
            "prompts": [_prompt(attempt) for attempt in started],
            "completions": [_completion(attempt) for attempt in started],
            **_columns([attempt.problem for attempt in started]),
            "completion_ids": [list(attempt.completion_ids) for attempt in started],
        }
        count = min(self._calls, len(started))
        ends = [len(started) * number // count for number in range(count + 1)]
        parts = [
            {**{name: values[first:last] for name, values in arguments.items()}, "trainer_state": self._state}
            for first, last in pairwise(ends)
        ]
        found: list[Score] = []
        for (first, last), rewards in zip(pairwise(ends), scores(self._function, parts, self._timeout), strict=True):
            if rewards is TIMED_OUT:
                found += [_TIMED_OUT] * (last - first)
            else:
                found += [_scored(reward, self._solved_at) for reward in rewards]
        return found


class WeightedScorer:
    """The sum of several rewards by name, each times its weight; one that is None for a completion is left out.

    A completion that all leave out is 0 and `unscored`; one that any has not scored in time is `reward timed out`. What
    the verifier read, where it is one of them, is kept.
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
            name: None if each.verdict.reason in _NOT_GIVEN else each.reward
            for name, each in zip(self._parts, scores, strict=True)
        }
        given = [reward * self._parts[name][1] for name, reward in parts.items() if reward is not None]
        extracted = next((each.verdict.extracted for each in scores if each.verdict.extracted is not None), None)
        total = _scored(sum(given) if given else None, self._solved_at, extracted, parts)
        if any(each.verdict.reason is Reason.REWARD_TIMED_OUT for each in scores):
            return replace(total, verdict=replace(total.verdict, reason=Reason.REWARD_TIMED_OUT))
        return total


class UnsolvedWarning:
    """Scores as another does, and says once where many rewards differ and none of them is full, and where the first is
    not there in time."""

    def __init__(self, scorer: Scorer, solved_at: float, say: Callable[[str], None]) -> None:
        self._scorer = scorer
        self._solved_at = solved_at
        self._say = say
        self._seen = 0
        self._least, self._most = float("inf"), float("-inf")
        self._watches = True
        self._in_time = True

    def start(self, attempt: Attempt) -> Any:
        return self._scorer.start(attempt)

    def finish(self, started: Sequence[Any]) -> list[Score]:
        scores = self._scorer.finish(started)
        if self._watches:
            self._look(scores)
        late = sum(each.verdict.reason is Reason.REWARD_TIMED_OUT for each in scores)
        if late and self._in_time:
            self._in_time = False
            self._say(
                f"WARNING: {late} of {len(scores)} completions were not scored within verify.reward_timeout_seconds, "
                "and count as unscored (verify/reward_timed_out says how many go on to be)"
            )
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


_TIMED_OUT = Score(0.0, Verdict(False, None, Reason.REWARD_TIMED_OUT))
_NOT_GIVEN = (Reason.UNSCORED, Reason.REWARD_TIMED_OUT)
"""Of a reward function: its 0 is no reward."""


def _prompt(attempt: Attempt) -> str | list[dict[str, str]]:
    """The prompt as the function gets it: the messages of a problem that came as a chat, else the text."""
    messages = attempt.problem.messages
    return [{"role": role, "content": said} for role, said in messages] if messages else attempt.prompt


def _completion(attempt: Attempt) -> str | list[dict[str, str]]:
    chat = [{"role": "assistant", "content": attempt.completion}]
    return chat if attempt.problem.messages else attempt.completion


def _scored(
    reward: float | None, solved_at: float, extracted: str | None = None, parts: Mapping[str, float | None] = {}
) -> Score:
    if reward is None:
        return Score(0.0, Verdict(False, extracted, Reason.UNSCORED), parts)
    return Score(reward, Verdict(reward >= least_solved(solved_at), extracted, Reason.REWARD_FUNCTION), parts)


def _columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' fields and other columns, by name; None where a row lacks one. A level may be its row's text.
    Problems of which none has an answer have no such column."""
    fields = _FIELDS if any(each.answer for each in problems) else [name for name in _FIELDS if name != "answer"]
    names = dict.fromkeys((*sorted({name for each in problems for name in each.columns} - NOT_COLUMNS), *fields))
    return {name: [_value(problem, name) for problem in problems] for name in names}


def _value(problem: Problem, name: str) -> Any:
    own = getattr(problem, name) if name in _FIELDS else None
    return problem.columns.get(name) if own is None or own == "" else own
