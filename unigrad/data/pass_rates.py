"""A training set cut to the problems that some model solves so often, and the file that says how often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unigrad.data.rows import value_at
from unigrad.types import Problem

PASS_RATE = "pass_rate"
"""The column that `with_pass_rates` adds."""
CONVENTIONAL_COLUMNS = (PASS_RATE, "solve_rate", "llama8b_solve_rate", "extra_info.pass_rate")
"""The first of them that some problem has is read."""


def of_pass_rates(
    problems: Sequence[Problem], least: float | None, most: float | None, column: str | None, where: str
) -> list[Problem]:
    """The problems whose pass rate is `least` at least and `most` at most (None: whatever it is), in their order. Those
    without one are left out. Where both are None, all problems.

    column: which holds the rates, shares between 0 and 1; None: the first of CONVENTIONAL_COLUMNS that is there; a dot
    descends. Raises ValueError, naming `where` the problems are from, where none has a rate, one is no share, or none
    is left.
    """
    if least is None and most is None:
        return list(problems)
    rates = _rates(problems, (column,) if column else CONVENTIONAL_COLUMNS)
    if not rates:
        raise ValueError(
            f"data.min_pass_rate and data.max_pass_rate: no problem of {where} has a "
            f"{column or PASS_RATE!r}; `unigrad evaluate MODEL --suite FILE --samples 8 --passes NEW` writes a file "
            "with them (data.pass_rate_column names another column)"
        )
    low, high = (0.0 if least is None else least), (1.0 if most is None else most)
    kept = [problem for place, problem in enumerate(problems) if low <= rates.get(place, math.nan) <= high]
    if not kept:
        raise ValueError(
            f"data.min_pass_rate = {least}, data.max_pass_rate = {most}: they leave no problem of {where}, whose pass "
            f"rates are {min(rates.values()):g} to {max(rates.values()):g}"
        )
    return kept


def with_pass_rates(problems: Sequence[Problem], counts: Mapping[str, Mapping[str, int]]) -> Iterator[Problem]:
    """Each problem with the share of its samples that were right in the column `pass_rate`.

    counts: by the problem's id, `c` right ones of `n`.
    """
    for problem in problems:
        count = counts[problem.id]
        yield replace(problem, columns={**problem.columns, PASS_RATE: count["c"] / count["n"]})


def _rates(problems: Sequence[Problem], columns: Sequence[str]) -> dict[int, float]:
    """By the problems' places, of the first of `columns` that some problem has. Raises ValueError on what is no
    share."""
    for column in columns:
        found = {place: value for place, each in enumerate(problems) if (value := _value(each, column)) is not None}
        for place, value in found.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(
                    f"problem {problems[place].id}, column {column!r}: {value!r} is no share between 0 and 1"
                )
        if found:
            return found
    return {}


def _value(problem: Problem, column: str) -> Any:
    """None where there is none, and for a missing number."""
    value = value_at(problem.columns, column)
    return None if isinstance(value, float) and math.isnan(value) else value
