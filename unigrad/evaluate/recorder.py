"""From sampled completions to the file of their benchmark: verified and written as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from unigrad.evaluate.completions import Sample, append
from unigrad.types import Problem
from unigrad.verify import Submission, Verifier

SECONDS = 5.0
"""Between two writes: the pool verifies several completions faster than one after the other."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A completion without its verdict. `tokens` counts the end token."""

    problem: Problem
    index: int
    text: str
    tokens: int
    truncated: bool


class Recorder:
    """Verifies completions and appends them to a file; what is `written` there already is let go."""

    def __init__(
        self,
        path: Path,
        written: Set[tuple[str, int]],
        verifier: Verifier,
        show: Callable[[Sequence[Sample]], None],
    ) -> None:
        """show: told of the samples that have reached the disk."""
        self._path = path
        self._written = written
        self._verifier = verifier
        self._show = show
        self._waiting: list[Sampled] = []
        self._last = time.monotonic()

    def add(self, sampled: Sampled) -> None:
        if (sampled.problem.id, sampled.index) in self._written:
            return
        self._waiting.append(sampled)
        if time.monotonic() - self._last >= SECONDS:
            self.write()

    def write(self) -> None:
        """Everything that waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            verdicts = self._verifier.verify_batch(
                [Submission(each.text, each.problem.answer, each.problem.kind, each.truncated) for each in waiting]
            )
            samples = [
                Sample(
                    id=each.problem.id,
                    index=each.index,
                    completion=each.text,
                    tokens=each.tokens,
                    truncated=each.truncated,
                    reason=verdict.reason,
                    extracted=verdict.extracted,
                    correct=verdict.correct,
                )
                for each, verdict in zip(waiting, verdicts, strict=True)
            ]
            append(self._path, samples)
            self._show(samples)
        self._last = time.monotonic()
