"""Ranks as processes of their own, as torchrun starts them, but forked from one that has everything imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
from processes import FORKED, exit_code


class Ranks:
    """`function(*arguments)` on each of `size` ranks, in processes that meet at a store of this one, as at torchrun's.

    What rank r prints is in `folder`/said-r. restarts: how often, as torchrun says it, they were started before.
    """

    def __init__(
        self, size: int, folder: Path, function: Callable[..., Any], *arguments: Any, restarts: int = 0
    ) -> None:
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.outputs = [folder / f"said-{rank}" for rank in range(size)]
        self.processes: list[ForkServerProcess] = []
        for rank, output in enumerate(self.outputs):
            environment = {
                "RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self._store.port, "TORCHELASTIC_USE_AGENT_STORE": True,
                "TORCHELASTIC_RESTART_COUNT": restarts,
            }  # fmt: skip
            process = FORKED.Process(target=_run, args=(environment, output, function, arguments))
            process.start()
            self.processes.append(process)

    def codes(self) -> list[int | None]:
        """Of all, once they have ended."""
        return [exit_code(process) for process in self.processes]

    def said(self) -> str:
        return "".join(output.read_text() for output in self.outputs if output.exists())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()


def command_line(arguments: Sequence[str]) -> int:
    """The command line, as a rank's function."""
    from unigrad.cli import main

    return main(arguments)


def train(
    size: int, folder: Path, arguments: Sequence[str], codes: Sequence[int] | None = None, *, restarts: int = 0
) -> str:
    """What the ranks of a run say. codes: with which they must end; None: each with 0."""
    with Ranks(size, folder, command_line, [*arguments], restarts=restarts) as ranks:
        assert ranks.codes() == list(codes or [0] * size), ranks.said()
        return ranks.said()


def _run(environment: dict[str, Any], output: Path, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.environ |= {name: str(value) for name, value in environment.items()}
    torch.set_num_threads(1)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    code = function(*arguments)
    sys.exit(code if isinstance(code, int) else 0)
