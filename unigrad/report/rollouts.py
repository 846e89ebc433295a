"""A run's rollout files, read question by question, one file in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unigrad.files import json_lines
from unigrad.measure.metrics import ROLLOUTS_FOLDER


@dataclass(frozen=True, slots=True)
class Question:
    """One question at one step: its lines, the rollouts and what else trained, as they were written."""

    lines: list[Mapping[str, Any]]

    @property
    def id(self) -> str:
        return str(self.lines[0]["id"])

    @property
    def level(self) -> int | None:
        """None also in files from before levels were written."""
        return self.lines[0].get("level")

    @property
    def rollouts(self) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if line["kind"] == "rollout"]

    @property
    def solved(self) -> int:
        return sum(line["reward"] >= 1.0 for line in self.rollouts)

    @property
    def accuracy(self) -> float | None:
        """The solved share of the rollouts; None where nothing was sampled."""
        rollouts = self.rollouts
        return self.solved / len(rollouts) if rollouts else None


def rollout_files(run: Path) -> dict[int, Path]:
    """The file of each step that has one, in the order of the steps."""
    files = {int(path.stem): path for path in (run / ROLLOUTS_FOLDER).glob("*.jsonl") if path.stem.isdecimal()}
    return dict(sorted(files.items()))


def questions(path: Path) -> Iterator[Question]:
    """The questions of a step, in their order; what follows a line that is cut off is left out.

    A step that straddles two epochs may hold a question twice: each time counts as one of its own.
    """
    lines: list[Mapping[str, Any]] = []
    for line in json_lines(path):
        if lines and _begins(line, lines[-1]):
            yield Question(lines)
            lines = []
        lines.append(line)
    if lines:
        yield Question(lines)


def _begins(line: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether `line` is another question's than the one `before` it: samples count up, the demonstration is last."""
    if line["id"] != before["id"] or before["sample"] is None:
        return True
    return line["sample"] is not None and line["sample"] <= before["sample"]
