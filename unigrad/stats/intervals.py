"""Means over seeds with their 95% t-intervals, paired differences, and both as a table's cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

from unigrad.stats import CONFIDENCE

NOTHING = "—"


@dataclass(frozen=True, slots=True)
class Interval:
    """mean ± half_width over `count` seeds; one seed has no interval."""

    mean: float
    half_width: float | None
    count: int


def interval(values: Sequence[float]) -> Interval:
    """The mean's interval from Student's t with n - 1 degrees of freedom. `values` must not be empty."""
    count = len(values)
    if count == 1:
        return Interval(values[0], None, 1)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    return Interval(fmean(values), quantile * stdev(values) / math.sqrt(count), count)


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Interval | None:
    """The interval of values - reference over the seeds that both have; None where there is no such seed.

    Paired, since runs of one seed share their problems: what the problems do to both falls out.
    """
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    return interval(differences) if differences else None


def percent(value: Interval | None, signed: bool = False) -> str:
    """`75.0 ± 12.4` of a share or a difference of shares, with a true minus; NOTHING where there is none."""
    if value is None:
        return NOTHING
    mean = f"{100 * value.mean:{'+' if signed else ''}.1f}".replace("-", "−")
    return mean if value.half_width is None else f"{mean} ± {100 * value.half_width:.1f}"
