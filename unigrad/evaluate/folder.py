"""The folder of an evaluation: settings.json, completions/<benchmark>.jsonl, results.json."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from unigrad import files
from unigrad.errors import ConfigError
from unigrad.evaluate.schemas import SETTINGS
from unigrad.files import check_folder, read_json

SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"
COMPLETIONS_FOLDER = "completions"


def completions_file(folder: Path, benchmark: str) -> Path:
    return folder / COMPLETIONS_FOLDER / f"{benchmark}.jsonl"


def has_completions(folder: Path) -> bool:
    """Until the first completion is there, an evaluation may still be changed."""
    return any(path.stat().st_size for path in (folder / COMPLETIONS_FOLDER).glob("*.jsonl"))


def read_settings(folder: Path) -> dict[str, Any] | None:
    """None where the folder holds no evaluation yet.

    Raises ConfigError where it holds something else.
    """
    check_folder(folder, f"--out {folder}")
    completions = folder / COMPLETIONS_FOLDER
    if completions.exists() and not completions.is_dir():
        raise ConfigError(f"--out {folder}: {completions} is a file, where the folder of the completions is to be")
    if (folder / SETTINGS_FILE).exists():
        settings: dict[str, Any] = read_json(folder / SETTINGS_FILE, SETTINGS)
        return settings
    if folder.is_dir() and any(entry.suffix != ".partial" for entry in folder.iterdir()):
        raise ConfigError(f"--out {folder} holds something that is no evaluation; give another folder")
    return None


def is_finished(folder: Path) -> bool:
    return (folder / RESULTS_FILE).exists()


def read_results(folder: Path, schema: TypeAdapter[Any]) -> dict[str, Any]:
    """Raises ConfigError where the folder holds no finished evaluation, or one with less than the schema says."""
    if not is_finished(folder):
        raise ConfigError(f"{folder} holds no finished evaluation (it has no {RESULTS_FILE})")
    results: dict[str, Any] = read_json(folder / RESULTS_FILE, schema)
    return results


def locked(folder: Path) -> AbstractContextManager[None]:
    """Raises ConfigError where another process evaluates into this folder."""
    return files.locked(folder, f"another process evaluates into {folder}; wait for its end or give --out")
