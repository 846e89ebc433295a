"""What changes with a run's progress, and what is settled over all questions of a step instead of one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

Schedule = Callable[[float], tuple[float, float]]
"""From the share of the run that is done, in [0, 1), to what α and β are multiplied with."""


def constant() -> Schedule:
    """(1, 1) throughout."""
    return lambda progress: (1.0, 1.0)


def cosine_mu(
    mu_peak: float = 0.9, mu_valley: float = 0.05, mu_warmup_share: float = 0.0, mu_decay_share: float = 0.5
) -> Schedule:
    """CHORD-μ's global coefficient (Zhang et al., 2025, arXiv:2508.11408): (1 − μ, μ).

    μ rises linearly from 0 to `mu_peak` over `mu_warmup_share` of the run, falls along half a cosine to `mu_valley`
    over the next `mu_decay_share`, and stays there. The public implementations (Trinity-RFT, ms-swift) count both in
    steps: 200 of decay without a warm-up in ms-swift's script. Raises ValueError outside [0, 1], and where the two
    shares together pass the run's end.
    """
    if not all(0 <= value <= 1 for value in (mu_peak, mu_valley, mu_warmup_share, mu_decay_share)):
        given = f"{mu_peak}, {mu_valley}, {mu_warmup_share}, {mu_decay_share}"
        raise ValueError(f"μ and its shares of the run lie in [0, 1], not {given}")
    if mu_warmup_share + mu_decay_share > 1:
        raise ValueError(
            f"mu_warmup_share ({mu_warmup_share}) and mu_decay_share ({mu_decay_share}) pass the run's end"
        )

    def schedule(progress: float) -> tuple[float, float]:
        falling = progress - mu_warmup_share
        if falling < 0:
            value = mu_peak * progress / mu_warmup_share
        elif falling >= mu_decay_share:
            value = mu_valley
        else:
            value = mu_valley + (mu_peak - mu_valley) * 0.5 * (1 + math.cos(math.pi * falling / mu_decay_share))
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
