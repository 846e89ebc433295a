"""The two bootstraps: over problems, for intervals, and over the samples of each problem, for pass@k (§5.1).

Shapes: P problems, K numbers for each, R resamples.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unigrad.stats import CONFIDENCE

RESAMPLES = 10_000

Floats = NDArray[np.floating[Any]]


def resampled_means(values_PK: ArrayLike, name: str) -> Floats:
    """f[R, K]: the mean over each of RESAMPLES draws of P problems with replacement.

    The random numbers depend on `name` alone: what is later averaged or compared must not share them.
    """
    values, sizes = np.unique(np.asarray(values_PK, dtype=float), axis=0, return_counts=True)
    rng = _generator(name)
    # How often each distinct row is drawn is multinomial: a few numbers a resample instead of P.
    total = int(sizes.sum())
    counts = rng.multinomial(total, sizes / total, size=RESAMPLES)
    means: Floats = counts @ values / total
    return means


def bootstrap_pass_at_k(n: int, right_P: ArrayLike, k: int, name: str = "") -> Floats:
    """f[R]: the benchmark's pass@k as §5.1 estimates it, once for each of RESAMPLES draws.

    A draw takes k of each problem's n samples, `right_P` of which are right, with replacement; its pass@k is the share
    of the problems that come out with a right one. The draws' mean tends to that of 1 - (1 - c/n)^k, which is below the
    unbiased `pass_at_k`: the difference grows with k/n. Their spread is that of an evaluation with k samples a problem.

    Raises ValueError unless 0 <= c <= n for each problem and k >= 1.
    """
    counts, sizes = np.unique(np.asarray(right_P, dtype=int), return_counts=True)
    if k < 1:
        raise ValueError(f"bootstrap_pass_at_k: k = {k} samples; choose 1 or more")
    if not sizes.size or counts[0] < 0 or counts[-1] > n:
        raise ValueError(f"bootstrap_pass_at_k: right samples of n = {n} must be 0 to n, of one problem or more")
    # Problems with as many right samples are drawn alike, so how many of them come out solved is binomial.
    solved = _generator(name).binomial(sizes, 1 - (1 - counts / n) ** k, size=(RESAMPLES, len(sizes)))
    passed: Floats = solved.sum(axis=1) / sizes.sum()
    return passed


def interval(means_R: Floats) -> tuple[float, float]:
    """The central 95% of resampled means."""
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(means_R, (tail, 1 - tail))
    return float(lower), float(upper)


def _generator(name: str) -> np.random.Generator:
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
