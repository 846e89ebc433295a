"""rollouts/NNNNNN.jsonl: a step's completions, a line each, written and read back question by question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import TypeAdapter

from unigrad.files import Count, Flag, Number, Text, Whole, checked, json_lines, replacing


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate said of a question: the weights α of its rollouts and β of its demonstration (Eq. 9–10).

    solved: of its rollouts. fell_back: it has no demonstration, and the gate wanted one.
    """

    alpha: Number
    beta: Number
    solved: Count
    fell_back: Flag


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLine:
    """A rollout, or a demonstration that trained: a line.

    sample: the rollout's number among its question's, from 0; None: a demonstration. verdict: its `Reason`.
    tokens: how many, the end token included. pieces and logprobs: each token's text, and the log-prob in nats that it
    was sampled with; None where the run does not keep them. weights_version: of the weights that sampled it, in an
    engine that holds its own. problem: the question, without what the template puts around it. level, problem: None
    also in files from before they were written.
    """

    id: Text
    level: Whole | None = None
    sample: Count | None
    problem: Text | None = None
    prompt: Text
    completion: Text
    answer: Text
    verdict: Text
    extracted: Text | None
    reward: Number
    truncated: Flag
    tokens: Count
    gate: GateDecision
    trained: Flag
    pieces: list[Text] | None = None
    logprobs: list[Number] | None = None
    weights_version: Count | None = None

    def as_json(self) -> str:
        kind = "demonstration" if self.sample is None else "rollout"
        # Not all by `asdict`: it would copy every token.
        own = {name: getattr(self, name) for name in _NAMES if name not in _OPTIONAL or getattr(self, name) is not None}
        data = {"id": self.id, "kind": kind, **own, "gate": asdict(self.gate)}
        # A decoded completion may hold a lone surrogate, which only an escape can carry.
        return json.dumps(data, ensure_ascii=True)


_NAMES = tuple(field.name for field in fields(RolloutLine))
_OPTIONAL = ("pieces", "logprobs", "weights_version")
_LINE = TypeAdapter(RolloutLine)


@dataclass(frozen=True, slots=True)
class Question:
    """One question at one step: its lines, the rollouts and what else trained, as they were written."""

    lines: list[RolloutLine]

    @property
    def id(self) -> str:
        return self.lines[0].id

    @property
    def level(self) -> int | None:
        return self.lines[0].level

    @property
    def rollouts(self) -> list[RolloutLine]:
        return [line for line in self.lines if line.sample is not None]

    @property
    def solved(self) -> int:
        """How many of its rollouts are; what the gate was told."""
        return min(self.lines[0].gate.solved, len(self.rollouts))  # a line may be cut off

    @property
    def accuracy(self) -> float | None:
        """The solved share of the rollouts; None where nothing was sampled."""
        rollouts = self.rollouts
        return self.solved / len(rollouts) if rollouts else None


def write_rollouts(path: Path, lines: Iterable[RolloutLine]) -> None:
    """Replaced whole: what an earlier attempt at this step left goes."""
    with replacing(path) as file:
        file.writelines(line.as_json() + "\n" for line in lines)


def questions(path: Path) -> Iterator[Question]:
    """The questions of a step, in their order; what follows a line that is cut off is left out.

    A step that straddles two epochs may hold a question twice: each time counts as one of its own.

    Raises ConfigError on a line that is no rollout's.
    """
    lines: list[RolloutLine] = []
    for number, data in enumerate(json_lines(path), start=1):
        # What a later version writes besides is left out.
        line = checked(data, _LINE, f"{path}, line {number}", what="a rollout")
        if lines and _begins(line, lines[-1]):
            yield Question(lines)
            lines = []
        lines.append(line)
    if lines:
        yield Question(lines)


def _begins(line: RolloutLine, before: RolloutLine) -> bool:
    """Whether `line` is another question's than the one `before` it: samples count up, the demonstration is last."""
    if line.id != before.id or before.sample is None:
        return True
    return line.sample is not None and line.sample <= before.sample
