"""Worker processes that compare formulas with math-verify, each check under a hard limit of time and memory.

They are programs of their own behind pipes (`worker.py`), not children of multiprocessing: those import the main script
again, which fails in a notebook's or stdin's script, recurses in one without a main guard, and loads torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO

from unigrad.types import Reason

START_SECONDS = 120.0
"""A worker that is not ready by then (slow disks) is taken for broken."""
SILENCE, SILENCE_SECONDS = 100.0, 60.0
"""Times the limit, and seconds at least, on the clock: a worker that has not replied by then sleeps. It ends a check
itself, by calls and by processor time (about ten times the limit at most), so that a busy machine makes no right answer
wrong."""


class Worker:
    """One process, started at its first check and again after each death. For one thread at a time."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def check(self, extracted: str, gold: str) -> Reason:
        """Two answers in LaTeX compared. RuntimeError where no worker can start."""
        for _ in range(2):  # a process may die of another's doing (no memory left): only a second death is the input's
            process = self._ready_process()
            reason = self._ask(process, json.dumps([extracted, gold, self._timeout_seconds]))
            if reason is not None:
                return reason
        return Reason.UNPARSEABLE

    def close(self) -> None:
        """Kills the process, if there is one, and its child."""
        process, self._process, self._ready = self._process, None, False
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()  # waits for its end and closes the pipes

    def _ask(self, process: subprocess.Popen[bytes], question: str) -> Reason | None:
        """None where the process, or the child that it checks with, died of no limit or fell silent."""
        try:
            _pipe(process.stdin).write(question.encode("ascii") + b"\n")
            _pipe(process.stdin).flush()
            reply = _reply(process, max(SILENCE_SECONDS, SILENCE * self._timeout_seconds))
        except (TimeoutError, EOFError, BrokenPipeError):
            self.close()
            return None
        return None if reply is None else Reason(reply)

    def _ready_process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = _start()
        if not self._ready:
            try:
                _reply(self._process, START_SECONDS)
            except (EOFError, TimeoutError) as error:
                self.close()
                raise RuntimeError("the verifier's worker process does not start: is math-verify installed?") from error
            self._ready = True
        return self._process


def _start() -> subprocess.Popen[bytes]:
    # -P: the script's folder is not searched for modules. A session of its own: Ctrl-C is the trainer's to handle, and
    # killing its group ends its child. Hashes decide the order of sets, and so the work that a check makes.
    return subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        start_new_session=True,
    )


def _reply(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The next line. TimeoutError where none comes in time, EOFError where the process is gone."""
    replies = _pipe(process.stdout)
    if not wait([replies.fileno()], seconds):
        raise TimeoutError
    line = replies.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    reply: str | None = json.loads(line)
    return reply


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # by the arguments of Popen
    return pipe
