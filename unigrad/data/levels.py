"""A training set cut to some levels of difficulty, and to as many problems of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from unigrad.data.order import epoch_order
from unigrad.types import Problem


def of_levels(
    problems: Sequence[Problem], levels: Collection[int] | None, per_level: int | None, seed: int, where: str
) -> list[Problem]:
    """The problems of `levels` (None: of every level that there is), in their order; of each level `per_level` that
    `seed` chooses (None: all). Where both are None, all problems.

    Whom `seed` chooses at one level does not depend on the other levels. Raises ValueError, naming `where` the problems
    are from, at a level that has no problems, or fewer than `per_level`.
    """
    if levels is None and per_level is None:
        return list(problems)
    there = Counter(problem.level for problem in problems if problem.level is not None)
    if not there:
        raise ValueError(f"data.levels: no problem of {where} has a level (data.columns.level names their column)")
    wanted = sorted(there if levels is None else set(levels))
    for level in wanted:
        if there[level] < (per_level or 1):
            counts = ", ".join(f"{each}: {count}" for each, count in sorted(there.items()))
            key, lacking = ("problems_per_level", f"only {there[level]}") if there[level] else ("levels", "no")
            raise ValueError(f"data.{key}: {where} has {lacking} problems of level {level}; its levels are {counts}")
    kept: list[int] = []
    for level in wanted:
        places = [place for place, problem in enumerate(problems) if problem.level == level]
        kept += [places[index] for index in epoch_order(len(places), seed, abs(level))[:per_level]]
    return [problems[place] for place in sorted(kept)]
