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
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from unigrad.errors import one_line
from unigrad.files import read_record
from unigrad.runs.checksums import check_seal, is_sealed
from unigrad.runs.folder import checkpoint_step

_STATE_FILE = "trainer_state.json"
_DAMAGED = ".damaged"


class NoSpace(OSError):
    """The disk is full; what was there before still stands."""


def write_atomically(target: Path, write: Callable[[Path], None], expected_bytes: int) -> None:
    """Let `write` fill a temporary folder beside `target`, sync it to the disk, then rename it to `target`.

    A kill at any moment leaves `target` whole, old or new, or, between the two, absent. Raises NoSpace if less than
    `expected_bytes` are free, or the disk fills up meanwhile, and OSError where `target` is no folder.
    """
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file, where a folder is to be saved")
    temporary = partial(target)
    _remove(temporary)
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
        # Moved away first: a kill within the deletion must not leave half of it under its name.
        replaced = target.with_name(f".{target.name}.replaced.partial")
        _remove(replaced)
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
        _sync(target.parent)
        _remove(replaced)
    except Exception as error:
        _remove(temporary)
        if is_disk_full(error):
            raise NoSpace(f"no space left while saving {target}: {error}") from error
        raise


def partial(target: Path) -> Path:
    """Where `write_atomically` gathers what is to be at `target`."""
    return target.with_name(f".{target.name}.partial")


def _remove(path: Path) -> None:
    """A folder of ours, or whatever else bears its name; what a link leads to stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


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
        """Raises ValueError, one line naming the file, where it holds no position."""
        return cls(**read_record(checkpoint / _STATE_FILE, _STATE).model_dump())


class _State(BaseModel):
    """A position in its file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    step: Annotated[int, Field(ge=0, lt=2**63)]
    tokens: Annotated[int, Field(ge=0, lt=2**63)]
    stage: Annotated[int, Field(ge=0, lt=2**63)]


_STATE = TypeAdapter(_State)


def damage(checkpoint: Path) -> str | None:
    """What keeps a run from going on with this checkpoint, file and reason in one line; None where nothing does.

    Reads every byte of it, but for one of an earlier unigrad, which has no checksums.
    """
    try:
        if (step := Position.read(checkpoint).step) != checkpoint_step(checkpoint):
            return f"{checkpoint / _STATE_FILE} is of step {step}, not of the step that its folder is named for"
        if is_sealed(checkpoint):
            check_seal(checkpoint)
    except (ValueError, OSError) as error:
        return one_line(error)
    return None


def set_aside(run: Path, after: int) -> None:
    """Rename the checkpoints of the steps after `after`, which are damaged, so that none stands in a new one's way."""
    for step, path in checkpoint_folders(run):
        if step > after:
            aside = path.with_name(path.name + _DAMAGED)
            _remove(aside)
            path.rename(aside)


def checkpoint_folders(run: Path) -> list[tuple[int, Path]]:
    """All that bear a checkpoint's name, by step, oldest first."""
    return sorted((step, path) for path in run.iterdir() if (step := checkpoint_step(path)) is not None)


def checkpoints(run: Path) -> list[tuple[int, Path]]:
    """The run's complete checkpoints by step, oldest first; whether their files are whole, `damage` says."""
    return [(step, path) for step, path in checkpoint_folders(run) if (path / _STATE_FILE).is_file()]


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
