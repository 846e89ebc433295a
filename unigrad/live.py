"""What every long command shows: a live bar on a terminal, in a notebook one line that is replaced, else plain lines;
tables; and time as a clock."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Table

QUIET_SECONDS = 60
"""After which a log says how far the step in flight is."""
REDRAW_SECONDS = 0.25
"""Between two states of a notebook's line, each of which is a message to the browser."""
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
        self._cell: _CellLine | None = None
        if console.is_terminal:
            columns = (TextColumn(name), MofNCompleteColumn(), BarColumn(), *more_columns)
            self._bar = Progress(*columns, TextColumn("{task.fields[facts]}"), console=console)
            self._task = self._bar.add_task(name, total=total, completed=done, facts="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        elif self._console.is_jupyter:
            self._cell = _CellLine()
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
        elif self._cell:
            self._cell.show(self._line(facts))
        else:
            self.say(self._line(facts))

    def within(self, facts: str) -> None:
        """How far the next one is: at once on the bar, elsewhere a line where none was said for a while."""
        if self._bar:
            self._bar.update(self._task, facts=facts)
        elif self._cell:
            if time.monotonic() - self._cell.shown > REDRAW_SECONDS:
                self._cell.show(self._line(facts))
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self.say(self._line(facts))

    def _line(self, facts: str) -> str:
        return f"{self._name} {self._done}/{self._total}  {facts}"


class _CellLine:
    """A line below a notebook's cell, which is replaced: it needs no widgets, and a saved notebook keeps it."""

    def __init__(self) -> None:
        self.shown = 0.0
        self._handle = import_module("IPython.display").display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str) -> None:
        self.shown = time.monotonic()
        self._handle.update({"text/plain": text}, raw=True)


def clock(seconds: float) -> str:
    """M:SS, from an hour on H:MM:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
