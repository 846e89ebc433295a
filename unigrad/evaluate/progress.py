"""What the user sees while completions are sampled: a live bar on a terminal, a line for each chunk elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unigrad.evaluate.completions import Sample


class Display:
    """Completions, accuracy and truncated share of this session, tokens per second and time left."""

    def __init__(self, console: Console, total: int, done: int, what: str) -> None:
        self._console = console
        self._total = total
        self._done = self._first = done
        self._what = what
        self._start = time.monotonic()
        self._right = self._truncated = self._tokens = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[facts]}"), console=console)
            self._task = self._bar.add_task(what, total=total, completed=done, facts="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, benchmark: str, samples: Sequence[Sample]) -> None:
        self._done += len(samples)
        self._right += sum(sample.correct for sample in samples)
        self._truncated += sum(sample.truncated for sample in samples)
        self._tokens += sum(sample.tokens for sample in samples)
        new, seconds = self._done - self._first, time.monotonic() - self._start
        facts = "  ".join(
            (
                benchmark,
                f"right {self._right / new:.1%}",
                f"truncated {self._truncated / new:.1%}",
                f"{self._tokens / max(seconds, 1e-9):,.0f} tokens/s",
                f"{_clock(seconds / new * (self._total - self._done))} left",
            )
        )
        if self._bar:
            self._bar.update(self._task, completed=self._done, facts=facts)
        else:
            self._console.print(f"{self._what} {self._done}/{self._total}  {facts}", markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
