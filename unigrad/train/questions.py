"""Which problems a run meets at each of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from unigrad.data import PreparedProblem, Share, questions_at_step, share


@dataclass(frozen=True)
class ProblemSet:
    """One of the sets that a run trains on; each of its problems is met `weight` times an epoch."""

    problems: Sequence[PreparedProblem]
    weight: float


class Questions:
    """The sets of a run in a seeded order."""

    def __init__(self, sets: Sequence[ProblemSet], per_step: int, seed: int) -> None:
        self._sets = sets
        self._per_step = per_step
        self._seed = seed
        self._mix = cache(self._laid_end_to_end)

    def at(self, step: int, *, demonstrated: bool) -> list[PreparedProblem]:
        """The questions of `step` (from 1); `demonstrated`: of those alone that have a demonstration."""
        problems, shares = self._mix(demonstrated)
        return [problems[index] for index in questions_at_step(step, self._per_step, shares, self._seed)]

    @property
    def an_epoch(self) -> int:
        """Questions of an epoch of all the sets."""
        return sum(each.an_epoch for each in self._mix(False)[1])

    def _laid_end_to_end(self, demonstrated: bool) -> tuple[list[PreparedProblem], list[Share]]:
        problems: list[PreparedProblem] = []
        shares = []
        for each in self._sets:
            usable = [item for item in each.problems if item.demonstration is not None or not demonstrated]
            problems += usable
            shares.append(share(len(usable), each.weight))
        return problems, shares
