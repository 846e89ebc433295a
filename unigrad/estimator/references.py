"""Reference policies, π_ref of Eq. 6: the probability that a token's gradient is divided by.

Shapes: B rows, T tokens. Every reference gives log π_ref f[B,T], so that a token's weight holds π_θ/π_ref =
exp(logp − log π_ref).
"""

from __future__ import annotations

from torch import Tensor

from unigrad.estimator.part import part


@part("π_θ")
def current(logp: Tensor) -> Tensor:
    """π_θ itself: the ratio is 1 (SFT, REINFORCE: ∇π_θ/π_θ = ∇log π_θ). f[B,T]."""
    return logp


@part("π_old")
def rollout(rollout_logp: Tensor) -> Tensor:
    """The policy that sampled the rollouts: importance sampling (the PPO family). f[B,T]."""
    return rollout_logp
