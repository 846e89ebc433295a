"""What the user sees while completions are sampled: a live bar on a terminal, a line for each chunk elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import TimeElapsedColumn

from unigrad.evaluate.completions import Sample
from unigrad.live import LiveDisplay, clock


class Display(LiveDisplay):
    """Completions, accuracy and truncated share of this session, tokens per second and time left."""

    def __init__(self, console: Console, total: int, done: int, what: str) -> None:
        super().__init__(console, what, total, done, TimeElapsedColumn())
        self._done = self._first = done
        self._start = time.monotonic()
        self._right = self._truncated = self._tokens = 0
        self._pace: float | None = None

    def advance(self, benchmark: str, samples: Sequence[Sample]) -> None:
        self._done += len(samples)
        self._right += sum(sample.correct for sample in samples)
        self._truncated += sum(sample.truncated for sample in samples)
        self._tokens += sum(sample.tokens for sample in samples)
        new, seconds = self._done - self._first, time.monotonic() - self._start
        pace = seconds / new if self._pace is None else self._pace
        facts = (
            benchmark,
            f"right {self._right / new:.1%}",
            f"truncated {self._truncated / new:.1%}",
            f"{self._tokens / max(seconds, 1e-9):,.0f} tokens/s",
            f"{clock(pace * (self._total - self._done))} left",
        )
        self.show(self._done, "  ".join(facts))

    def chunk_ended(self) -> None:
        """Whole chunks tell the seconds a completion takes: within one, most of them end late."""
        self._pace = (time.monotonic() - self._start) / (self._done - self._first)
