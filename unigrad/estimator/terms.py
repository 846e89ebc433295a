"""What joins Eq. 6's four parts once π_θ is known: penalties, as terms of the weight, and advantages that read π_θ.

Shapes: B rows, T tokens. Statistics: as of `references` and `masks`; `reference_logp` f[B,T] is of a frozen model. A
penalty gives minus its derivative by log π_θ f[B,T], which is added to the weight.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unigrad.estimator.masks import largest_covariances
from unigrad.estimator.part import When, part
from unigrad.estimator.references import ratio_of

KlEstimator = Literal["k1", "k2", "k3", "abs"]


def _kl(difference: Tensor, estimator: KlEstimator, clamp: float | None) -> tuple[Tensor, Tensor]:
    """A token's estimate of KL(π_θ‖π_ref) from d = log π_θ − log π_ref, and its derivative by log π_θ: f[B,T] both.

    Schulman's, with what the derivative expects on-policy: k1 = d: nothing; k2 = d²/2: ∇KL(π_θ‖π_ref); k3 =
    e^−d − 1 + d, GRPO's: ∇KL(π_ref‖π_θ); abs = |d|. In verl: kl, mse, low_var_kl, abs; `k3+` has k2's derivative.
    `clamp` makes k3 flat above it: 10 in verl, where no token below d = −2.6 feels the penalty.
    """
    if estimator == "k1":
        return difference, torch.ones_like(difference)
    if estimator == "k2":
        return difference.square() / 2, difference
    if estimator == "abs":
        return difference.abs(), difference.sign()
    inverse = ratio_of(-difference)
    value, slope = inverse - 1 + difference, 1 - inverse
    return (value, slope) if clamp is None else (value.clamp(max=clamp), torch.where(value > clamp, 0.0, slope))


_ONLY_K3_IS_CLAMPED = [When("kl_estimator", other, unread=("kl_clamp",)) for other in ("k1", "k2", "abs")]


@part(" − c·KL", switch="kl_coefficient", when=_ONLY_K3_IS_CLAMPED)
def kl_penalty(
    logp: Tensor,
    rollout_logp: Tensor,
    reference_logp: Tensor,
    *,
    kl_coefficient: float,
    kl_estimator: KlEstimator,
    kl_clamp: float | None,
    kl_correction: bool,
) -> Tensor:
    """−c times the derivative of a per-token estimate of KL(π_θ‖π_ref). f[B,T].

    `kl_correction` multiplies the estimate with π_θ/π_old (DeepSeek-V3.2; TRL's `use_bias_correction_kl`): k3's
    derivative is then r·d, whose expectation under π_old is a token's ∇KL(π_θ‖π_ref).
    """
    value, slope = _kl(logp - reference_logp, kl_estimator, kl_clamp)
    if kl_correction:
        slope = ratio_of(logp - rollout_logp) * (value + slope)
    return -kl_coefficient * slope


@part(" − c·KL", switch="kl_coefficient", when=_ONLY_K3_IS_CLAMPED)
def offline_kl(
    logp: Tensor,
    reference_logp: Tensor,
    *,
    kl_coefficient: float,
    kl_estimator: KlEstimator,
    kl_clamp: float | None,
) -> Tensor:
    """`kl_penalty` on what nobody knows the sampler of, so that no ratio could correct it. f[B,T]."""
    return -kl_coefficient * _kl(logp - reference_logp, kl_estimator, kl_clamp)[1]


@part(" − c·|log π_θ/π_old|·1_cov", switch="kl_cov_share", whole_batch=True)
def kl_cov(
    logp: Tensor,
    rollout_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    kl_cov_share: float,
    kl_cov_coefficient: float,
) -> Tensor:
    """KL-Cov (Cui et al., 2025, arXiv:2505.22617): the penalty c·|log π_θ/π_old| on few tokens, and no clip. f[B,T].

    They are the batch's N·`kl_cov_share` tokens of largest covariance, at least one (as in the authors' code and verl).
    """
    chosen = largest_covariances(logp, advantages, mask, kl_cov_share)
    return torch.where(chosen, -kl_cov_coefficient * (logp - rollout_logp).sign(), 0.0)


@part("{} − λ·log(π_θ(τ)/π_ref(τ))", switch="trust_region")
def trust_region(logp: Tensor, reference_logp: Tensor, advantages: Tensor, *, trust_region: float) -> Tensor:
    """Â − λ·log(π_θ(τ)/π_ref(τ)), λ = `trust_region` (§B.2): on-policy exactly −λ·∇KL(π_θ‖π_ref), of rows. f[B,T].

    π_ref is `reference_logp`'s; for TRPO's trust region give the rollouts' own log-probs there.
    """
    return advantages - trust_region * (logp - reference_logp).sum(dim=1, keepdim=True)


def _mean_entropy(entropy: Tensor, mask: Tensor) -> Tensor:
    """H of a row: the mean of its tokens' entropies, in nats. f[B,1]."""
    return entropy.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)


@part("{}·s·e^−H")
def certain_rows(advantages: Tensor, entropy: Tensor, mask: Tensor, *, sft_weight: float) -> Tensor:
    """Â·s·exp(−H), H the row's mean entropy: SRFT's weight of imitation (arXiv:2506.19767; s = 0.5). f[B,T]."""
    return advantages * sft_weight * torch.exp(-_mean_entropy(entropy, mask))


@part("{}·s·e^H where > 0")
def open_successes(advantages: Tensor, entropy: Tensor, mask: Tensor, *, success_weight: float) -> Tensor:
    """Â·s·exp(H) where Â > 0, else Â: SRFT's weight of solved rollouts against collapse (s = 0.1). f[B,T].

    (arXiv:2506.19767, as HPT's authors implement it: +0.1·e^H for a solved rollout, −1 for a failed one.)
    """
    # A policy over any vocabulary has H below 20; the bound keeps a stray statistic from overflowing.
    scale = success_weight * ratio_of(_mean_entropy(entropy, mask))
    return torch.where(advantages > 0, advantages * scale, advantages)


@part("±β·σ(−margin)", whole_batch=True)
def preference(
    logp: Tensor, reference_logp: Tensor, advantages: Tensor, mask: Tensor, groups: Tensor, *, dpo_beta: float
) -> Tensor:
    """DPO (Rafailov et al., 2023, arXiv:2305.18290, Eq. 7) as an advantage: ±β·σ(−m). f[B,T].

    + for a pair's winner and − for its loser, with m = β·(log π_θ/π_ref of the winner − of the loser) over whole rows.
    A group's pairs are all its rows of unequal advantage. With P pairs among its n rows each counts n/P, so that 1/rows
    (`token_sum`) makes a mean over pairs where groups are pairs (TRL), and over questions where they are equally large.
    """
    empty = ~mask.any(dim=1)
    score_B = torch.where(mask, advantages, -torch.inf).amax(dim=1)
    together_BB = (groups[:, None] == groups) & ~empty[:, None] & ~empty
    wins_BB = together_BB & (score_B[:, None] > score_B)
    log_ratio_B = (logp - reference_logp).sum(dim=1)
    pull_BB = wins_BB * torch.sigmoid(-dpo_beta * (log_ratio_B[:, None] - log_ratio_B))
    rows_B = together_BB.sum(dim=1)
    pairs_B = (together_BB * wins_BB.sum(dim=1)).sum(dim=1).clamp(min=1)
    return (dpo_beta * (pull_BB.sum(dim=1) - pull_BB.sum(dim=0)) * rows_B / pairs_B)[:, None].expand_as(logp)
