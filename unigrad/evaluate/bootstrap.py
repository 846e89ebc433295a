"""Percentile bootstrap over problems: what another draw of the problems might have given.

Shapes: P problems, K numbers for each, R resamples.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95

Floats = NDArray[np.floating[Any]]


def resampled_means(values_PK: ArrayLike, name: str) -> Floats:
    """f[R, K]: the mean over each of RESAMPLES draws of P problems with replacement.

    The random numbers depend on `name` alone: what is later averaged or compared must not share them.
    """
    values, sizes = np.unique(np.asarray(values_PK, dtype=float), axis=0, return_counts=True)
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    rng = np.random.Generator(np.random.Philox(key=key))
    # How often each distinct row is drawn is multinomial: a few numbers a resample instead of P.
    total = int(sizes.sum())
    counts = rng.multinomial(total, sizes / total, size=RESAMPLES)
    means: Floats = counts @ values / total
    return means


def interval(means_R: Floats) -> tuple[float, float]:
    """The central 95% of resampled means."""
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(means_R, (tail, 1 - tail))
    return float(lower), float(upper)
