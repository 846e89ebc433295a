"""Whose folder a run may take: a fresh one, or that of the run it goes on with."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from unigrad.config import RESUMABLE_CHANGES, Config, changed_keys, load_config
from unigrad.errors import ConfigError
from unigrad.files import locked
from unigrad.hybrid import method
from unigrad.runs.checkpoints import checkpoint_folders, checkpoints, damage
from unigrad.runs.checksums import CHECKSUMS_FILE, is_sealed
from unigrad.runs.folder import CONFIG_FILE, ROLLOUTS_FOLDER, TENSORBOARD_FOLDER, final_model, is_started


@dataclass(frozen=True, slots=True)
class Claim:
    """From where a run goes on. checkpoint: None where it begins. notes: what is to be said of that, by the line."""

    step: int = 0
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


def claimed(folder: Path) -> AbstractContextManager[None]:
    """The folder is this process's alone. Raises ConfigError where another process trains there."""
    return locked(folder, f"another process trains in {folder}; wait for its end or give another --output_dir")


def fresh(config: Config, folder: Path, *, dry_run: bool = False) -> Claim:
    """Raises ConfigError where the folder cannot hold a new run; a dry run, which writes nothing, is only told so."""
    if is_started(folder):
        taken = (
            f"output_dir {folder} already holds a run; "
            f"go on with `unigrad train --resume {folder}` or give another --output_dir, such as {_next_free(folder)}"
        )
        if not dry_run:
            raise ConfigError(taken)
        return Claim(notes=(taken,))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file, not a folder")
    _check_inside(folder, f"output_dir {folder}")
    return Claim()


def _next_free(folder: Path) -> Path:
    """The first folder of this name and a number that is not there."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(each for each in numbered if not each.exists())


def resume_point(config: Config, folder: Path) -> Claim:
    """The newest whole checkpoint, and what is wrong with the newer ones; none where nothing is called a checkpoint.

    Raises ConfigError where none of several is whole, and on a change that a resumed run cannot take.
    """
    _check_inside(folder, f"--resume {folder}")
    claim = _newest_whole(folder)
    before = load_config(str((claim.checkpoint or folder) / CONFIG_FILE))
    ignoring: tuple[str, ...] = RESUMABLE_CHANGES
    if config.train.lr_scheduler_type == "constant" and not method(config.method.name).follows_progress:
        ignoring = (*ignoring, "train.max_steps", "train.max_tokens")
    changed = changed_keys(before, config, ignoring)
    if changed:
        old, new = before.flat()[changed[0]], config.flat()[changed[0]]
        raise ConfigError(
            f"--resume {folder}: {changed[0]} was {old!r} and is now {new!r}; a resumed run keeps its config"
        )
    if claim.step > config.train.max_steps:
        raise ConfigError(
            f"--resume {folder}: it stands at step {claim.step}, past train.max_steps = {config.train.max_steps}"
        )
    return claim


def _check_inside(folder: Path, what: str) -> None:
    """Raises ConfigError, on behalf of `what`, where a folder of the run cannot be made, or not be written into."""
    for part in (folder, folder / ROLLOUTS_FOLDER, folder / TENSORBOARD_FOLDER, final_model(folder)):
        if part.is_symlink() or part.exists():
            if not part.is_dir():
                raise ConfigError(f"{what}: {part} is a file, where a folder of the run is to be")
            if not os.access(part, os.W_OK | os.X_OK):
                raise ConfigError(f"{what}: no permission to write into {part}")


def _newest_whole(folder: Path) -> Claim:
    damages: list[str] = []
    for step, path in reversed(checkpoint_folders(folder)):
        reason = damage(path)
        if reason is None:
            notes = [f"{each}; going on from {path}, and it is put aside" for each in damages]
            if not is_sealed(path):
                notes.append(f"{path} has no {CHECKSUMS_FILE}, as an earlier unigrad wrote it: its files go unchecked")
            return Claim(step, path, tuple(notes))
        damages.append(reason)
    if damages:
        raise ConfigError(f"--resume {folder}: no checkpoint is whole: {damages[0]}; move it away to begin anew")
    return Claim()


def without(folder: Path, broken: Path) -> str:
    """What is left to go on with but for this checkpoint, in words."""
    left = [path for _, path in checkpoints(folder) if path != broken]
    return f"move {broken} away to go on from {left[-1]}" if left else f"move {broken} away to begin anew"


def last_good(folder: Path) -> str:
    """What can be gone on with, in words."""
    found = checkpoints(folder) if folder.is_dir() else []
    if not found:
        return "no checkpoint was complete yet"
    return f"the last good checkpoint is {found[-1][1]}; go on from there with: unigrad train --resume {folder}"
