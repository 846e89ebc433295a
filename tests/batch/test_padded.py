"""Micro-batches by token budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigrad.batch import micro_batches


def test_like_lengths_share_a_group() -> None:
    # Padded sizes 1 × 10, 2 × 6 and 4 × 3.
    assert micro_batches([3, 10, 6, 3, 5, 3, 1], 12) == [[1], [2, 4], [0, 3, 5, 6]]


def test_a_row_longer_than_the_budget_is_alone() -> None:
    assert micro_batches([4, 9, 2, 2], 4) == [[1], [0], [2, 3]]


def test_no_rows() -> None:
    assert micro_batches([], 8) == []


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, not 0"):
        micro_batches([1], 0)


@given(st.lists(st.integers(1, 50)), st.integers(1, 200))
def test_every_row_once_and_no_group_over_the_budget(lengths: list[int], token_budget: int) -> None:
    groups = micro_batches(lengths, token_budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= token_budget
