"""What the rows' next tokens attend to, in each kind of layer. Shapes: B rows, L positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unigrad.policy.transformers_api import Reach


def seen(reach: Reach, positions_B: Tensor, width: int) -> Tensor:
    """Of the first `width` positions those that tokens at `positions_B` attend to, their own among them. b[B, L]"""
    token_B1, earlier_L = positions_B[:, None], torch.arange(width, device=positions_B.device)
    seen_BL = earlier_L <= token_B1
    if reach.window is None:
        return seen_BL
    if reach.chunked:
        return seen_BL & (earlier_L // reach.window == token_B1 // reach.window)
    return seen_BL & (earlier_L > token_B1 - reach.window)


def step_masks(
    reaches: Mapping[str, Reach], positions_B: Tensor, width: int, additive: torch.dtype | None
) -> Tensor | dict[str, Tensor]:
    """The `attention_mask` of a step, [B, 1, 1, L]: one, or where kinds of layers differ one for each, by its name.

    additive: in this type, 0 where a position is seen, as eager attention adds it to its scores; None: true there.
    """
    masks = {reach: seen(reach, positions_B, width)[:, None, None] for reach in set(reaches.values())}
    if additive is not None:
        # The lowest number, not -inf, as transformers' own masks have it.
        lowest = torch.finfo(additive).min
        masks = {each: torch.zeros_like(m, dtype=additive).masked_fill_(~m, lowest) for each, m in masks.items()}
    if len(masks) == 1:
        return next(iter(masks.values()))
    return {kind: masks[reach] for kind, reach in reaches.items()}
