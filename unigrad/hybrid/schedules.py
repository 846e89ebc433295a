"""What changes with a run's progress, and what is settled over all questions of a step instead of one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Schedule = Callable[[float], tuple[float, float]]
"""From the share of the run that is done, in [0, 1), to what α and β are multiplied with."""


def constant() -> Schedule:
    """(1, 1) throughout."""
    return lambda progress: (1.0, 1.0)


def mu(mu_start: float = 0.9, mu_end: float = 0.05, mu_share: float = 0.5) -> Schedule:
    """CHORD's global coefficient (Zhang et al., 2025, arXiv:2508.11408): (1 − μ, μ), μ falling linearly.

    From `mu_start` to `mu_end` over the first `mu_share` of the run, then constant. Raises ValueError outside [0, 1].
    """
    if not all(0 <= value <= 1 for value in (mu_start, mu_end, mu_share)):
        raise ValueError(f"μ and its share of the run lie in [0, 1], not {mu_start}, {mu_end}, {mu_share}")

    def schedule(progress: float) -> tuple[float, float]:
        done = min(progress / mu_share, 1.0) if mu_share else 1.0
        value = mu_start + (mu_end - mu_start) * done
        return 1 - value, value

    return schedule


Assignment = Callable[[Sequence[tuple[float, ...]], int], list[tuple[float, ...]]]
"""From what the gate said of each question of a step, and a seed, to what each question gets."""


def own(decided: Sequence[tuple[float, ...]], seed: int) -> list[tuple[float, ...]]:
    """Each question gets its own."""
    return list(decided)


def shuffled(decided: Sequence[tuple[float, ...]], seed: int) -> list[tuple[float, ...]]:
    """Each question gets another's, at random: the same rate of demonstrations, blind to where they are needed."""
    order = list(decided)
    random.Random(seed).shuffle(order)
    return order


def averaged(decided: Sequence[tuple[float, ...]], seed: int) -> list[tuple[float, ...]]:
    """Every question gets the step's mean: what `shuffled` gives in expectation."""
    mean = tuple(sum(column) / len(decided) for column in zip(*decided, strict=True))
    return [mean] * len(decided)
