"""Each question's rollout accuracy over the epochs (Figures 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from unigrad.runs.rollouts import Question


@dataclass(frozen=True)
class Grid:
    """Rows are questions, columns epochs: the n-th time that a question is met is its epoch n.

    accuracy: solved share, NaN where a question was not met so often or nothing was sampled. steps: the step at which a
    question was met, 0 where it was not.
    """

    questions: list[str]
    levels: list[int | None]
    accuracy: NDArray[np.float64]
    steps: NDArray[np.int64]

    @property
    def epochs(self) -> int:
        return int(self.accuracy.shape[1])

    def by_level(self) -> dict[int | None, list[int]]:
        """The rows of each level, easiest first; None, where levels are unknown, comes last."""
        rows = sorted(range(len(self.questions)), key=lambda row: _level_order(self.levels[row]))
        return {level: list(group) for level, group in groupby(rows, key=lambda row: self.levels[row])}

    def from_first_sampled(self) -> Grid:
        """The grid from the first step on at which anything was sampled: epochs of an SFT stage before it do not count.

        As it is where nothing ever was.
        """
        sampled = self.steps[~np.isnan(self.accuracy)]
        if not sampled.size:
            return self
        before_Q = ((self.steps > 0) & (self.steps < sampled.min())).sum(axis=1)
        place_QE = np.arange(self.epochs) + before_Q[:, None]
        left_QE = np.minimum(place_QE, self.epochs - 1)
        accuracy = np.where(place_QE < self.epochs, np.take_along_axis(self.accuracy, left_QE, axis=1), np.nan)
        steps = np.where(place_QE < self.epochs, np.take_along_axis(self.steps, left_QE, axis=1), 0)
        epochs = int((steps > 0).any(axis=0).sum())
        return Grid(self.questions, self.levels, accuracy[:, :epochs], steps[:, :epochs])

    def take(self, rows: list[int]) -> Grid:
        return Grid(
            [self.questions[row] for row in rows],
            [self.levels[row] for row in rows],
            self.accuracy[rows],
            self.steps[rows],
        )


def build(met: Iterable[tuple[int, Question]]) -> Grid:
    """The grid of these questions, each with its step, in the order they were met.

    Rows are sorted by level and then by accuracy over all epochs, the best first.
    """
    cells: dict[str, list[tuple[float, int]]] = {}
    levels: dict[str, int | None] = {}
    for step, question in met:
        accuracy = question.accuracy
        cells.setdefault(question.id, []).append((np.nan if accuracy is None else accuracy, step))
        levels.setdefault(question.id, question.level)
    names = list(cells)
    shape = (len(names), max((len(row) for row in cells.values()), default=0))
    accuracies, steps = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(cells.values()):
        accuracies[number, : len(row)] = [accuracy for accuracy, _ in row]
        steps[number, : len(row)] = [step for _, step in row]
    return _sorted(Grid(names, [levels[name] for name in names], accuracies, steps))


def difference(first: Grid, second: Grid) -> Grid:
    """first − second at matched questions and epochs, as far as both have them; sorted by the mean of the two.

    Epochs count from the first step at which a run sampled: GRPO's first after SFT is matched with HPT's first. `steps`
    are the first's.
    """
    first, second = first.from_first_sampled(), second.from_first_sampled()
    places = {name: row for row, name in enumerate(second.questions)}
    rows = [row for row, name in enumerate(first.questions) if name in places]
    epochs = min(first.epochs, second.epochs)
    ours = first.take(rows)
    theirs = second.take([places[name] for name in ours.questions])
    a, b = ours.accuracy[:, :epochs], theirs.accuracy[:, :epochs]
    levels = [mine if mine is not None else other for mine, other in zip(ours.levels, theirs.levels, strict=True)]
    order = _order(levels, (a + b) / 2)
    return Grid(ours.questions, levels, a - b, ours.steps[:, :epochs]).take(order)


def thinned(grid: Grid, rows: int) -> Grid:
    """At most about so many rows, evenly from each level's, so that the picture's shades stay."""
    if len(grid.questions) <= rows:
        return grid
    share = rows / len(grid.questions)
    kept: list[int] = []
    for level in grid.by_level().values():
        kept += [level[index] for index in spread(len(level), max(1, round(share * len(level))))]
    return grid.take(sorted(kept))


def spread(count: int, chosen: int) -> list[int]:
    """`chosen` of range(count), evenly, first and last among them; all where there are no more."""
    if chosen >= count:
        return list(range(count))
    if chosen == 1:
        return [count // 2]
    return [round(index * (count - 1) / (chosen - 1)) for index in range(chosen)]


def _sorted(grid: Grid) -> Grid:
    return grid.take(_order(grid.levels, grid.accuracy))


def _order(levels: list[int | None], accuracy: NDArray[np.float64]) -> list[int]:
    means = [fmean(known) if (known := row[~np.isnan(row)]).size else -1.0 for row in accuracy]
    return sorted(range(len(levels)), key=lambda row: (_level_order(levels[row]), -means[row]))


def _level_order(level: int | None) -> tuple[bool, int]:
    return level is None, level or 0
