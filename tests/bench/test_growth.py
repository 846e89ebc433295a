"""The exponent of a power law."""

from __future__ import annotations

import pytest

from unigrad.bench.growth import exponent


@pytest.mark.parametrize("power", [-0.5, 0.0, 1.0, 2.0])
def test_of_an_exact_power_law(power: float) -> None:
    x = (1.0, 2.0, 8.0, 100.0)
    found = exponent(x, [3.0 * each**power for each in x])
    assert found.value == pytest.approx(power, abs=1e-12)
    assert found.spread == pytest.approx(0.0, abs=1e-7)


def test_its_spread_is_the_standard_error_of_the_slope() -> None:
    """By hand: log2 x = 0, 1, 2 and log2 y = 0, 2, 1 give slope 1/2, residuals ∓1/2, 1, so √(1.5 / 1 / 2)."""
    found = exponent((1.0, 2.0, 4.0), (1.0, 4.0, 2.0))
    assert (found.value, found.spread) == (pytest.approx(0.5), pytest.approx(0.75**0.5))
    assert str(found) == "0.50 ± 0.87"


def test_two_points_leave_no_spread() -> None:
    assert str(exponent((1.0, 10.0), (2.0, 200.0))) == "2.00"


@pytest.mark.parametrize(("x", "y"), [((2.0, 2.0), (1.0, 3.0)), ((1.0, 2.0), (0.0, 3.0))])
def test_what_no_power_law_goes_through(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="no power law"):
        exponent(x, y)
