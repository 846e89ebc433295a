"""Feedback functions (Eq. 9–10): from how many rollouts of a question were solved to (α, β)."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Protocol


class Gate(Protocol):
    """(α, β) = (f(P), g(P)) of Eq. 9: the weights of the RL term and of the SFT term of one question."""

    def __call__(self, *, solved: int, n: int) -> tuple[float, float]: ...


def switch(threshold: float = 0) -> Gate:
    """Eq. 10: (0, 1) where `solved` <= threshold, else (1, 0).

    threshold: a count of solved rollouts, as in §5.5 (0 trains on the demonstration only where no rollout is solved); a
    float strictly between 0 and 1 is a success rate, compared with solved / n. Raises ValueError if negative or a
    fraction above 1.
    """
    if threshold < 0 or (threshold > 1 and threshold != int(threshold)):
        raise ValueError(f"a gate's threshold is a count of solved rollouts or a rate between 0 and 1, not {threshold}")
    is_rate = 0 < threshold < 1

    def gate(*, solved: int, n: int) -> tuple[float, float]:
        performance = solved / n if is_rate else solved
        return (0.0, 1.0) if performance <= threshold else (1.0, 0.0)

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


GATES: dict[str, Callable[..., Gate]] = {
    "switch": switch,
    "rollouts": rollouts,
    "demonstrations": demonstrations,
    "both": both,
}


def gate(name: str, **options: float) -> Gate:
    """The gate of this name. Raises ValueError on an unknown name or option, naming the nearest."""
    if name not in GATES:
        close = difflib.get_close_matches(name, GATES, n=1, cutoff=0.0)
        raise ValueError(f"unknown gate {name!r}; did you mean {close[0]!r}?")
    try:
        return GATES[name](**options)
    except TypeError:
        raise ValueError(f"gate {name!r} takes no option {', '.join(map(repr, options))}") from None
