"""What is in a run's folder, and which folders are a run's. Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from unigrad.config import Config
from unigrad.errors import ConfigError
from unigrad.files import DamagedError, Text, read_json, read_record, replace_json, replace_text
from unigrad.versions import environment

CONFIG_FILE = "config.yaml"
"""The effective configuration, in the run's folder and in each of its checkpoints."""
ENVIRONMENT_FILE = "environment.json"
"""Beside each of them: what it ran on."""
INPUTS_FILE = "inputs.json"
"""Fingerprints of the problems that the run began with."""
EXAMPLES_FILE = "examples.json"
"""Of each training set, what its columns became, and its first problem as the model gets it."""
METRICS_FILE = "metrics.jsonl"
ROLLOUTS_FOLDER = "rollouts"
TENSORBOARD_FOLDER = "tensorboard"
VERDICTS_FILE = "verdicts.jsonl"
WANDB_ID_FILE = "wandb-run-id"
_DATA = "data"
_INITIAL = "initial"
_FINAL = "final"
_FINAL_ADAPTER = "final-adapter"
_INPUTS = TypeAdapter(dict[str, str])
_ENVIRONMENT = TypeAdapter(dict[Text, Text])
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Example:
    """A training set, with its first problem as the model gets it. columns: what they became, in words.

    prompt, demonstration: decoded with their special tokens; None for want of a demonstration.
    """

    set: Text
    columns: Text
    prompt: Text
    demonstration: Text | None
    answer: Text


@dataclass(frozen=True, slots=True)
class _Examples:
    examples: tuple[Example, ...]


_EXAMPLES = TypeAdapter(_Examples)


def is_started(run: Path) -> bool:
    """Whether the folder holds a run, finished or not."""
    return (run / CONFIG_FILE).is_file()


def problems_file(run: Path, name: str) -> Path:
    """Where problems go that were handed over from Python."""
    return run / _DATA / f"{name}.jsonl"


def initial_model(run: Path) -> Path:
    """Where a model goes that was handed over from Python, as it was then."""
    return run / _INITIAL


def final_model(run: Path) -> Path:
    """Where the trained model goes."""
    return run / _FINAL


def final_adapter(run: Path) -> Path:
    """Where the trained adapter goes, beside the model that it is merged into."""
    return run / _FINAL_ADAPTER


def is_finished(run: Path) -> bool:
    return final_model(run).is_dir()


def checkpoint(run: Path, step: int) -> Path:
    """Where the checkpoint after that step goes."""
    return run / f"checkpoint-{step}"


def checkpoint_step(folder: Path) -> int | None:
    """The step of a folder that is called as a checkpoint is."""
    match = _CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else None


def is_saved_model(folder: Path) -> bool:
    """Whether a folder is called as a run calls those of its models."""
    return folder.name == _FINAL or checkpoint_step(folder) is not None


def rollouts_file(run: Path, step: int) -> Path:
    return run / ROLLOUTS_FOLDER / f"{step:06d}.jsonl"


def rollouts_files(run: Path) -> dict[int, Path]:
    """The file of each step that has one, in the order of the steps.

    Raises ConfigError where something stands there that is no folder, or none that may be read.
    """
    try:
        found = list((run / ROLLOUTS_FOLDER).iterdir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {run / ROLLOUTS_FOLDER}: {error.strerror}") from None
    files = {int(path.stem): path for path in found if path.suffix == ".jsonl" and path.stem.isdecimal()}
    return dict(sorted(files.items()))


def write_origin(folder: Path, config: Config) -> None:
    """What a run or a checkpoint comes from: its configuration, and what it runs on."""
    # Replaced whole: a run killed here must still be one that can be resumed.
    replace_text(folder / CONFIG_FILE, config.dump())
    replace_json(folder / ENVIRONMENT_FILE, environment())


def write_inputs(run: Path, fingerprints: Mapping[str, str]) -> None:
    """The fingerprint of what each of these keys names; what is there of other keys stays."""
    replace_json(run / INPUTS_FILE, {**read_inputs(run), **fingerprints})


def read_inputs(run: Path) -> dict[str, str]:
    """What `write_inputs` wrote; empty where that is gone. Raises ValueError, in one line, for anything else."""
    file = run / INPUTS_FILE
    return read_record(file, _INPUTS) if file.exists() else {}


def write_examples(run: Path, examples: Sequence[Example]) -> None:
    replace_json(run / EXAMPLES_FILE, asdict(_Examples(tuple(examples))))


def read_examples(run: Path) -> tuple[Example, ...]:
    """What `write_examples` wrote; nothing where that is gone. Raises ValueError, in one line, for anything else."""
    file = run / EXAMPLES_FILE
    return read_record(file, _EXAMPLES).examples if file.exists() else ()


def read_environment(folder: Path) -> dict[str, str]:
    """What `write_origin` said of versions and platform; empty in the folders of a unigrad that did not.

    Raises ValueError for a file that holds something else, in one line.
    """
    file = folder / ENVIRONMENT_FILE
    if not file.is_file():
        return {}
    try:
        found: dict[str, str] = read_json(file, _ENVIRONMENT)
    except DamagedError as error:
        raise ConfigError(f"{file} is damaged ({error.reason}); without it the run goes on") from None
    return found
