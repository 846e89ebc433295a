"""The problem sets that a configuration names, read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unigrad.config import Config, SourceConfig
from unigrad.data import load_problems, of_levels
from unigrad.data.tiny import tiny_problems
from unigrad.evaluate.suites import TINY
from unigrad.types import Problem


def training_problems(source: SourceConfig, config: Config) -> list[Problem]:
    """Of one of the sets of `data.train`. Raises ValueError or OSError on a set that cannot be read."""
    data, tiny = config.data, config.tiny
    chooses = data.levels is not None or data.problems_per_level is not None
    if source.path == TINY:
        problems = tiny_problems("train", tiny.train_problems, tiny.seed, tiny.expert_error_rate)
    else:
        problems = load_problems(
            source.path,
            split=source.split or data.train_split,
            subset=source.subset or data.subset,
            columns=_columns(config) | source.columns.model_dump(exclude_none=True),
            limit=None if chooses else data.max_train_problems,
        )
    problems = of_levels(problems, data.levels, data.problems_per_level, data.level_seed, source.path)
    problems = problems[: data.max_train_problems]
    if len(data.train_sets) == 1:
        return problems
    name = label(source, config)  # the ids of two sets may be the same numbers
    return [replace(problem, id=f"{name}:{problem.id}") for problem in problems]


def held_out_problems(config: Config) -> list[Problem]:
    """Of `data.eval`; none where it is null. Raises ValueError or OSError on a set that cannot be read."""
    data, tiny = config.data, config.tiny
    if data.eval is None:
        return []
    if data.eval == TINY:
        problems = tiny_problems("eval", tiny.eval_problems, tiny.seed, tiny.expert_error_rate)
        return problems[: data.max_eval_problems]
    return load_problems(
        data.eval, split=data.eval_split, subset=data.subset, columns=_columns(config), limit=data.max_eval_problems
    )


def label(source: SourceConfig, config: Config) -> str:
    """A training set's name on the console and in its problems' ids: short where that tells the sets apart."""
    paths = [each.path for each in config.data.train_sets]
    if len(paths) == 1:
        return "train"
    names = [suite(path) for path in paths]
    return suite(source.path) if names.count(suite(source.path)) == 1 else source.path


def suite(source: str | None) -> str:
    """A suite's name in the metrics: the file's name without its endings, or the hub dataset's."""
    return Path(source).name.split(".")[0] if source else "none"


def _columns(config: Config) -> dict[str, str]:
    columns: dict[str, str] = config.data.columns.model_dump(exclude_none=True)
    return columns
