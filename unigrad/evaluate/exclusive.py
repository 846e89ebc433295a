"""Exclusive solves (Table 4): what one model solves and another does not, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

from unigrad.errors import ConfigError
from unigrad.evaluate.folder import read_results
from unigrad.evaluate.schemas import COUNTED

EXPLAINED = "Solved: more than half of the samples right. p: McNemar's exact test, two-sided."


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Of `problems` problems, +`first` are solved by the first model alone and -`second` by the second alone."""

    problems: int
    first: int
    second: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: an exclusive solve falls to either model with probability one half."""
        total = self.first + self.second
        tail = sum(comb(total, wins) for wins in range(min(self.first, self.second) + 1))
        two_sided: float = 2 * tail / 2**total
        return min(1.0, two_sided)

    def data(self) -> dict[str, Any]:
        return {"problems": self.problems, "+": self.first, "-": self.second, "p_value": self.p_value}


@dataclass(frozen=True, slots=True)
class ExclusiveSolves:
    """On one benchmark."""

    title: str
    overall: Exclusive
    by_level: dict[int, Exclusive]

    @property
    def parts(self) -> dict[str, Exclusive]:
        """A table's columns by their names."""
        return {**{f"level {level}": each for level, each in self.by_level.items()}, "overall": self.overall}

    def data(self) -> dict[str, Any]:
        levels = {str(level): each.data() for level, each in self.by_level.items()}
        return {"title": self.title, "overall": self.overall.data(), "by_level": levels}


def exclusive_solves(first: Path, second: Path) -> dict[str, ExclusiveSolves]:
    """The exclusive solves between two folders of finished evaluations, for each benchmark that both have.

    A problem is solved when more than half of its samples are right.

    Raises ConfigError where a folder holds no finished evaluation, or the two were of different problems.
    """
    ours, theirs = (read_results(folder, COUNTED)["benchmarks"] for folder in (first, second))
    shared = shared_benchmarks({name: each["counts"] for name, each in ours.items()}, second)
    return {name: _between(ours[name], theirs[name]) for name in shared}


def shared_benchmarks(ours: Mapping[str, Collection[str]], against: Path) -> list[str]:
    """The benchmarks that `ours`, the ids of each one's problems, has in common with a finished evaluation.

    Raises ConfigError where it is not finished, there are none, or the problems of one differ.
    """
    theirs = read_results(against, COUNTED)["benchmarks"]
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise ConfigError(f"{against} is an evaluation of {', '.join(theirs)}, not of {', '.join(ours)}")
    for name in shared:
        if set(ours[name]) != set(theirs[name]["counts"]):
            raise ConfigError(
                f"{against} is an evaluation of other problems of {name} "
                f"({len(theirs[name]['counts'])} of them, {len(ours[name])} here)"
            )
    return shared


def _between(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> ExclusiveSolves:
    levels: dict[int | None, list[tuple[bool, bool]]] = {}
    for problem, count in ours["counts"].items():
        pair = (_is_solved(count), _is_solved(theirs["counts"][problem]))
        levels.setdefault(count["level"], []).append(pair)
    every = [pair for pairs in levels.values() for pair in pairs]
    by_level = {level: _exclusive(pairs) for level, pairs in levels.items() if level is not None}
    return ExclusiveSolves(ours["title"], _exclusive(every), dict(sorted(by_level.items())))


def _is_solved(count: Mapping[str, int]) -> bool:
    return 2 * count["c"] > count["n"]


def _exclusive(pairs: list[tuple[bool, bool]]) -> Exclusive:
    return Exclusive(len(pairs), pairs.count((True, False)), pairs.count((False, True)))
