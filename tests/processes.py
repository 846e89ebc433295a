"""Commands in processes of their own, forked from one that has everything imported: a start costs nothing."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["unigrad.train.run"])


def start(arguments: Sequence[str], output: Path, largest_file: int = resource.RLIM_INFINITY) -> ForkServerProcess:
    """`unigrad ARGUMENTS`, on its way; what it prints goes to the file, or the FIFO, `output`.

    largest_file: in bytes; a file that may not grow stands in for a disk that is full.
    """
    process = FORKED.Process(target=_run, args=(list(arguments), output, largest_file))
    process.start()
    return process


def wait_for(file: Path, lines: int, process: ForkServerProcess) -> None:
    """Until the file has so many lines. Raises AssertionError where the process ends before."""
    while not file.exists() or file.read_bytes().count(b"\n") < lines:
        assert process.is_alive()
        time.sleep(0.01)


def send(number: int, process: ForkServerProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def exit_code(process: ForkServerProcess) -> int | None:
    """Once it has ended; −N where signal N killed it."""
    process.join(120)
    return process.exitcode


def _run(arguments: list[str], output: Path, largest_file: int) -> None:
    from unigrad.cli import main

    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.exit(main(arguments))
