from __future__ import annotations

import pytest

from unigrad.hybrid import gate


@pytest.mark.parametrize(
    ("threshold", "solved", "expected"),
    [
        (0, 0, (0, 1)),
        (0, 1, (1, 0)),
        (2, 2, (0, 1)),
        (2, 3, (1, 0)),
        (1, 1, (0, 1)),  # a count, not the rate 1
        (1.0, 8, (1, 0)),
        (0.25, 2, (0, 1)),  # 2/8 <= 0.25
        (0.25, 3, (1, 0)),
        (8, 8, (0, 1)),
    ],
)
def test_switch(threshold: float, solved: int, expected: tuple[int, int]) -> None:
    assert gate("switch", threshold=threshold)(solved=solved, n=8) == expected


@pytest.mark.parametrize("solved", range(4))
def test_the_constant_gates_do_not_look(solved: int) -> None:
    assert gate("rollouts")(solved=solved, n=3) == (1, 0)
    assert gate("demonstrations")(solved=solved, n=3) == (0, 1)
    assert gate("both")(solved=solved, n=3) == (1, 1)


@pytest.mark.parametrize("threshold", [-1, 1.5])
def test_impossible_thresholds(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is a count of solved rollouts or a rate"):
        gate("switch", threshold=threshold)


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown gate 'swich'; did you mean 'switch'"):
        gate("swich")
    with pytest.raises(ValueError, match="gate 'rollouts' takes no option 'threshold'"):
        gate("rollouts", threshold=0)


@pytest.mark.parametrize("rows", [[], [(0, 1), (1, 0, 0)], [(0,), (1,)]])
def test_a_table_of_no_equal_rows(rows: list[tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"one row .* for each number of solved rollouts, all equally long"):
        gate("table", table=rows)


def test_a_table_of_negative_numbers() -> None:
    with pytest.raises(ValueError, match="a gate's table holds no negative numbers"):
        gate("table", table=[(0, 1), (1, -0.5)])
