"""The program a verification worker runs: one JSON line in, a question; one JSON line out, its verdict.

It is started as a script (see `pool`) and imports of this package `formulas` alone: a worker never loads torch.

The process that is started judges nothing. It loads and warms up what a check needs, and forks a child that checks. A
child that dies of a check is replaced by another fork, which costs milliseconds where a start costs seconds.

The verdict on a pair must not depend on the machine's load, on what was checked before, or on the process:
- Within `QUICK` of the limit a check ends by itself, and its verdict stands.
- One that does not is checked again by a fresh child, which counts the calls of Python functions: a number that is the
  same every time, where seconds are not. Who makes too many has timed out.
- What makes few calls (one power of huge numbers) is ended by processor time: `STILL` times the limit, and up to
  `CALLING` times more as calls are made. What is made of calls never spends that.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

QUICK = 0.25
"""The share of the limit that a check may take in processor time without being counted. No machine makes so many calls
in it that they would be too many if they were counted."""
CALLS_PER_SECOND = 2_000_000
"""A second of the limit, counted: about what sympy makes in a second on a server of 2023."""
STILL, CALLING = 2.0, 8.0
"""Times the limit: the processor time of a counted check that makes no calls, and what all its calls add to it.
Counting makes a check two to four times slower."""
SLICES = 32
"""In so many parts is the time added."""
MEMORY_BYTES = 1 << 30
"""How much a worker's address space may grow once it is ready: a huge power must not take the machine's memory."""
ADDR_NO_RANDOMIZE = 0x0040000

# Judged before any time is limited: the first formula of each kind loads modules and fills the parser's tables.
WARM_UP = (
    (r"x^{2}+\frac{4x}{\sqrt{4}}+1", "(x+1)^{2}"),
    (r"\sin^{2} x+\cos(2x)", "x"),
    (r"\log_{2} x-\ln 3", "x"),
    (r"\{1, -2, \sqrt{3}\}", "1, 2"),
    (r"\left(1, \frac{2}{3}, -x\right)", "(2, 1)"),
    (r"(-\infty, -2)\cup[3, 7)", "(1, 2)"),
    (r"x \in [1, 5)", r"1 \le x < 5"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", "1"),
    (r"\sum_{k=1}^{n} k", "n"),
    (r"\int_{0}^{1} x\,dx", "2"),
    (r"\binom{10}{3}+5!", "240"),
    ("3+4i", "4+4i"),
    ("y=2x", "2x-y=0"),
    (r"\sqrt[3]{-8}+\cos 20^\circ", "1"),
    (r"\frac{n(n+1)}{2}", "n"),
    ("(-1)^n", r"\cos(n\pi)"),
    (r"x<1 \text{ or } x^2>4", "x<1"),
    (r"2\sqrt7 \approx 5.29", "5.29"),
    ("2x+3y<6", "4x+6y<12"),
    (r"2e^{i\pi/6}+V_0e^{-t/(RC)}", r"\frac{mg}{b}\left(1-e^{-\frac{bt}{m}}\right)"),
    (r"\frac{x^2}{9}-\frac{y^2}{4}=1", "4x^2-9y^2=36"),
    (r"x^{\prime\prime}+4x=0", r"x^{\prime}-4x=0"),
    (r"\frac{-1+\sqrt{5}}{2}-3\sqrt[3]{2}", r"|x-1|+\lfloor x\rfloor"),
    (r"a_{n+1}-x^{2n+1}", r"\frac{1}{x+\frac{1}{y}}"),
    (r"-\frac{1}{2}\cdot 3^{-2}\times 10^{5}", "2^{10}/3"),
)


def main() -> None:
    _fix_addresses()
    replies = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # parsers print their complaints
    logging.disable()

    judge = _judge()
    for pair in WARM_UP:
        judge(*pair)
    os.dup2(nowhere, 2)  # until here, an error of the installation is worth showing
    _limit_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    gc.collect()
    gc.freeze()  # the collector of a child would copy every page that it shares with this process
    _send(replies, "ready")
    child = None
    for line in sys.stdin:
        extracted, gold, seconds = json.loads(line)
        child = child or _fork(judge, replies)
        reason = child.ask([extracted, gold, seconds, "quick"])
        if reason == "timed out":
            child = _fork(judge, replies)
            reason = child.ask([extracted, gold, seconds, "counted"])
        if reason in (None, "timed out", "killed"):
            child = None
        _send(replies, reason)


@dataclass
class _Child:
    pid: int
    pipe: TextIO
    """Both ways: questions to it, replies from it."""

    def ask(self, question: list[str | float]) -> str | None:
        """Its reply; "timed out" where it died of a limit, "killed" of SIGKILL, which none sends, None of all else."""
        try:
            _send(self.pipe, question)
            line = self.pipe.readline()
        except OSError:
            line = ""
        if line:
            reason: str = json.loads(line)
            return reason
        _, status = os.waitpid(self.pid, 0)
        ends = {signal.SIGPROF: "timed out", signal.SIGKILL: "killed"}
        return ends.get(signal.Signals(os.WTERMSIG(status))) if os.WIFSIGNALED(status) else None


def _fork(judge: Callable[[str, str], str], replies: TextIO) -> _Child:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        with ours, theirs:
            return _Child(pid, ours.makefile("rw"))
    status = 1
    try:
        # Only the process that was started holds the pipe to the verifier: its end is seen there at once.
        os.close(replies.fileno())
        ours.close()
        _serve(judge, theirs.makefile("rw"))
        status = 0
    finally:
        os._exit(status)


def _serve(judge: Callable[[str, str], str], pipe: TextIO) -> None:
    for line in pipe:
        extracted, gold, seconds, attempt = json.loads(line)
        # The kernel ends the process when this much processor time is spent, whatever it is doing, parent or no parent.
        signal.setitimer(signal.ITIMER_PROF, (QUICK if attempt == "quick" else STILL) * seconds)
        if attempt == "counted":
            sys.settrace(_counter(seconds))
        reason = judge(extracted, gold)
        sys.settrace(None)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(pipe, reason)


def _counter(seconds: float) -> Callable[[FrameType, str, object], None]:
    """A trace function, which Python calls where a function begins. It ends the process as its time limit would."""
    calls = max(1, int(CALLS_PER_SECOND * seconds / SLICES))
    slices, left = SLICES, calls

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal slices, left
        left -= 1
        if left > 0:
            return
        slices, left = slices - 1, calls
        if slices == 0:
            os.kill(os.getpid(), signal.SIGPROF)
        remaining, _ = signal.getitimer(signal.ITIMER_PROF)
        signal.setitimer(signal.ITIMER_PROF, remaining + CALLING * seconds / SLICES)

    return count


def _judge() -> Callable[[str, str], str]:
    """`formulas.judge`, each time from the same state. Its libraries are imported here, with their output silenced."""
    sys.path.append(str(Path(__file__).parents[2]))  # where this package lies, if it is not installed
    from sympy.core.cache import clear_cache
    from sympy.core.random import seed

    from unigrad.verify import formulas

    def judge(extracted: str, gold: str) -> str:
        clear_cache()
        seed(0)
        random.seed(0)
        return formulas.judge(extracted, gold)

    return judge


def _fix_addresses() -> None:
    """Start again without random addresses, where the system lets us: sets of classes are ordered by them, and the
    calls that a check makes differ by up to a per cent."""
    if sys.platform != "linux" or "fixed" in sys.argv:
        return
    libc = ctypes.CDLL(None)
    if libc.personality(libc.personality(0xFFFFFFFF) | ADDR_NO_RANDOMIZE) != -1:
        os.execv(sys.executable, [*sys.orig_argv, "fixed"])


def _send(pipe: TextIO, message: object) -> None:
    pipe.write(json.dumps(message) + "\n")
    pipe.flush()


def _limit_memory() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
