"""A benchmark's problems: from a local copy, the hub, or the embedded generator."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unigrad.data import load_problems
from unigrad.data.rows import read_rows
from unigrad.data.tiny import tiny_problems
from unigrad.errors import ConfigError, one_line
from unigrad.evaluate.suites import TINY, Benchmark
from unigrad.types import Problem

LOCAL_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
TINY_PROBLEMS, TINY_SEED = 200, 0
"""Those on which `unigrad train` evaluates by default."""


@dataclass(frozen=True, slots=True)
class BenchmarkProblems:
    """source: where they came from, for people."""

    problems: tuple[Problem, ...]
    source: str

    @property
    def problems_digest(self) -> str:
        """Of what a completion depends on."""
        return _digest([(problem.id, problem.problem, *problem.context) for problem in self.problems])

    @property
    def answers_digest(self) -> str:
        """Of what a verdict and the table depend on besides."""
        return _digest([(problem.answer, problem.kind, problem.level) for problem in self.problems])


def load_benchmark(benchmark: Benchmark, data: Path | None, limit: int | None) -> BenchmarkProblems:
    """The first `limit` problems (all, if None) of a benchmark.

    data: a folder of local copies, `<name>.jsonl`, `.jsonl.gz` or `.parquet`, which go before the hub; or the file.

    Raises ConfigError where the problems are nowhere, or cannot be read.
    """
    if benchmark.name == TINY and benchmark.path is None:
        return BenchmarkProblems(tuple(tiny_problems("eval", TINY_PROBLEMS, TINY_SEED)[:limit]), "embedded")
    path = benchmark.path or (data and _local_copy(benchmark.name, data))
    try:
        if path:
            problems, source = load_problems(str(path), limit=limit), str(path)
        else:
            problems, source = _hub_problems(benchmark, str(benchmark.hub), limit), f"hub: {benchmark.hub}"
    except (ValueError, OSError) as error:
        if path:
            raise ConfigError(one_line(error)) from error
        raise ConfigError(f"{benchmark.name}: {one_line(error)}; {_give_a_copy(benchmark.name, data)}") from error
    if benchmark.kind is not None:
        problems = [replace(problem, kind=benchmark.kind) for problem in problems]
    return BenchmarkProblems(tuple(problems), source)


def _local_copy(name: str, data: Path) -> Path | None:
    if data.is_dir():
        return next((path for suffix in LOCAL_SUFFIXES if (path := data / f"{name}{suffix}").is_file()), None)
    if data.is_file():
        return data
    raise ConfigError(f"--data {data}: there is no such folder or file")


def _give_a_copy(name: str, data: Path | None) -> str:
    if data is None:
        return f"name the folder of a local copy, {name}.jsonl, with --data"
    return f"give a local copy: {data / name}.jsonl, .jsonl.gz or .parquet"


def _hub_problems(benchmark: Benchmark, hub: str, limit: int | None) -> list[Problem]:
    if benchmark.from_row is None:
        return load_problems(
            hub, split=benchmark.split, subset=benchmark.subset, columns=benchmark.columns, limit=limit
        )
    problems = []
    for row in read_rows(hub, split=benchmark.split, subset=benchmark.subset, limit=limit):
        try:
            problem, answer = benchmark.from_row(row.columns)
            name = str(row.columns[str(benchmark.columns["id"])])
            problems.append(Problem(id=name, problem=problem, answer=answer))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{row.where}: not a row of {benchmark.title}: {error}") from error
    return problems


def _digest(rows: Sequence[tuple[object, ...]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
