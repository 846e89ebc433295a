"""Whose folder a run may take: a fresh one, or that of the run it goes on with."""

from __future__ import annotations

from pathlib import Path

from unigrad.config import RESUMABLE_CHANGES, Config, changed_keys, load_config
from unigrad.errors import ConfigError
from unigrad.hybrid import method
from unigrad.runs.checkpoints import checkpoints
from unigrad.runs.folder import CONFIG_FILE, is_started


def fresh(config: Config, folder: Path) -> tuple[int, None]:
    """Raises ConfigError where the folder cannot hold a new run."""
    if is_started(folder):
        raise ConfigError(
            f"output_dir {folder} already holds a run; "
            f"go on with `unigrad train --resume {folder}` or give another --output_dir"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir {folder} is a file, not a folder")
    return 0, None


def resume_point(config: Config, folder: Path) -> tuple[int, Path | None]:
    """The last saved step and its checkpoint, the newest complete one; (0, None) where there is none.

    Raises ConfigError on a change that a resumed run cannot take.
    """
    found = checkpoints(folder)
    saved = found[-1][1] / CONFIG_FILE if found else folder / CONFIG_FILE
    before = load_config(str(saved))
    ignoring: tuple[str, ...] = RESUMABLE_CHANGES
    if config.train.lr_scheduler_type == "constant" and not method(config.method.name).follows_progress:
        ignoring = (*ignoring, "train.max_steps", "train.max_tokens")
    changed = changed_keys(before, config, ignoring)
    if changed:
        old, new = before.flat()[changed[0]], config.flat()[changed[0]]
        raise ConfigError(
            f"--resume {folder}: {changed[0]} was {old!r} and is now {new!r}; a resumed run keeps its config"
        )
    if not found:
        return 0, None
    step, path = found[-1]
    if step > config.train.max_steps:
        raise ConfigError(
            f"--resume {folder}: it stands at step {step}, past train.max_steps = {config.train.max_steps}"
        )
    return step, path


def last_good(folder: Path) -> str:
    """What can be gone on with, in words."""
    found = checkpoints(folder)
    if not found:
        return "no checkpoint was complete yet"
    return f"the last good checkpoint is {found[-1][1]}; go on from there with: unigrad train --resume {folder}"
