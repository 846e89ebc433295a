"""The order of the questions."""

from __future__ import annotations

import pytest

from unigrad.data import Share, epoch_order, mixed_epoch, questions_at_step, share


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
        assert questions_at_step(step, per_step, [share(num_problems)], seed=3) == expected


def test_counts_below_one() -> None:
    with pytest.raises(ValueError, match="step 0, 4 questions a step, 9 problems: each at least 1"):
        questions_at_step(0, 4, [share(9)], seed=0)


def test_sets_of_weight_one_are_laid_end_to_end() -> None:
    assert mixed_epoch([share(3), share(5)], seed=1, epoch=2) == epoch_order(8, 1, 2)
    assert mixed_epoch([share(0), share(5)], seed=1, epoch=2) == epoch_order(5, 1, 2)


@pytest.mark.parametrize(
    ("weight", "an_epoch"), [(1.0, 4), (2.0, 8), (0.5, 2), (1.25, 5), (0.01, 1), (2.5, 10), (0.375, 2)]
)
def test_a_weight_is_how_often_a_problem_is_met_an_epoch(weight: float, an_epoch: int) -> None:
    other = share(6)
    assert share(4, weight) == Share(4, an_epoch)
    seen = [0] * 10
    for epoch in range(8):
        drawn = mixed_epoch([share(4, weight), other], seed=0, epoch=epoch)
        assert len(drawn) == an_epoch + 6
        for index in drawn:
            seen[index] += 1
        assert max(seen[:4]) - min(seen[:4]) <= 1  # none comes again before all the others have come
    assert sum(seen[:4]) == 8 * an_epoch
    assert seen[4:] == [8] * 6


def test_a_mix_is_a_function_of_seed_and_step() -> None:
    shares = [share(4, 0.5), share(3, 3.0)]
    stream = [index for epoch in range(4) for index in mixed_epoch(shares, 5, epoch)]
    assert [index for step in range(1, 5) for index in questions_at_step(step, 11, shares, 5)] == stream
    assert stream != [index for epoch in range(4) for index in mixed_epoch(shares, 6, epoch)]
