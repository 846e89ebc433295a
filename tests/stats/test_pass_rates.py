"""pass@k against exact fractions and against counting subsets."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from unigrad.evaluate import pass_at_k
from unigrad.stats.pass_rates import powers_of_two


def test_it_is_the_share_of_the_subsets_that_hold_a_right_sample() -> None:
    for n in range(1, 7):
        for c in range(n + 1):
            for k in range(1, n + 1):
                subsets = list(combinations(range(n), k))
                hits = sum(any(sample < c for sample in subset) for subset in subsets)
                assert pass_at_k(n, c, k) == hits / len(subsets)


@pytest.mark.parametrize("n", [32, 1000, 2048])
def test_it_is_the_float_nearest_to_the_exact_value(n: int) -> None:
    for c in (0, 1, 2, n // 3, n // 2, n - 1, n):
        for k in (1, 2, 7, n // 2, n - 1, n):
            assert pass_at_k(n, c, k) == float(1 - Fraction(comb(n - c, k), comb(n, k)))


def test_closed_forms() -> None:
    assert pass_at_k(2048, 1, 1) == 1 / 2048
    assert pass_at_k(2048, 1, 1024) == 0.5
    assert pass_at_k(2048, 1025, 1024) == 1.0
    assert pass_at_k(2048, 0, 2048) == 0.0


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0), (4, 2, -1), (0, 0, 1)])
def test_impossible_numbers_are_errors(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass_at_k"):
        pass_at_k(n, c, k)


def test_the_curve_stops_at_n() -> None:
    assert powers_of_two(1) == [1]
    assert powers_of_two(32) == [1, 2, 4, 8, 16, 32]
    assert powers_of_two(33) == [1, 2, 4, 8, 16, 32]
