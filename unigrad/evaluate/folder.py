"""The folder of an evaluation: settings.json, problems/ and completions/, a file a benchmark, and results.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from unigrad import files
from unigrad.errors import ConfigError
from unigrad.evaluate.schemas import SETTINGS
from unigrad.files import Text, Whole, check_folder, checked, json_lines, read_json, replacing
from unigrad.types import Problem

SETTINGS_FILE = "settings.json"
RESULTS_FILE = "results.json"
COMPLETIONS_FOLDER = "completions"
PROBLEMS_FOLDER = "problems"


@dataclass(frozen=True, slots=True)
class Asked:
    """A problem that an evaluation asked, for those who read its completions: a line."""

    id: Text
    problem: Text
    answer: Text
    level: Whole | None


_ASKED = TypeAdapter(Asked)


def completions_file(folder: Path, benchmark: str) -> Path:
    return folder / COMPLETIONS_FOLDER / f"{benchmark}.jsonl"


def completions_files(folder: Path) -> dict[str, Path]:
    """By benchmark, those that are there."""
    return {path.stem: path for path in sorted((folder / COMPLETIONS_FOLDER).glob("*.jsonl"))}


def write_problems(folder: Path, benchmark: str, problems: Iterable[Problem]) -> None:
    """Replaced whole: gold answers may have changed since."""
    (folder / PROBLEMS_FOLDER).mkdir(exist_ok=True)
    with replacing(folder / PROBLEMS_FOLDER / f"{benchmark}.jsonl") as file:
        for each in problems:
            asked = Asked(each.id, each.problem, each.answer, each.level)
            file.write(json.dumps(asdict(asked), ensure_ascii=True) + "\n")


def read_problems(folder: Path, benchmark: str) -> dict[str, Asked]:
    """By id; empty in the folder of an evaluation from before they were written."""
    path = folder / PROBLEMS_FOLDER / f"{benchmark}.jsonl"
    if not path.exists():
        return {}
    lines = enumerate(json_lines(path), start=1)
    found = [checked(data, _ASKED, f"{path}, line {number}", what="a problem") for number, data in lines]
    return {each.id: each for each in found}


def has_completions(folder: Path) -> bool:
    """Until the first completion is there, an evaluation may still be changed."""
    return any(path.stat().st_size for path in completions_files(folder).values())


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
