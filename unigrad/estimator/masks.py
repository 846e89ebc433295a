"""Stabilization masks, 1_stable of Eq. 6: which tokens may move the policy.

Shapes: B rows, T tokens. Every mask reads `ratio` = π_θ/π_ref f[B,T] or `advantages` f[B,T] and gives b[B,T].
"""

from __future__ import annotations

import torch
from torch import Tensor

from unigrad.estimator.part import part


@part("–")
def unmasked(ratio: Tensor) -> Tensor:
    """No mask: every token counts (SFT, REINFORCE, the offline methods). b[B,T]."""
    return torch.ones_like(ratio, dtype=torch.bool)


@part("clip")
def ppo_clip(ratio: Tensor, advantages: Tensor, *, clip_low: float = 0.2, clip_high: float = 0.2) -> Tensor:
    """PPO's clip as a mask (§B.3, Eq. 21): 0 where min(r·A, clip(r, 1−low, 1+high)·A) is flat in r.

    One-sided by the advantage's sign: a good token stops counting above 1 + `clip_high`, a bad one below
    1 − `clip_low`. Equal bounds are PPO (Schulman et al., 2017); a larger `clip_high` is DAPO's clip-higher (Yu et
    al., 2025). b[B,T].
    """
    return torch.where(advantages >= 0, ratio <= 1 + clip_high, ratio >= 1 - clip_low)
