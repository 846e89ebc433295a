"""The bootstrap's intervals against the distribution that they sample from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from unigrad.evaluate import pass_at_k
from unigrad.stats.bootstrap import RESAMPLES, bootstrap_pass_at_k, interval, resampled_means


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


@pytest.mark.parametrize("k", [1, 8, 1024])
def test_drawn_pass_rates_are_those_of_drawing_samples_one_by_one(k: int) -> None:
    n, right = 2048, [0, 1, 1, 2, 40, 2000, 2048]
    drawn = bootstrap_pass_at_k(n, right, k)
    assert drawn.shape == (RESAMPLES,)
    rng = np.random.default_rng(1)
    literal = np.mean([[(rng.integers(n, size=k) < c).any() for c in right] for _ in range(1500)], axis=1)
    chances = 1 - (1 - np.array(right) / n) ** k
    spread = np.sqrt((chances * (1 - chances)).sum()) / len(right)
    for found in (drawn, literal):
        # Five standard errors of a mean; a standard deviation is known to about 1/sqrt(2 draws).
        assert found.mean() == pytest.approx(chances.mean(), abs=5 * spread / np.sqrt(len(found)))
        assert found.std() == pytest.approx(spread, rel=5 / np.sqrt(2 * len(found)), abs=1e-12)


def test_the_drawn_pass_rate_is_below_the_unbiased_one() -> None:
    """With replacement, k draws hold fewer different samples than a k-subset."""
    drawn = bootstrap_pass_at_k(64, [1], 64).mean()
    assert drawn == pytest.approx(1 - (1 - 1 / 64) ** 64, abs=5 * 0.5 / np.sqrt(RESAMPLES))
    assert pass_at_k(64, 1, 64) == 1.0


@pytest.mark.parametrize(("n", "right", "k"), [(4, [5], 1), (4, [-1], 1), (4, [1], 0), (4, [], 1)])
def test_impossible_draws_are_errors(n: int, right: list[int], k: int) -> None:
    with pytest.raises(ValueError, match="bootstrap_pass_at_k"):
        bootstrap_pass_at_k(n, right, k)
