"""Stabilization masks, 1_stable of Eq. 6: which tokens may move the policy.

Shapes: B rows, T tokens. Every mask gives b[B,T]; an algorithm's are applied in their order. Statistics: `ratio` =
π_θ/π_ref, `advantages`, `logp`, `rollout_logp`, `entropy` f[B,T]; `mask`, the completions' tokens, and `stable`, those
that the masks before left, b[B,T].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unigrad.estimator.part import Part, part
from unigrad.estimator.references import UNREAD_BY_SHAPING, Shaping, shape


def _one_sided(moved: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """PPO's rule of any measure of how far π_θ has moved: a good token counts up to `high`, a bad one down to `low`."""
    return torch.where(advantages >= 0, moved <= high, moved >= low)


@part("clip")
def ppo_clip(
    ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float | None
) -> Tensor:
    """PPO's clip as a mask (§B.3, Eq. 21): 0 where min(r·A, clip(r, 1−low, 1+high)·A) is flat in r.

    A good token stops counting above 1 + `clip_high`, a bad one below 1 − `clip_low`: equal bounds are PPO (Schulman et
    al., 2017), a larger `clip_high` is DAPO's clip-higher. `dual_clip` c > 1 also stops a bad token above r = c (Ye et
    al., 2020, arXiv:1912.09729): 3 in verl, TRL's `delta`. `clip_low` 1 and `clip_high` inf never clip. b[B,T].
    """
    inside = _one_sided(ratio, advantages, 1 - clip_low, 1 + clip_high)
    return inside if dual_clip is None else inside & ((advantages >= 0) | (ratio <= dual_clip))


sequence_clip = Part("seq-clip", ppo_clip.function)
"""GSPO's clip: `ppo_clip` where the ratio is the row's own, so a row counts or drops out as a whole.

With an advantage a token, verl clips each by its own sign, as here; TRL averages the advantages over the row first.
"""


@part("CIS-mask")
def cispo_mask(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, *, mask_low: float | None, mask_high: float | None
) -> Tensor:
    """MiniMax-M1's token mask (arXiv:2506.13585, Eq. 6–7): PPO's clip of the uncapped ratio. b[B,T].

    None never masks on that side: that is CISPO itself.
    """
    log_ratio = logp - rollout_logp
    high = math.inf if mask_high is None else math.log1p(mask_high)
    low = -math.inf if mask_low is None or mask_low >= 1 else math.log1p(-mask_low)
    return _one_sided(log_ratio, advantages, low, high)


@part("log-clip")
def log_clip(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, *, log_clip_low: float, log_clip_high: float
) -> Tensor:
    """GMPO's clip of a token's own log-ratio, one-sided as PPO's (arXiv:2507.20673). b[B,T]."""
    return _one_sided(logp - rollout_logp, advantages, -log_clip_low, log_clip_high)


@part("TV-clip")
def tv_clip(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, *, divergence_low: float, divergence_high: float
) -> Tensor:
    """DPPO-Binary-TV (Qi et al., 2026, arXiv:2602.04879): PPO's clip of π_θ − π_old in place of the ratio. b[B,T].

    That is, signed, the total variation between the two policies where all other tokens count as one.
    """
    return _one_sided(logp.exp() - rollout_logp.exp(), advantages, -divergence_low, divergence_high)


@part("KL-clip")
def kl_clip(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, *, divergence_low: float, divergence_high: float
) -> Tensor:
    """DPPO-Binary-KL: as `tv_clip`, by KL(π_old‖π_θ) of the token against all others. b[B,T]."""
    others, old_others = ((-each.expm1()).clamp(min=1e-8) for each in (logp, rollout_logp))
    kl = rollout_logp.exp() * (rollout_logp - logp) + old_others * (old_others / others).log()
    risen, fallen = logp > rollout_logp, logp < rollout_logp
    return ~torch.where(advantages >= 0, risen & (kl > divergence_high), fallen & (kl > divergence_low))


@part("f≤max", switch="off_policy_max_clip", when=UNREAD_BY_SHAPING)
def shaped_max(
    logp: Tensor,
    *,
    off_policy_max_clip: float,
    shaping: Shaping,
    shaping_gamma: float,
    shaping_weight: float,
    shaping_power: float,
) -> Tensor:
    """LUFFY's cap of f(π_θ), flat above it whatever the advantage's sign. b[B,T]."""
    return shape(logp, shaping, shaping_gamma, shaping_weight, shaping_power)[0] <= off_policy_max_clip


@part("f≥min", switch="off_policy_min_clip", when=UNREAD_BY_SHAPING)
def shaped_min(
    logp: Tensor,
    *,
    off_policy_min_clip: float,
    shaping: Shaping,
    shaping_gamma: float,
    shaping_weight: float,
    shaping_power: float,
) -> Tensor:
    """LUFFY's floor of f(π_θ), flat below it. b[B,T]."""
    return shape(logp, shaping, shaping_gamma, shaping_weight, shaping_power)[0] >= off_policy_min_clip


@part("off-policy-mask", switch="off_policy_delta")
def off_policy_sequence(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, mask: Tensor, *, off_policy_delta: float
) -> Tensor:
    """DeepSeek-V3.2's (2025): a bad row stops counting once mean_t log(π_old/π_θ) > δ, π_old the engine's. b[B,T]."""
    drift = (rollout_logp - logp).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return (advantages >= 0) | (drift <= off_policy_delta)


@part("top-entropy", switch="high_entropy_share", whole_batch=True)
def high_entropy(entropy: Tensor, mask: Tensor, *, high_entropy_share: float) -> Tensor:
    """Only the batch's most uncertain tokens train (Wang et al., 2025, arXiv:2506.01939: a share of 0.2). b[B,T].

    At least one; equal entropies stay together. TRL's `top_entropy_quantile` is the same share.
    """
    tokens = entropy[mask]
    return entropy >= _largest(tokens, math.ceil(min(high_entropy_share, 1.0) * tokens.numel()))


@part("cov", switch="cov_share", whole_batch=True)
def clip_cov(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, mask: Tensor, stable: Tensor, *,
    cov_share: float, cov_low: float, cov_high: float, cov_seed: int,
) -> Tensor:  # fmt: skip
    """Clip-Cov (Cui et al., 2025, arXiv:2505.22617): drops a few random tokens of high covariance. b[B,T].

    Of the tokens that the masks before left, with a `covariance` strictly between the bounds, N·`cov_share` stop
    counting (N: all of the batch; at least one, as in the authors' code and verl). The draw is a hash of `cov_seed` and
    the token's own numbers, so that neither row order nor padding matters; equal tokens are drawn together.
    """
    cov = covariance(logp, advantages, mask)
    candidates = stable & (cov > cov_low) & (cov < cov_high)
    count = max(int(cov_share * int(mask.sum())), 1)
    lots = _lots(cov_seed, logp, rollout_logp, advantages)
    drawn = lots[candidates]
    if not drawn.numel():
        return torch.ones_like(mask)
    return ~(candidates & (lots >= _largest(drawn, count)))


def covariance(logp: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """(A − mean A)·(log π_θ − mean log π_θ), means over the batch's tokens (Cui et al., 2025). f[B,T]."""
    return (advantages - advantages[mask].mean()) * (logp - logp[mask].mean())


def largest_covariances(logp: Tensor, advantages: Tensor, mask: Tensor, share: float) -> Tensor:
    """The N·`share` tokens of largest covariance, at least one; equal ones stay together. b[B,T]."""
    cov = covariance(logp, advantages, mask)
    return mask & (cov >= _largest(cov[mask], int(share * int(mask.sum()))))


def _largest(values: Tensor, count: int) -> Tensor:
    """The `count`-th largest of values [N], `count` brought into 1..N; inf of none."""
    if not values.numel():
        return values.new_tensor(math.inf)
    count = min(max(count, 1), values.numel())
    return values.kthvalue(values.numel() - count + 1).values


def _lots(seed: int, *numbers: Tensor) -> Tensor:
    """A pseudo-random i[B,T] from each token's own numbers f[B,T]: splitmix64's mixing, in wrapping integers."""
    lots = torch.full_like(numbers[0], seed, dtype=torch.int64)
    for number in numbers:
        # + 0 makes one zero of +0 and −0.
        lots = lots * 31 + (number + 0.0).double().view(torch.int64)
        for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
            lots = (lots ^ ((lots >> shift) & ((1 << (64 - shift)) - 1))) * factor
        lots = lots ^ ((lots >> 31) & ((1 << 33) - 1))
    return lots
