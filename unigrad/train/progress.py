"""What the user sees of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class Display:
    """Step, accuracy, offline ratio, tokens per second and time left."""

    def __init__(self, console: Console, max_steps: int, first_step: int) -> None:
        self._console = console
        self._max_steps = max_steps
        self._start = time.monotonic()
        self._first_step = first_step
        self._accuracy: float | None = None
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[facts]}"))
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("train", total=max_steps, completed=first_step - 1, facts="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def evaluated(self, step: int, accuracy: float, by_level: dict[int, float]) -> None:
        self._accuracy = accuracy
        levels = "  ".join(f"level {level} {share:.1%}" for level, share in sorted(by_level.items()))
        self.say(f"step {step}: held-out accuracy {accuracy:.1%}" + (f"   ({levels})" if levels else ""))

    def stepped(self, step: int, reward: float | None, offline_ratio: float, tokens_per_second: float) -> None:
        facts = [] if self._accuracy is None else [f"accuracy {self._accuracy:.1%}"]
        if reward is not None:
            facts.append(f"reward {reward:.2f}")
        facts += [f"offline {offline_ratio:.0%}", f"{tokens_per_second:,.0f} tokens/s", f"{self._time_left(step)} left"]
        if self._bar:
            self._bar.update(self._task, completed=step, facts="  ".join(facts))
        else:
            self.say(f"step {step}/{self._max_steps}  " + "  ".join(facts))

    def _time_left(self, step: int) -> str:
        done = step - self._first_step + 1
        seconds = round((time.monotonic() - self._start) / done * (self._max_steps - step))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
