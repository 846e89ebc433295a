"""How a measure grows with the work: the exponent of a power law, by least squares in logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True, slots=True)
class Exponent:
    """Of y ∝ x^value. spread: the standard error of the fit; None where two points leave none."""

    value: float
    spread: float | None

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")


def exponent(x: Sequence[float], y: Sequence[float]) -> Exponent:
    """Raises ValueError where the x are fewer than two different ones, or a number is not above 0."""
    if len({*x}) < 2 or min(*x, *y) <= 0:
        raise ValueError(f"no power law goes through x = {x}, y = {y}")
    log_x, log_y = [math.log(value) for value in x], [math.log(value) for value in y]
    mean_x, mean_y = fmean(log_x), fmean(log_y)
    square = sum((each - mean_x) ** 2 for each in log_x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(log_x, log_y, strict=True)) / square
    left = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(log_x, log_y, strict=True))
    free = len(log_x) - 2
    return Exponent(slope, math.sqrt(left / free / square) if free else None)
