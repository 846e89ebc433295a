"""The folders of `unigrad evaluate` to report on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unigrad.evaluate.folder import is_finished, read_results
from unigrad.evaluate.results import table_columns
from unigrad.evaluate.schemas import REPORTED


@dataclass(frozen=True, slots=True)
class Column:
    """A benchmark's accuracy, or a suite's average, with its interval; shares of 1."""

    key: str
    title: str
    accuracy: float
    interval: tuple[float, float]

    @property
    def cell(self) -> str:
        low, high = self.interval
        return f"{100 * self.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation, as its results.json holds it."""

    label: str
    folder: Path
    results: Mapping[str, Any]

    @property
    def benchmarks(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.results["benchmarks"]
        return found

    def columns(self) -> Iterator[Column]:
        """In the paper's layout."""
        for key, title, part in table_columns(self.results):
            low, high = part["interval"]
            yield Column(key, title, part["accuracy"], (low, high))

    def pass_at_k(self, benchmark: str) -> dict[int, tuple[float, float, float]]:
        """By k: the value and its interval; empty where there was one sample, or the benchmark is not in it."""
        curve = self.benchmarks.get(benchmark, {}).get("pass_at_k", {})
        return {int(k): (point["value"], *point["interval"]) for k, point in curve.items()}


def find_evaluations(paths: Sequence[Path]) -> list[Evaluation]:
    """Those of the folders that hold a finished evaluation. Raises ConfigError where one cannot be read."""
    folders = {path.resolve(): path for path in paths if is_finished(path)}.values()
    found = [(folder, read_results(folder, REPORTED)) for folder in folders]
    labels = [str(results["label"]) for _, results in found]
    return [
        Evaluation(label if labels.count(label) == 1 else f"{label} ({folder.name})", folder, results)
        for label, (folder, results) in zip(labels, found, strict=True)
    ]
