"""The bootstrap's intervals against the distribution that they sample from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from unigrad.evaluate.bootstrap import RESAMPLES, interval, resampled_means


def test_of_right_and_wrong_it_is_the_binomials_quantiles() -> None:
    n, right = 500, 210
    lower, upper = interval(resampled_means([[1.0]] * right + [[0.0]] * (n - right), "a")[:, 0])
    exact = binom.ppf([0.025, 0.975], n, right / n) / n
    # The quantiles themselves are estimated from 10,000 draws: a few problems of 500.
    assert (lower, upper) == pytest.approx(exact, abs=3 / n)


def test_of_anything_it_is_about_the_normal_interval() -> None:
    values = np.random.default_rng(0).beta(0.5, 1.5, size=400)
    means = resampled_means(values[:, None], "b")
    assert means.shape == (RESAMPLES, 1)
    error = values.std() / np.sqrt(len(values))
    assert means.mean() == pytest.approx(values.mean(), abs=5 * error / np.sqrt(RESAMPLES))
    assert means.std() == pytest.approx(error, rel=0.05)
    half = norm.ppf(0.975) * error
    assert interval(means[:, 0]) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 10)


def test_columns_share_their_resamples_and_names_do_not() -> None:
    values = [[share, 2 * share] for share in (0.0, 0.25, 0.25, 1.0)]
    first, again, other = (resampled_means(values, name) for name in ("x", "x", "y"))
    assert np.array_equal(first, again)
    assert first[:, 1] == pytest.approx(2 * first[:, 0])
    assert abs(np.corrcoef(first[:, 0], other[:, 0])[0, 1]) < 0.05


def test_one_problem_has_no_spread() -> None:
    assert interval(resampled_means([[0.75]], "z")[:, 0]) == (0.75, 0.75)
