"""Accuracies over seeds, of all problems and of each level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unigrad.measure.intervals import Interval, interval
from unigrad.measure.metrics import Scores


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Of one row of a table, over its seeds; accuracy is None where no run is there."""

    accuracy: Interval | None
    by_level: dict[int, Interval]

    def cells(self, levels: Sequence[int]) -> list[Interval | None]:
        """All problems, then each of the levels."""
        return [self.accuracy, *(self.by_level.get(level) for level in levels)]


def accuracies(scores: Sequence[Scores]) -> Accuracies:
    if not scores:
        return Accuracies(None, {})
    levels = sorted({level for each in scores for level in each.by_level})
    return Accuracies(
        interval([each.accuracy for each in scores]),
        {level: interval([each.by_level[level] for each in scores if level in each.by_level]) for level in levels},
    )
