"""The problem sets that a configuration names, read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from unigrad.config import Config, DataConfig, HeldOutConfig, SourceConfig, set_name
from unigrad.data import load_problems, of_levels, of_pass_rates
from unigrad.data.tiny import tiny_problems
from unigrad.errors import ConfigError
from unigrad.evaluate.suites import TINY
from unigrad.runs.folder import INPUTS_FILE, read_inputs
from unigrad.types import Problem


def training_problems(
    source: SourceConfig, config: Config, say: Callable[[str], None] = lambda line: None
) -> list[Problem]:
    """Of one of the sets of `data.train`; told to `say` how many their pass rates leave. Raises ValueError or OSError
    on a set that cannot be read."""
    data, tiny = config.data, config.tiny
    rated = data.min_pass_rate is not None or data.max_pass_rate is not None
    chooses = rated or data.levels is not None or data.problems_per_level is not None
    if source.path == TINY:
        problems = tiny_problems("train", tiny.train_problems, tiny.seed, tiny.expert_error_rate)
    else:
        problems = load_problems(
            source.path,
            split=source.split or data.train_split,
            subset=source.subset or data.subset,
            columns=_columns(config) | source.columns.model_dump(exclude_none=True),
            limit=None if chooses else data.max_train_problems,
            needs_answers=config.verify.needs_answers,
        )
    if rated:
        every = len(problems)
        problems = of_pass_rates(
            problems, data.min_pass_rate, data.max_pass_rate, data.pass_rate_column, where=source.path
        )
        say(f"{label(source, config)}: {len(problems)} of {every} problems {_rated(data)}")
    problems = of_levels(problems, data.levels, data.problems_per_level, data.level_seed, source.path)
    problems = problems[: data.max_train_problems]
    if len(data.train_sets) == 1:
        return problems
    name = label(source, config)  # the ids of two sets may be the same numbers
    return [replace(problem, id=f"{name}:{problem.id}") for problem in problems]


def held_out_problems(source: HeldOutConfig, config: Config) -> list[Problem]:
    """Of one of the sets of `data.eval`. Raises ValueError or OSError on a set that cannot be read."""
    data, tiny = config.data, config.tiny
    if source.path == TINY:
        problems = tiny_problems("eval", tiny.eval_problems, tiny.seed, tiny.expert_error_rate)
        return problems[: data.max_eval_problems]
    return load_problems(
        source.path,
        split=source.split or data.eval_split,
        subset=source.subset or data.subset,
        columns=_columns(config) | source.columns.model_dump(exclude_none=True),
        limit=data.max_eval_problems,
        needs_answers=config.verify.needs_answers,
    )


def held_out_notes(
    config: Config, training: Iterable[Problem], held_out: Mapping[str, Sequence[Problem]]
) -> Iterator[str]:
    """What is to be said of the held-out sets before anything is measured on them."""
    if not config.data.held_out_sets:
        yield "held-out: none (data.eval is null), so no accuracy is measured"
    elif not config.train.eval_steps:
        yield "held-out: not measured (train.eval_steps is 0)"
    trained = {_bare(problem) for problem in training}
    for name, problems in held_out.items():
        if met := sum(_bare(problem) in trained for problem in problems):
            yield (
                f"WARNING: data.eval: {met} of the {len(problems)} problems of {name} ({met / len(problems):.0%}) are "
                "in data.train too, so the accuracy on them is what was memorised"
            )


def _rated(data: DataConfig) -> str:
    least, most = data.min_pass_rate, data.max_pass_rate
    parts = [] if least is None else [f"at least {least:g}"]
    return f"have a pass rate of {' and '.join(parts if most is None else [*parts, f'at most {most:g}'])}"


def _bare(problem: Problem) -> str:
    """Its text, however it is spaced."""
    return " ".join(problem.problem.split())


def fingerprint(problems: Iterable[Problem]) -> str:
    """A digest of everything that was read of these problems, and of their order."""
    digest = hashlib.sha256()
    for problem in problems:
        values = [getattr(problem, field.name) for field in fields(problem) if field.name not in _APART]
        # Where there is none, the digest is that of a version that read none: its runs go on.
        values += problem.context
        digest.update(json.dumps(values, default=_plain).encode())
    return digest.hexdigest()[:16]


_APART = ("messages", "read_from")
"""Fields that say nothing more than the others, but for the context."""


def check_inputs(run: Path, fingerprints: Mapping[str, str], paths: Mapping[str, str], held: str = "problems") -> None:
    """Raises ConfigError where what a key's path holds is not what the run began with."""
    began_with = read_inputs(run)
    for key, now in fingerprints.items():
        if began_with.get(key, now) != now:
            raise ConfigError(
                f"--resume {run}: {key} = {paths[key]} no longer holds the {held} that the run began with "
                f"(fingerprint {began_with[key]}, now {now}); bring them back, or delete {run / INPUTS_FILE} to go on "
                "with these"
            )


def _plain(value: Any) -> Any:
    """What JSON has not: of columns that only a user's reward function reads."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else type(value).__name__


def label(source: SourceConfig, config: Config) -> str:
    """A training set's name on the console and in its problems' ids: short where that tells the sets apart."""
    paths = [each.path for each in config.data.train_sets]
    if len(paths) == 1:
        return "train"
    names = [set_name(path) for path in paths]
    return set_name(source.path) if names.count(set_name(source.path)) == 1 else source.path


def _columns(config: Config) -> dict[str, str]:
    columns: dict[str, str] = config.data.columns.model_dump(exclude_none=True)
    return columns
