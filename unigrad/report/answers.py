"""The completions of an evaluation that go into the page: all of them, or as many as fit, spread over problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from unigrad.evaluate.completions import Sample as Completion
from unigrad.evaluate.completions import parsed, read
from unigrad.evaluate.folder import Asked, completions_files, read_problems
from unigrad.report.evaluations import Evaluation
from unigrad.report.sample import Sample, Step, packed, varied

MOST = 32
"""Completions of a problem that the page has at most; there may be thousands."""
SMALLER = 0.85


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a completion stands in its file, in bytes."""

    index: int
    start: int
    end: int
    correct: bool


@dataclass(frozen=True)
class _Benchmark:
    """One benchmark's completions, by problem and in the order of their indices, of which only the places are held."""

    number: int
    title: str
    path: Path
    asked: Mapping[str, Asked]
    places: Mapping[str, Sequence[_Place]]

    def pack(self, share: float) -> Step:
        """About that share of its completions, of their bytes: as many problems as it gives with some completions
        each, evenly from the unsolved to the solved."""
        most = max(map(len, self.places.values()))
        each = max(1, min(MOST, ceil(most * sqrt(share))))
        problems = min(len(self.places), max(1, round(share * len(self.places) * most / each)))
        with self.path.open("rb") as file:
            questions = []
            for name in varied(list(self.places), problems, self._solved):
                lines = []
                for place in varied(self.places[name], each, lambda place: place.correct):
                    file.seek(place.start)
                    lines.append(parsed(file.read(place.end - place.start), f"{self.path}, byte {place.start}"))
                questions.append(self._question(name, lines))
        return Step(self.number, packed(self.number, questions), len(questions), len(self.places), self.title)

    def _solved(self, name: str) -> int:
        return sum(place.correct for place in self.places[name])

    def _question(self, name: str, lines: Sequence[Completion]) -> dict[str, Any]:
        asked, places = self.asked.get(name), self.places[name]
        return {
            "id": name,
            "level": asked.level if asked else None,
            "problem": asked.problem if asked else None,
            "prompt": asked.problem if asked else "",
            "answer": asked.answer if asked else None,
            "gate": None,
            "rollouts": len(places),
            "solved": self._solved(name),
            "lines": [_line(each) for each in lines],
        }


def answers(evaluation: Evaluation, budget: int) -> Sample:
    """The completions of an evaluation, a step for each of its benchmarks, in at most `budget` bytes of page.

    Raises ConfigError on a file that is damaged.
    """
    benchmarks = [
        _benchmark(number, evaluation, name, path)
        for number, (name, path) in enumerate(completions_files(evaluation.folder).items(), start=1)
        if name in evaluation.benchmarks
    ]
    benchmarks = [each for each in benchmarks if each.places]
    steps = []
    for left, each in zip(range(len(benchmarks), 0, -1), benchmarks, strict=True):
        if (step := _fitting(each, budget // left)) is not None:
            budget -= len(step.payload)
            steps.append(step)
    return Sample(steps, len(benchmarks), is_evaluation=True)


def _benchmark(number: int, evaluation: Evaluation, name: str, path: Path) -> _Benchmark:
    places: dict[str, list[_Place]] = {}
    start = 0
    for completion, end in read(path):
        places.setdefault(completion.id, []).append(_Place(completion.index, start, end, completion.correct))
        start = end
    for each in places.values():
        each.sort(key=lambda place: place.index)
    title = str(evaluation.benchmarks[name]["title"])
    return _Benchmark(number, title, path, read_problems(evaluation.folder, name), places)


def _fitting(benchmark: _Benchmark, budget: int) -> Step | None:
    """As much of it as fits; None where not one completion does."""
    # Text takes at most about its own size in the page, so that no more than needed is read into memory.
    share = min(1.0, 4 * budget / benchmark.path.stat().st_size)
    while True:
        step = benchmark.pack(share)
        if len(step.payload) <= budget:
            return step
        if step.questions == 1:
            return None
        share *= SMALLER * budget / len(step.payload)


def _line(each: Completion) -> dict[str, Any]:
    return {
        "sample": each.index,
        "verdict": each.reason,
        "extracted": each.extracted,
        "right": each.correct,
        "truncated": each.truncated,
        "tokens": each.tokens,
        "text": each.completion,
    }
