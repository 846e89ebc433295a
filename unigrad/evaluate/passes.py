"""The problems of an evaluation with their pass rates, as a file that a run chooses its problems from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from unigrad.data.given import write_rows
from unigrad.data.pass_rates import with_pass_rates
from unigrad.errors import ConfigError
from unigrad.evaluate.benchmark_problems import BenchmarkProblems
from unigrad.evaluate.folder import read_results
from unigrad.evaluate.schemas import COUNTED
from unigrad.types import Problem

SUFFIX = ".jsonl"


def check_passes(file: Path, loaded: Mapping[str, BenchmarkProblems]) -> None:
    """Raises ConfigError where `file` is not for JSON lines, or is what the problems were read from."""
    if file.suffix != SUFFIX:
        raise ConfigError(f"--passes {file} is a file of JSON lines; call it {file.stem}{SUFFIX}")
    for each in loaded.values():
        if file.exists() and Path(each.source).exists() and file.samefile(each.source):
            raise ConfigError(f"--passes {file} holds the problems themselves; give another name")


def write_passes(file: Path, out: Path, loaded: Mapping[str, BenchmarkProblems]) -> None:
    """Of a finished evaluation in `out`, of these benchmarks by their names. Raises OSError where the disk does."""
    found = read_results(out, COUNTED)["benchmarks"]
    rows: list[Problem] = []
    for name, each in loaded.items():
        rated = with_pass_rates(each.problems, found[name]["counts"])
        # The ids of two sets may be the same numbers.
        rows += rated if len(loaded) == 1 else [replace(problem, id=f"{name}:{problem.id}") for problem in rated]
    write_rows(rows, file, "passes")
