"""Feedback functions (Eq. 9–10): from how many rollouts of a question were solved to (α, β)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from unigrad.options import METHOD_OPTIONS, joined, of_parameter
from unigrad.plugins import add, find


class Gate(Protocol):
    """(α, β) = (f(P), g(P)) of Eq. 9: the weights of the RL term and of the SFT term of one question.

    A gate of a method with several offline terms may give each its own weight: (α, β₁, β₂, …).
    """

    def __call__(self, *, solved: int, n: int) -> tuple[float, ...]: ...


def switch(threshold: float = 0) -> Gate:
    """Eq. 10: (0, 1) where `solved` <= threshold, else (1, 0).

    threshold: a count of solved rollouts, as in §5.5 (0 trains on the demonstration only where no rollout is solved); a
    float strictly between 0 and 1 is a success rate, compared with solved / n. Raises ValueError if negative or a
    fraction above 1.
    """
    return _threshold(threshold, below=(0.0, 1.0))


def drop(threshold: float = 0) -> Gate:
    """The switch without SFT: (0, 0) where `solved` <= threshold, else (1, 0). A dropped question counts nowhere.

    Raises ValueError as `switch` does.
    """
    return _threshold(threshold, below=(0.0, 0.0))


def _threshold(threshold: float, below: tuple[float, float]) -> Gate:
    if threshold < 0 or (threshold > 1 and threshold != int(threshold)):
        raise ValueError(f"a gate's threshold is a count of solved rollouts or a rate between 0 and 1, not {threshold}")
    is_rate = 0 < threshold < 1

    def gate(*, solved: int, n: int) -> tuple[float, ...]:
        performance = solved / n if is_rate else solved
        return below if performance <= threshold else (1.0, 0.0)

    return gate


def rollouts() -> Gate:
    """(1, 0) always: every question trains on its rollouts (pure RL)."""
    return lambda *, solved, n: (1.0, 0.0)


def demonstrations() -> Gate:
    """(0, 1) always: every question trains on its demonstration (pure SFT)."""
    return lambda *, solved, n: (0.0, 1.0)


def both() -> Gate:
    """(1, 1) always: every question trains on its rollouts and on its demonstration (LUFFY, SRFT)."""
    return lambda *, solved, n: (1.0, 1.0)


def linear() -> Gate:
    """(P, 1 − P): soft feedback, the simplest monotone f and g of Eq. 9."""
    return lambda *, solved, n: (solved / n, 1 - solved / n)


AUTHORS_TABLE = ((0.0, 1.0), (0.125, 0.5), (0.25, 0.25), (0.5, 0.125), (1.0, 0.0))
"""The authors' soft gate without off-policy RL. Their count includes the demonstration, ours does not."""


def table(table: Sequence[Sequence[float]] = AUTHORS_TABLE) -> Gate:
    """Row `solved` of the table, its last row beyond: any soft feedback, row by row (α, β) or (α, β₁, β₂, …).

    Raises ValueError on an empty table, on rows that are not equally long, and on negative numbers.
    """
    rows = [tuple(float(value) for value in row) for row in table]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        raise ValueError("a gate's table holds one row (α, β) for each number of solved rollouts, all equally long")
    if any(value < 0 for row in rows for value in row):
        raise ValueError("a gate's table holds no negative numbers")
    return lambda *, solved, n: rows[min(solved, len(rows) - 1)]


GATES: dict[str, Callable[..., Gate]] = {
    each.__name__: each for each in (switch, drop, rollouts, demonstrations, both, linear, table)
}


def register_gate(build: Callable[..., Gate]) -> Callable[..., Gate]:
    """Add a gate under its function's name; its keyword parameters, each with type and default, are its options.

    Raises ValueError where the name is taken.
    """
    parameters = inspect.signature(build).parameters.values()
    options = joined(METHOD_OPTIONS, [of_parameter(build, each) for each in parameters])
    add(GATES, build.__name__, build, "a gate")
    METHOD_OPTIONS.update(options)
    return build


def gate(name: str, **options: Any) -> Gate:
    """The gate of this name. Raises ValueError on an unknown name or option, naming the nearest."""
    build = find(GATES, name, "gate")
    unknown = options.keys() - gate_options(name)
    if unknown:
        raise ValueError(f"gate {name!r} takes no option {', '.join(map(repr, sorted(unknown)))}")
    return build(**options)


def gate_options(name: str) -> frozenset[str]:
    """The names of a gate's options."""
    return frozenset(inspect.signature(GATES[name]).parameters)
