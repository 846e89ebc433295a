"""From sampled completions to the file of their benchmark: written with their verdicts as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path

from unigrad.evaluate.completions import Sample, append
from unigrad.rollout import Sampled
from unigrad.types import Problem, Scorer

SECONDS = 5.0
"""Between two writes: by then the checks of most completions have run beside the sampling."""


class Recorder:
    """Appends verified completions to a file; what is `written` there already is let go."""

    def __init__(
        self,
        path: Path,
        written: Set[tuple[str, int]],
        scorer: Scorer,
        show: Callable[[Sequence[Sample]], None],
    ) -> None:
        """show: told of the samples that have reached the disk."""
        self._path = path
        self._written = written
        self._scorer = scorer
        self._show = show
        self._waiting: list[tuple[Problem, int, Sampled]] = []
        self._last = time.monotonic()

    def add(self, problem: Problem, index: int, sampled: Sampled) -> None:
        """A completion of the problem, its sample `index`, whose scoring has begun."""
        if (problem.id, index) in self._written:
            return
        self._waiting.append((problem, index, sampled))
        if time.monotonic() - self._last >= SECONDS:
            self.write()

    def write(self) -> None:
        """Everything that waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            scores = self._scorer.finish([sampled.started for _, _, sampled in waiting])
            samples = [
                Sample(
                    id=problem.id,
                    index=index,
                    completion=sampled.completion.text,
                    tokens=len(sampled.completion.token_ids),
                    truncated=sampled.completion.truncated,
                    reason=score.verdict.reason,
                    extracted=score.verdict.extracted,
                    correct=score.verdict.correct,
                )
                for (problem, index, sampled), score in zip(waiting, scores, strict=True)
            ]
            append(self._path, samples)
            self._show(samples)
        self._last = time.monotonic()
