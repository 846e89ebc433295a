"""pass@k: the chance that one of k samples is right, from n samples of which c are."""

from __future__ import annotations

from math import comb


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k): the share of the k-subsets of the samples that hold a right one.

    Exact whole numbers divided once, so that the result is the nearest float to the true value for any n.

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n:
        raise ValueError(f"pass_at_k: c = {c} right samples of n = {n}; choose 0 to n")
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k: k = {k} of n = {n} samples; choose 1 to n")
    subsets = comb(n, k)
    return (subsets - comb(n - c, k)) / subsets


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, … up to n."""
    return [1 << power for power in range(n.bit_length())]
