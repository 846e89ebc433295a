"""Accuracies over seeds, of all problems and of each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from unigrad.stats.intervals import Interval, interval, paired_difference


class Scores(Protocol):
    """Shares of problems that are solved."""

    @property
    def accuracy(self) -> float: ...

    @property
    def by_level(self) -> Mapping[int, float]: ...


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


def accuracies_against(
    finals: Mapping[str, Mapping[int, Scores]], reference: str
) -> dict[str, tuple[Accuracies, Interval | None]]:
    """Of each row, given by seed, and its difference from the reference's, paired by seed; None for that one."""
    overall = {row: {seed: each.accuracy for seed, each in seeds.items()} for row, seeds in finals.items()}
    return {
        row: (
            accuracies(list(seeds.values())),
            None if row == reference else paired_difference(overall[row], overall[reference]),
        )
        for row, seeds in finals.items()
    }
