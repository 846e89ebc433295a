"""Stopping on SIGINT and SIGTERM at the next good moment."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_signals(*, second_acts: bool) -> Iterator[list[int]]:
    """A list that gathers each SIGINT and SIGTERM; `second_acts`: but one, and a second of its kind acts as usual.

    Only the main thread may listen to signals: on another the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if second_acts:
            signal.signal(number, previous[signal.Signals(number)])

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
