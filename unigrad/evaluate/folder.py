"""The folder of an evaluation: settings.json, completions/<benchmark>.jsonl, results.json."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unigrad.errors import ConfigError
from unigrad.files import lock

SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"


def completions_file(folder: Path, benchmark: str) -> Path:
    return folder / "completions" / f"{benchmark}.jsonl"


def has_completions(folder: Path) -> bool:
    """Until the first completion is there, an evaluation may still be changed."""
    return any(path.stat().st_size for path in (folder / "completions").glob("*.jsonl"))


def read_settings(folder: Path) -> dict[str, Any] | None:
    """None where the folder holds no evaluation yet.

    Raises ConfigError where it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file, not a folder")
    if (folder / SETTINGS_FILE).is_file():
        return _read(folder / SETTINGS_FILE)
    if folder.is_dir() and any(entry.suffix != ".partial" for entry in folder.iterdir()):
        raise ConfigError(f"--out {folder} holds something that is no evaluation; give another folder")
    return None


def is_finished(folder: Path) -> bool:
    return (folder / RESULTS_FILE).is_file()


def read_results(folder: Path) -> dict[str, Any]:
    """Raises ConfigError where the folder holds no finished evaluation."""
    if not is_finished(folder):
        raise ConfigError(f"{folder} holds no finished evaluation (it has no {RESULTS_FILE})")
    return _read(folder / RESULTS_FILE)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Raises ConfigError where another process evaluates into this folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            lock(handle)
        except BlockingIOError:
            raise ConfigError(f"another process evaluates into {folder}; wait for its end or give --out") from None
        yield
    finally:
        os.close(handle)


def _read(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    return data
