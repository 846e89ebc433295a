"""Stopping on SIGINT, SIGTERM and SIGHUP at the next good moment."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stop_signals(*, second_acts: bool, announce: str | None = None) -> Iterator[list[int]]:
    """A list that gathers each SIGINT, SIGTERM and SIGHUP; `second_acts`: but one of the first two, and a second of its
    kind acts as usual. `announce` is said on stderr at the first. A terminal that closes may send several SIGHUPs, and
    means no haste by the second. Where SIGHUP is ignored (nohup), it stays so.

    Only the main thread may listen to signals: on another the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if announce is not None and len(received) == 1:
            # Not by a file object, whose lock the interrupted code may hold.
            with contextlib.suppress(OSError):
                os.write(2, f"\n{announce}\n".encode())
        if second_acts and number != signal.SIGHUP:
            signal.signal(number, previous[signal.Signals(number)])

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
