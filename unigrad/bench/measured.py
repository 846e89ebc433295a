"""What was measured of training steps, as it goes from the process that took them to the one that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from statistics import median


class Part(StrEnum):
    """Where a step's seconds go; together they are the step."""

    ROLLOUTS = "rollouts"
    VERIFY = "verify"
    OLD_LOGPROBS = "old log-probs"
    FORWARD_BACKWARD = "forward + backward"
    OPTIMIZER = "optimizer"
    REST = "rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of several steps of equal work.

    seconds: of each part, a number a step. tokens: sampled in a step, and so trained. peak: the most bytes that the
    process held (on a GPU, that were allocated there). working: the part of `peak` above what is held between steps,
    which are weights and moments. operations: the floating-point operations that a part needs, where they are counted.
    matrix_rate: floating-point operations a second of a product of this model's sizes, rows × inner × columns.
    """

    model: str
    parameters: int
    dtype: str
    device: str
    threads: str
    seconds: dict[str, list[float]]
    tokens: int
    peak: int
    working: int
    operations: dict[str, float]
    matrix: tuple[int, int, int]
    matrix_rate: float

    @property
    def steps(self) -> list[float]:
        """Seconds of each whole step."""
        return [sum(parts) for parts in zip(*self.seconds.values(), strict=True)]

    @property
    def rollout(self) -> float:
        """Seconds, the median of the steps."""
        return median(self.seconds[Part.ROLLOUTS])

    @property
    def training(self) -> float:
        """Seconds of old log-probs, forward, backward and optimizer, the median of the steps."""
        parts = (self.seconds[part] for part in (Part.OLD_LOGPROBS, Part.FORWARD_BACKWARD, Part.OPTIMIZER))
        return median(map(sum, zip(*parts, strict=True)))

    @property
    def step(self) -> float:
        """Seconds, the median of the steps."""
        return median(self.steps)
