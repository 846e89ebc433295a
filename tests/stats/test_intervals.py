"""Intervals against scipy's t-test, and against closed forms."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from unigrad.stats.intervals import interval, paired_difference


@pytest.mark.parametrize("values", [[0.7, 0.75, 0.8], [0.1, 0.4], [0.71, 0.72, 0.69, 0.75, 0.70]])
def test_the_interval_is_scipys(values: list[float]) -> None:
    found = interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.half_width is not None
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.count == len(values)


def test_two_seeds_have_a_closed_form() -> None:
    # With one degree of freedom t is Cauchy, whose 97.5% quantile is tan(0.475 π); the standard error is half the gap.
    found = interval([0.5, 0.6])
    assert found.mean == pytest.approx(0.55)
    assert found.half_width == pytest.approx(math.tan(0.475 * math.pi) * 0.05)


def test_one_seed_has_no_interval_and_equal_ones_have_none_to_speak_of() -> None:
    assert interval([0.5]).half_width is None
    assert interval([0.5, 0.5, 0.5]).half_width == 0.0


def test_a_paired_difference_is_scipys_paired_t_test() -> None:
    first, second = {0: 0.5, 1: 0.7, 2: 0.6}, {0: 0.45, 1: 0.6, 2: 0.58}
    found = paired_difference(first, second)
    assert found is not None
    assert found.half_width is not None
    low, high = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_a_difference_is_over_the_seeds_that_both_have() -> None:
    found = paired_difference({0: 0.5, 2: 0.7}, {1: 0.1, 2: 0.6})
    assert found is not None
    assert (found.mean, found.half_width, found.count) == (pytest.approx(0.1), None, 1)
    assert paired_difference({0: 0.5}, {1: 0.5}) is None
