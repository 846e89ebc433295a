"""What every long command shows: a live bar on a terminal, plain lines elsewhere, time as a clock; and tables."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table

QUIET_SECONDS = 60
"""After which a log says how far the step in flight is."""
PLAIN_WIDTH = 180
"""Columns of a table that goes to a file or a pipe, where no terminal's edge would fold it."""


class LiveConsole(Console):
    """Where a long command says what it does. What stands at the other end may go meanwhile (a terminal that closes, a
    `tee` that is killed): that is a SIGHUP, as a terminal's end is, and from then on nothing is said."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(highlight=False, stderr=stderr, width=width)

    def print(self, *objects: Any, **how: Any) -> None:
        try:
            super().print(*objects, **how)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Raises SystemExit where nobody listens to SIGHUP."""
        self.quiet = True
        # What Python still holds would fail once more as the interpreter ends.
        with contextlib.suppress(OSError, ValueError, AttributeError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), (sys.stderr if self.stderr else sys.stdout).fileno())
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            raise SystemExit(128 + signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)


def table_console() -> Console:
    console = LiveConsole()
    return console if console.is_terminal else LiveConsole(width=PLAIN_WIDTH)


def text_table(headings: Iterable[str], title: str | None = None) -> Table:
    """For a terminal, to be filled row by row: names in the first column, numbers in the others."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    return table


class LiveDisplay:
    """How much of a task is done, and facts about it. A context: the bar stands while it is entered."""

    def __init__(self, console: Console, name: str, total: int, done: int, *more_columns: ProgressColumn) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._done = done
        self._said = time.monotonic()
        self._bar: Progress | None = None
        if _can_redraw(console):
            columns = (TextColumn(name), MofNCompleteColumn(), BarColumn(), *more_columns)
            self._bar = Progress(*columns, TextColumn("{task.fields[facts]}"), console=console)
            self._task = self._bar.add_task(name, total=total, completed=done, facts="")

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
        self._said = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, done: int, facts: str) -> None:
        self._done = done
        if self._bar:
            self._bar.update(self._task, completed=done, facts=facts)
        else:
            self.say(f"{self._name} {done}/{self._total}  {facts}")

    def within(self, facts: str) -> None:
        """How far the next one is: at once on the bar, elsewhere a line where none was said for a while."""
        if self._bar:
            self._bar.update(self._task, facts=facts)
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self.say(f"{self._name} {self._done}/{self._total}  {facts}")


def _can_redraw(console: Console) -> bool:
    """Whether what was shown can be replaced: on a terminal, and in a notebook that has widgets."""
    return console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)


def clock(seconds: float) -> str:
    """M:SS, from an hour on H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
