"""The words that every room shares. Plain data: nothing here computes on tensors or touches a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

AnswerKind = Literal["math", "choice"]
Message = tuple[str, str]
"""Of a chat: its role, as chat templates name it, and its text."""
NoBox = Literal["last_number", "wrong"]
"""What a completion without a box is: read for its last number (or option), or wrong."""


class Reason(StrEnum):
    """Why a verdict is what it is; each is counted apart, because each has another cause and another cure."""

    RIGHT = "right"
    WRONG = "wrong"
    UNPARSEABLE = "unparseable"
    TIMED_OUT = "timed out"
    BAD_GOLD = "bad gold"
    REWARD_FUNCTION = "reward function"
    UNSCORED = "unscored"
    REWARD_TIMED_OUT = "reward timed out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier says of one completion: v(τ) of Eq. 7, what it read as the answer, and why.

    correct: for a user's reward function, whether the reward reaches `method.solved_at`.
    """

    correct: bool
    extracted: str | None
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question q with its gold answer and, where there is one, the demonstration τ* (`solution`)."""

    id: str
    problem: str
    answer: str
    solution: str | None = None
    source: str | None = None
    level: int | None = None
    kind: AnswerKind = "math"
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Every other column of the row, handed to a user's reward function under its own name."""
    messages: tuple[Message, ...] = ()
    """Of a problem that came as a chat: the chat up to the question, which is the last; empty of one that came as
    text."""
    read_from: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The column that each field was read from."""

    @property
    def context(self) -> tuple[Message, ...]:
        """What was said before the question: a system prompt, earlier turns."""
        return self.messages[:-1]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A completion of a problem's prompt, as text: what a scorer judges."""

    problem: Problem
    prompt: str
    completion: str
    truncated: bool = False
    """It ended because its length ran out."""
    completion_ids: tuple[int, ...] = ()
    """As of `Trajectory`."""


@dataclass(slots=True, kw_only=True)
class TrainerState:
    """Where a run stands, by TRL's names, for reward functions that ask: how many steps are done, and of how many."""

    global_step: int = 0
    max_steps: int


@dataclass(frozen=True, slots=True)
class Score:
    """R(τ) of Eq. 7, or of a user's reward functions, and why.

    parts: of several functions, what each gave before its weight, by its name; None where it does not apply.
    """

    reward: float
    verdict: Verdict
    parts: Mapping[str, float | None] = field(default_factory=dict)


class Scorer(Protocol):
    """Scores attempts, beginning with each as soon as it is there."""

    def start(self, attempt: Attempt) -> Any:
        """Begin, and return at once; what is returned is for `finish`."""

    def finish(self, started: Sequence[Any]) -> list[Score]:
        """The scores of what was begun, in the order given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """A completion of a prompt with its score: a rollout, or a demonstration (then `rollout_logprobs` is None).

    `completion_ids` are exactly the ids that were sampled (or the demonstration's), the end token included; `text` is
    what they say before it, special tokens included. `reward_parts`: see `Score`. `weights_version`: of the weights
    that sampled it, in an engine that holds its own.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    rollout_logprobs: tuple[float, ...] | None
    text: str
    truncated: bool
    reward: float
    verdict: Verdict
    reward_parts: Mapping[str, float | None] = field(default_factory=dict)
    weights_version: int | None = None

    @property
    def on_policy(self) -> bool:
        return self.rollout_logprobs is not None

    @property
    def solved(self) -> bool:
        """Whether its reward reaches `method.solved_at`: what gate, metrics and ±1 advantages alike mean by it."""
        return self.verdict.correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A problem with its n scored rollouts and its demonstration."""

    problem: Problem
    rollouts: tuple[Trajectory, ...]
    demonstration: Trajectory | None

    @property
    def trajectories(self) -> tuple[Trajectory, ...]:
        """The rollouts, then the demonstration where there is one."""
        return self.rollouts if self.demonstration is None else (*self.rollouts, self.demonstration)

    @property
    def solved(self) -> int:
        """How many rollouts the verifier accepts: n·P of Eq. 8."""
        return sum(rollout.solved for rollout in self.rollouts)
