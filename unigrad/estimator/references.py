"""Reference policies, π_ref of Eq. 6: the probability that a token's gradient is divided by.

Shapes: B rows, T tokens. Every reference gives log(π_θ/π_ref) f[B,T] at once: as a difference of log π_θ and log π_ref,
a sequence's ratio would lose in float32 the digits that its clip compares. Statistics: `logp` is log π_θ,
`rollout_logp` log π_old, `engine_logp` what the engine that sampled said, each f[B,T] and 0 outside `mask` b[B,T].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unigrad.estimator.part import When, part

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


Shaping = Literal["p_div_p", "no_reshape", "logp", "p_logp", "square_root", "pow"]


def shape(
    logp: Tensor, shaping: Shaping, shaping_gamma: float, shaping_weight: float, shaping_power: float
) -> tuple[Tensor, Tensor]:
    """f(x) and log(x·f'(x)) at x = π_θ, for the shapings of LUFFY's authors, by their names. f[B,T], f[B,T].

    p_div_p: x/(x+γ), where unlikely tokens of a demonstration count more than under π_ref ≡ 1; no_reshape: x; logp:
    w·log x; p_logp: x + w·log x; pow: x^e; square_root: x^½.
    """
    x = ratio_of(logp)
    if shaping == "p_div_p":
        return x / (x + shaping_gamma), logp + math.log(shaping_gamma) - 2 * torch.log(x + shaping_gamma)
    if shaping == "no_reshape":
        return x, logp
    if shaping == "logp":
        return shaping_weight * logp, torch.full_like(logp, math.log(shaping_weight))
    if shaping == "p_logp":
        return x + shaping_weight * logp, torch.log(x + shaping_weight)
    power = shaping_power if shaping == "pow" else 0.5
    return x**power, power * logp + math.log(power)


_READ = {
    "p_div_p": {"shaping_gamma"}, "no_reshape": set(), "logp": {"shaping_weight"}, "p_logp": {"shaping_weight"},
    "square_root": set(), "pow": {"shaping_power"},
}  # fmt: skip
UNREAD_BY_SHAPING = [
    When("shaping", name, unread=tuple(sorted({"shaping_gamma", "shaping_weight", "shaping_power"} - read)))
    for name, read in _READ.items()
]


@part("1/f'(π_θ)", when=UNREAD_BY_SHAPING)
def shaped(
    logp: Tensor, *, shaping: Shaping, shaping_gamma: float, shaping_weight: float, shaping_power: float
) -> Tensor:
    """LUFFY's policy shaping (Yan et al., 2025, arXiv:2504.14945): the ratio is π_θ·f'(π_θ), f of `shape`. f[B,T]."""
    return shape(logp, shaping, shaping_gamma, shaping_weight, shaping_power)[1]


@part("1/(1−π_θ)")
def uncertain(logp: Tensor) -> Tensor:
    """CHORD-φ (Zhang et al., 2025, arXiv:2508.11408): the ratio is π_θ·(1 − π_θ). f[B,T].

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


@part("π_old/4σ'(τ·(π_θ/π_old − 1))")
def soft_gate(logp: Tensor, rollout_logp: Tensor, advantages: Tensor, *, tau_pos: float, tau_neg: float) -> Tensor:
    """SAPO's gate in place of a clip (Gao et al., 2025, arXiv:2511.20347): r·4p(1 − p), p = σ(τ(r − 1)). f[B,T].

    The derivative of 4σ(τ(r − 1))/τ: 1 at r = 1, fading on either side, sooner for a bad token (τ_neg > τ_pos).
    """
    log_ratio = logp - rollout_logp
    gate = torch.where(advantages > 0, logp.new_tensor(tau_pos), tau_neg) * (ratio_of(log_ratio) - 1)
    return log_ratio + math.log(4) + logsigmoid(gate) + logsigmoid(-gate)


@part("π_θ/(Π clip(π_θ/π_old))^(1/|τ|)")
def geometric(
    logp: Tensor, rollout_logp: Tensor, advantages: Tensor, mask: Tensor, *, log_clip_low: float, log_clip_high: float
) -> Tensor:
    """GMPO (Zhao et al., 2025, arXiv:2507.20673): the geometric mean of the row's ratios, each clipped first. f[B,T].

    Clipped in the log, as in PPO on the side of the advantage's sign: to e^±0.4 in the paper. `masks.log_clip` drops
    those tokens.
    """
    log_ratio = logp - rollout_logp
    clipped = torch.where(advantages >= 0, log_ratio.clamp(max=log_clip_high), log_ratio.clamp(min=-log_clip_low))
    mean = torch.where(mask, clipped, 0.0).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return mean.expand_as(logp)


@part("π_θ/φ(π_θ(τ)/π_old(τ))")
def gamma_kernel(
    logp: Tensor,
    rollout_logp: Tensor,
    advantages: Tensor,
    *,
    vespo_k_pos: float,
    vespo_lambda_pos: float,
    vespo_k_neg: float,
    vespo_lambda_neg: float,
) -> Tensor:
    """VESPO's φ(W) = W^k·e^(λ(1 − W)) of the row's whole ratio W, 1 at W = 1 (2026, arXiv:2602.10693). f[B,T].

    W is against the policy that sampled; where an engine did, give its log-probs as `rollout_logp`.
    """
    log_w = (logp - rollout_logp).sum(dim=1, keepdim=True).clamp(max=MAX_LOG_RATIO)
    k = torch.where(advantages >= 0, logp.new_tensor(vespo_k_pos), vespo_k_neg)
    decay = torch.where(advantages >= 0, logp.new_tensor(vespo_lambda_pos), vespo_lambda_neg)
    return k * log_w + decay * (1 - log_w.exp())


Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
_CORRECTIONS = [
    When("engine_correction", "token_mask", unread=(), symbol="(π_old/π_engine ≤ C)"),
    When("engine_correction", "sequence_truncate", unread=(), symbol="min(π_old(τ)/π_engine(τ), C)"),
    When("engine_correction", "sequence_mask", unread=(), symbol="(π_old(τ)/π_engine(τ) ≤ C)"),
]


@part("min(π_old/π_engine, C)", switch="engine_cap", when=_CORRECTIONS)
def truncated(rollout_logp: Tensor, engine_logp: Tensor, *, engine_cap: float, engine_correction: Correction) -> Tensor:
    """Importance weights for an engine that differs from the trainer (Yao et al., 2025): log(π_old/π_engine). f[B,T].

    A factor on the weight after the masks, so that clips compare π_θ with the trainer's π_old, as in verl and TRL. It
    is of the token or, exact but of a variance that grows with the length, of the whole row, whose tokens all have it.
    Above C = `engine_cap` a truncated one counts as C, and what a masked one is of does not train: there π_engine was
    far too sure of something else. The modes bear TRL's names.
    """
    log_ratio = rollout_logp - engine_logp
    if engine_correction in ("sequence_truncate", "sequence_mask"):
        log_ratio = log_ratio.sum(dim=1, keepdim=True).expand_as(log_ratio)
    cap = math.log(engine_cap)
    if engine_correction in ("token_truncate", "sequence_truncate"):
        return log_ratio.clamp(max=cap)
    return torch.where(log_ratio <= cap, log_ratio, -math.inf)
