"""Commands of unigrad in processes that something happens to: a kill at a moment or at a write, a disk that is full.

`Faulty` starts a server that has everything imported, and forks from it one process a command: an attempt costs no
start. It preloads `faulty_writes.c`, so that what happens comes from below the program, which knows nothing of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

KINDS = {"count": 0, "kill": 1, "half": 2, "full": 3}
"""half: killed with half of the bytes written, at a write of bytes. full: no room from this write on."""
TRAIN = (
    "--tiny.train_problems", "12", "--tiny.eval_problems", "4", "--rollout.max_completion_length", "12",
    "--rollout.num_generations", "2", "--train.max_steps", "2", "--train.questions_per_step", "2",
    "--train.save_steps", "1", "--train.save_total_limit", "1", "--train.eval_steps", "1",
    "--train.tensorboard", "false",
)  # fmt: skip
"""A run of two steps in a second or two, with every kind of write that a run makes."""


def has_compiler() -> bool:
    return sys.platform == "linux" and shutil.which("cc") is not None


@dataclass(frozen=True)
class Ended:
    """code: as `Popen.returncode` says it. writes: how many were made; None of a process that was killed."""

    code: int
    writes: int | None
    output: str
    seconds: float


class Faulty:
    """The server. A context; `scratch` is a folder for what it builds and for what the commands say."""

    def __init__(self, scratch: Path) -> None:
        library = scratch / "faulty_writes.so"
        source = Path(__file__).with_name("faulty_writes.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._said = scratch / "said.txt"
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self._said)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
        )

    def run(self, folder: Path, *arguments: str, at: int = 0, kind: str = "count", after: float | None = None) -> Ended:
        """`unigrad ARGUMENTS` in `folder`; at its write `at` (from 1), or `after` so many seconds, it happens."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        request = {"folder": str(folder), "arguments": arguments, "at": at, "kind": KINDS[kind], "after": after}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        reply: dict[str, Any] = json.loads(self._server.stdout.readline())
        return Ended(output=self._said.read_text(encoding="utf-8", errors="replace"), **reply)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate()


def go_on(faulty: Faulty, folder: Path) -> Ended:
    """The run of `TRAIN` in folder/run once more: resumed, where enough of it is there for that."""
    started = (folder / "run" / "config.yaml").is_file()
    return faulty.run(folder, *(("train", "--resume", "run") if started else train("run")))


def train(run: str) -> tuple[str, ...]:
    return ("train", "tiny-hpt", "--output_dir", run, *TRAIN)


def contents(folder: Path) -> dict[str, Any]:
    """Every file of a run, an evaluation or a comparison by its name, bit for bit, but for what no repetition has: the
    seconds, the order in which checks ended, and a log."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path: Path) -> Any:
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        kept = [json.dumps({k: v for k, v in line.items() if not k.startswith("time/")}) for line in lines]
        return kept if path.name == "metrics.jsonl" or path.parent.name == "rollouts" else sorted(kept)
    if path.name == "comparison.json":
        return re.sub(r'"minutes": [^,\s]+', "", path.read_text(encoding="utf-8"))
    return None if path.suffix in (".log", ".png") else path.read_bytes()


def _serve(said: Path) -> None:
    # What the commands import as they run: torch and all that stands on it.
    for name in ("train.run", "evaluate.evaluation", "compare.comparison"):
        import_module(f"unigrad.{name}")
    from unigrad.cli import main

    shim = ctypes.CDLL(None)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.monotonic()
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            _attempt(request, said, shim, main, write)
        os.close(write)
        status = _wait(pid, request["after"])
        with os.fdopen(read) as counted:
            writes = counted.read()
        reply = {"code": os.waitstatus_to_exitcode(status), "writes": int(writes) if writes else None}
        print(json.dumps({**reply, "seconds": time.monotonic() - start}), flush=True)


def _attempt(request: dict[str, Any], said: Path, shim: Any, main: Any, write: int) -> None:
    code = 70
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.chdir(request["folder"])
        shim.fault_arm(ctypes.c_long(request["at"]), request["kind"])
        code = _code(main, request["arguments"])
        writes = shim.fault_count()
        shim.fault_arm(ctypes.c_long(0), 0)
        os.write(write, str(writes).encode())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _code(main: Any, arguments: Sequence[str]) -> int:
    import traceback

    try:
        code: int = main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a user would see: a traceback, and 1
        traceback.print_exc()
        return 1
    return code


def _wait(pid: int, after: float | None) -> int:
    end = None if after is None else time.monotonic() + after
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if end is not None and time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            end = None
        time.sleep(0.002)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
