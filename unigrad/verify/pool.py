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
KILLED = "killed"
"""What a worker replies where its child was killed by another (see `worker`)."""
SILENCE, SILENCE_SECONDS = 100.0, 60.0
"""Times the limit, and seconds at least, on the clock: a worker that has not replied by then sleeps. It ends a check
itself, by calls and by processor time (about ten times the limit at most), so that a busy machine makes no right answer
wrong."""


LOSSES = 10
"""So often in a row may a process be lost to something that is not the check's doing, such as the system's killer for
want of memory, before that is an error."""


class _Lost(Exception):
    """The process is gone, or its child was killed, and not by a limit of ours. Says how."""


class Worker:
    """One process, started by `start` or at its first check, and again after each death. For one thread at a time."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def start(self) -> None:
        """Begin what takes seconds before the first check, in the background."""
        if self._process is None:
            self._process = _start()

    def check(self, extracted: str, gold: str) -> Reason:
        """Two answers in LaTeX compared. RuntimeError where no worker can start, or each is killed."""
        question = json.dumps([extracted, gold, self._timeout_seconds])
        deaths = losses = 0
        while deaths < 2:  # once it may be another's doing (a process that sleeps): only a second death is the input's
            try:
                reason = self._ask(self._ready_process(), question)
            except _Lost as lost:
                losses += 1
                if losses == LOSSES:
                    raise RuntimeError(
                        f"the verifier's worker process was lost {losses} times in a row ({lost}): does the memory run "
                        "out, or does something kill it?"
                    ) from lost
                continue
            if reason is not None:
                return reason
            deaths += 1
        return Reason.UNPARSEABLE

    def close(self) -> int:
        """Kills the process, if there is one, and its child. Returns how it ended, as `Popen.returncode` says it."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError), process:  # closes the pipes, also where a question is stuck in one
            pass
        return process.wait()

    def _ask(self, process: subprocess.Popen[bytes], question: str) -> Reason | None:
        """None where the child that it checks with died of itself, or nothing was heard."""
        try:
            _pipe(process.stdin).write(question.encode("ascii") + b"\n")
            _pipe(process.stdin).flush()
            reply = _reply(process, max(SILENCE_SECONDS, SILENCE * self._timeout_seconds))
        except TimeoutError:
            self.close()
            return None
        except (EOFError, BrokenPipeError):
            raise _Lost(f"{_words(self.close())} during a check") from None
        if reply == KILLED:
            raise _Lost("its child was killed by SIGKILL during a check")
        return None if reply is None else Reason(reply)

    def _ready_process(self) -> subprocess.Popen[bytes]:
        self.start()
        assert self._process is not None
        if not self._ready:
            try:
                _reply(self._process, START_SECONDS)
            except TimeoutError:
                self.close()
                raise RuntimeError(
                    f"the verifier's worker process does not start: it was not ready after {START_SECONDS:.0f} seconds"
                ) from None
            except EOFError:
                code = self.close()
                if code < 0:
                    raise _Lost(f"{_words(code)} as it started") from None
                raise RuntimeError(
                    f"the verifier's worker process does not start: {_words(code)}; is math-verify installed?"
                ) from None
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


def _words(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"it ended with exit code {code}"
    return f"it was killed by {signal.Signals(-code).name}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # by the arguments of Popen
    return pipe
