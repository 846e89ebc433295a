"""Checkpoints: complete or absent, whatever kills the run while it writes one. Nothing here imports torch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from unigrad.runs.folder import checkpoint_step

_STATE_FILE = "trainer_state.json"


class NoSpace(OSError):
    """The disk is full; what was there before still stands."""


def write_atomically(target: Path, write: Callable[[Path], None], expected_bytes: int) -> None:
    """Let `write` fill a temporary folder beside `target`, sync it to the disk, then rename it to `target`.

    A kill at any moment leaves `target` as it was. Raises NoSpace if less than `expected_bytes` are free, or the disk
    fills up meanwhile.
    """
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    free = shutil.disk_usage(target.parent).free
    if free < expected_bytes:
        raise NoSpace(
            f"no space left for {target}: it needs {expected_bytes / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
        )
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        _sync(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        _sync(target.parent)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_disk_full(error):
            raise NoSpace(f"no space left while saving {target}: {error}") from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether this is a write that found no room."""
    # safetensors and torch wrap the operating system's error in their own; ENOSPC, EDQUOT and EFBIG are all "full".
    if isinstance(error, NoSpace) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    ):
        return True
    return any(sign in str(error) for sign in ("os error 28", "os error 122", "os error 27", "No space left")) or (
        isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error)
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is: steps done, tokens generated and trained so far, and the stage of the last step."""

    step: int = 0
    tokens: int = 0
    stage: int = 0

    def write(self, checkpoint: Path) -> None:
        """Without it a checkpoint is not complete."""
        (checkpoint / _STATE_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> Self:
        return cls(**json.loads((checkpoint / _STATE_FILE).read_text(encoding="utf-8")))


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The run's complete checkpoints by step, oldest first."""
    found = [(step, path) for path in run.iterdir() if (step := checkpoint_step(path)) is not None]
    return sorted((step, path) for step, path in found if (path / _STATE_FILE).is_file())


def prune(run: Path, keep: int | None, best: int | None = None) -> None:
    """Delete all but the newest `keep` checkpoints and that of the step `best`, and what an interrupted save left."""
    for partial in run.glob(".*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    if keep is None:
        return
    for step, path in checkpoints(run)[:-keep]:
        if step == best:
            continue
        # Renamed first: a kill within the deletion must not leave half a checkpoint under a checkpoint's name.
        doomed = path.with_name(f".{path.name}.partial")
        with contextlib.suppress(OSError):
            path.rename(doomed)
            shutil.rmtree(doomed)
