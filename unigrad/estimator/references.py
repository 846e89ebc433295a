"""Reference policies, π_ref of Eq. 6: the probability that a token's gradient is divided by.

Shapes: B rows, T tokens. Every reference gives log(π_θ/π_ref) f[B,T] at once: as a difference of log π_θ and log π_ref,
a sequence's ratio would lose in float32 the digits that its clip compares. Statistics: `logp` is log π_θ,
`rollout_logp` log π_old, `engine_logp` what the engine that sampled said, each f[B,T] and 0 outside `mask` b[B,T].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unigrad.estimator.part import part

MAX_LOG_RATIO = 20.0
"""Ratios are kept below exp(20), as verl does: beyond it a weight is noise, and float32 would soon overflow."""


def ratio_of(log_ratio: Tensor) -> Tensor:
    """exp(log_ratio), bounded by exp(`MAX_LOG_RATIO`)."""
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()


@part("π_θ")
def current(logp: Tensor) -> Tensor:
    """π_ref = π_θ: the ratio is 1 (SFT, REINFORCE: ∇π_θ/π_θ = ∇log π_θ, Eq. 15). f[B,T]."""
    return torch.zeros_like(logp)


@part("π_old")
def rollout(logp: Tensor, rollout_logp: Tensor) -> Tensor:
    """π_ref = π_old, the policy that sampled: importance sampling by token (the PPO family, Eq. 16–18). f[B,T].

    A token's ratio leaves out how likely its prefix was: off-policy the gradient is biased (§3.3), not `trajectory`'s.
    """
    return logp - rollout_logp


@part("π_θ·(π_old(τ)/π_θ(τ))^(1/|τ|)")
def sequence(logp: Tensor, rollout_logp: Tensor, mask: Tensor) -> Tensor:
    """GSPO's s = (π_θ(τ)/π_old(τ))^(1/|τ|) for each token of the row: GSPO-token (Zheng et al., 2025). f[B,T]."""
    mean = (logp - rollout_logp).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return mean.expand_as(logp)


@part("π_θ·π_old(τ)/π_θ(τ)")
def trajectory(logp: Tensor, rollout_logp: Tensor) -> Tensor:
    """The row's whole ratio π_θ(τ)/π_old(τ): exact importance sampling (Eq. 3, Lemma A3). f[B,T].

    Unbiased under any sampler that covers π_θ, with a variance that grows exponentially with the length.
    """
    return (logp - rollout_logp).sum(dim=1, keepdim=True).expand_as(logp)


@part("1")
def one(logp: Tensor) -> Tensor:
    """π_ref ≡ 1, where nobody knows the demonstrations' policy: the ratio is π_θ itself (SRFT, Eq. 19–20). f[B,T]."""
    return logp


@part("(π_θ+γ)²/γ")
def shaped(logp: Tensor, *, shaping_gamma: float) -> Tensor:
    """LUFFY's policy shaping (Yan et al., 2025, arXiv:2504.14945): the ratio is π_θ·f'(π_θ). f[B,T].

    With f(x) = x/(x+γ), f'(x) = γ/(x+γ)²: unlikely tokens of a demonstration count more than under π_ref ≡ 1.
    """
    return logp + math.log(shaping_gamma) - 2 * torch.log(logp.exp() + shaping_gamma)


@part("1/(1−π_θ)")
def uncertain(logp: Tensor) -> Tensor:
    """CHORD's φ (Zhang et al., 2025, arXiv:2508.11408): the ratio is π_θ·(1 − π_θ). f[B,T].

    Largest where the policy is undecided about a demonstration's token; 0 for what it knows and for what it rules out.
    """
    return logp + torch.log1p(-logp.exp().clamp(max=1))


@part("π_θ/clip(π_θ/π_old)")
def capped(logp: Tensor, rollout_logp: Tensor, *, cap_low: float, cap_high: float) -> Tensor:
    """CISPO's clipped importance weight (MiniMax-M1, 2025, arXiv:2506.13585, Eq. 4–5): no token is dropped. f[B,T].

    The ratio is kept within [1 − `cap_low`, 1 + `cap_high`] as in the paper and verl; `cap_low` 1: no bound, as in the
    paper's runs. TRL's `epsilon_high` is the absolute maximum: give `cap_high` = epsilon_high − 1.
    """
    log_ratio = (logp - rollout_logp).clamp(max=math.log1p(cap_high))
    return log_ratio.clamp(min=math.log1p(-cap_low)) if cap_low < 1 else log_ratio


@part("min(π_old/π_engine, C)", switch="engine_cap")
def truncated(rollout_logp: Tensor, engine_logp: Tensor, *, engine_cap: float) -> Tensor:
    """Truncated importance sampling for an engine that differs from the trainer (Yao et al., 2025). f[B,T].

    A factor on the weight after the masks, so that clips compare π_θ with the trainer's π_old, as in verl and TRL.
    """
    return (rollout_logp - engine_logp).clamp(max=math.log(engine_cap))
