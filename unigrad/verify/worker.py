"""The program a verification worker runs: one JSON line in, a question; one JSON line out, its verdict.

It is started as a script (see `pool`) and imports nothing of this package, so that a worker never loads torch.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

MEMORY_BYTES = 1 << 30
"""How much a worker's address space may grow once it is ready: a huge power must not take the machine's memory."""

# Read before any time is limited, because the first formulas of a process cost it half a second.
WARM_UP = (r"x^{2}+\frac{4x}{\sqrt{4}}+1", "(x+1)^{2}")


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # parsers print their complaints
    logging.disable()

    judge = _judge()
    judge(*WARM_UP)
    os.dup2(nowhere, 2)  # until here, an error of the installation is worth showing
    _limit_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _send(replies, "ready")
    for line in sys.stdin:
        extracted, gold, seconds = json.loads(line)
        # The kernel ends the process when this much processor time is spent, whatever it is doing, parent or no parent.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        reason = judge(extracted, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(replies, reason)


def _judge() -> Callable[[str, str], str]:
    """`formulas.judge`. Its libraries are imported here, after their output is silenced."""
    sys.path.append(str(Path(__file__).parents[2]))  # where this package lies, if it is not installed
    from unigrad.verify.formulas import judge

    return judge


def _send(replies: TextIO, message: str) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _limit_memory() -> None:
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
