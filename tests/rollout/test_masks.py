"""What a step's tokens attend to, by hand and against transformers' own rule."""

from __future__ import annotations

import pytest
import torch

from unigrad.policy.transformers_api import Reach
from unigrad.rollout.masks import seen, step_masks

FULL, WINDOW, STRETCH = Reach(), Reach(3), Reach(3, chunked=True)
POSITIONS_B = torch.tensor([0, 2, 4, 5])


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        (FULL, [[0], [0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]),
        (WINDOW, [[0], [0, 1, 2], [2, 3, 4], [3, 4, 5]]),
        (STRETCH, [[0], [0, 1, 2], [3, 4], [3, 4, 5]]),
    ],
)
def test_positions_by_hand(reach: Reach, expected: list[list[int]]) -> None:
    found = seen(reach, POSITIONS_B, 6)
    assert [row.nonzero()[:, 0].tolist() for row in found] == expected


@pytest.mark.parametrize("window", [512, 1024, 4096])
def test_wide_windows_at_their_borders(window: int) -> None:
    positions_B = torch.tensor([window - 2, window - 1, window, window + 1, 3 * window])
    counts = seen(Reach(window), positions_B, 3 * window + 1).sum(-1)
    assert counts.tolist() == [window - 1, *[window] * 4]
    assert seen(Reach(window), positions_B, 3 * window + 1)[3].nonzero()[[0, -1], 0].tolist() == [2, window + 1]
    counts = seen(Reach(window, chunked=True), positions_B, 3 * window + 1).sum(-1)
    assert counts.tolist() == [window - 1, window, 1, 2, 1]


def test_one_mask_where_all_layers_are_alike() -> None:
    mask = step_masks({"full_attention": FULL, "sliding_attention": FULL}, POSITIONS_B, 6, None)
    assert isinstance(mask, torch.Tensor)
    assert (mask.shape, mask.dtype) == ((4, 1, 1, 6), torch.bool)
    assert torch.equal(mask[:, 0, 0], seen(FULL, POSITIONS_B, 6))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_a_mask_for_each_kind(dtype: torch.dtype | None) -> None:
    masks = step_masks({"full_attention": FULL, "sliding_attention": WINDOW}, POSITIONS_B, 6, dtype)
    assert isinstance(masks, dict)
    for kind, reach in (("full_attention", FULL), ("sliding_attention", WINDOW)):
        expected = seen(reach, POSITIONS_B, 6)
        mask = masks[kind][:, 0, 0]
        if dtype is None:
            assert torch.equal(mask, expected)
        else:
            assert mask.dtype == dtype
            assert torch.equal(mask == 0, expected)
            assert (mask[~expected] == torch.finfo(dtype).min).all()
