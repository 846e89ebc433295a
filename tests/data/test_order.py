"""The order of the questions."""

from __future__ import annotations

import pytest

from unigrad.data import epoch_order, questions_at_step


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    orders = [epoch_order(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_the_order_never_changes_between_versions() -> None:
    assert epoch_order(8, seed=7, epoch=0) == [4, 3, 6, 2, 1, 0, 5, 7]
    assert epoch_order(8, seed=7, epoch=1) == [7, 6, 1, 4, 3, 2, 5, 0]


@pytest.mark.parametrize(("per_step", "num_problems"), [(3, 10), (5, 10), (10, 10), (25, 10), (4, 1), (1, 3)])
def test_steps_cut_the_stream_of_epochs(per_step: int, num_problems: int) -> None:
    stream = [index for epoch in range(10 * per_step) for index in epoch_order(num_problems, 3, epoch)]
    for step in range(1, 9):
        expected = stream[(step - 1) * per_step : step * per_step]
        assert questions_at_step(step, per_step, num_problems, seed=3) == expected


def test_counts_below_one() -> None:
    with pytest.raises(ValueError, match="step 0, 4 questions a step, 9 problems: each at least 1"):
        questions_at_step(0, 4, 9, seed=0)
