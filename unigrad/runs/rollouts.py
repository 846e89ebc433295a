"""rollouts/NNNNNN.jsonl: a step's completions, a line each, written and read back question by question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unigrad.errors import ConfigError
from unigrad.files import json_lines


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate said of a question: the weights α of its rollouts and β of its demonstration (Eq. 9–10).

    solved: of its rollouts. fell_back: it has no demonstration, and the gate wanted one.
    """

    alpha: float
    beta: float
    solved: int
    fell_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLine:
    """A rollout, or a demonstration that trained: a line.

    sample: the rollout's number among its question's, from 0; None: a demonstration. verdict: its `Reason`.
    tokens: how many, the end token included. pieces and logprobs: each token's text, and the log-prob in nats that it
    was sampled with; None where the run does not keep them. level: None also in files from before levels were written.
    """

    id: str
    level: int | None = None
    sample: int | None
    prompt: str
    completion: str
    answer: str
    verdict: str
    extracted: str | None
    reward: float
    truncated: bool
    tokens: int
    gate: GateDecision
    trained: bool
    pieces: list[str] | None = None
    logprobs: list[float] | None = None

    def as_json(self) -> str:
        kind = "demonstration" if self.sample is None else "rollout"
        # Not all by `asdict`: it would copy every token.
        own = {name: getattr(self, name) for name in _NAMES if self.pieces is not None or name not in _TOKENS}
        data = {"id": self.id, "kind": kind, **own, "gate": asdict(self.gate)}
        # A decoded completion may hold a lone surrogate, which only an escape can carry.
        return json.dumps(data, ensure_ascii=True)


_NAMES = tuple(field.name for field in fields(RolloutLine))
_REQUIRED = frozenset(field.name for field in fields(RolloutLine) if field.default is MISSING)
_TOKENS = ("pieces", "logprobs")
_GATE = tuple(field.name for field in fields(GateDecision))


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
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(line.as_json() + "\n" for line in lines)
    partial.replace(path)


def questions(path: Path) -> Iterator[Question]:
    """The questions of a step, in their order; what follows a line that is cut off is left out.

    A step that straddles two epochs may hold a question twice: each time counts as one of its own.

    Raises ConfigError on a line that is no rollout's.
    """
    lines: list[RolloutLine] = []
    for number, data in enumerate(json_lines(path), start=1):
        line = _line(data, f"{path}, line {number}")
        if lines and _begins(line, lines[-1]):
            yield Question(lines)
            lines = []
        lines.append(line)
    if lines:
        yield Question(lines)


def _line(data: Mapping[str, Any], where: str) -> RolloutLine:
    """What a later version writes besides is left out."""
    try:
        gate = GateDecision(*map(data["gate"].__getitem__, _GATE))
        return RolloutLine(**{name: data[name] for name in _NAMES if name in data and name != "gate"}, gate=gate)
    except (KeyError, TypeError):
        lacking = sorted(_REQUIRED - data.keys()) or [f"gate.{name}" for name in _GATE if name not in data["gate"]]
        raise ConfigError(f"{where}: a rollout without {', '.join(lacking)}") from None


def _begins(line: RolloutLine, before: RolloutLine) -> bool:
    """Whether `line` is another question's than the one `before` it: samples count up, the demonstration is last."""
    if line.id != before.id or before.sample is None:
        return True
    return line.sample is not None and line.sample <= before.sample
