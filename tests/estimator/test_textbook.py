"""Every registered algorithm against autograd of its textbook loss, written out here from the cited paper.

One test for all: an algorithm that is registered without a textbook loss below fails it.

Shapes: B rows, T tokens. Each textbook loss is a function of (logp, batch) built of torch primitives only; its gradient
must equal −normaliser · w to 1e-10 in float64. The batches are ragged and reach every branch: ratios far inside and
outside the clip range on both sides, groups of equal rewards, groups of one, uneven groups, rows without a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from unigrad.estimator import algorithm, algorithm_names


@dataclass
class Batch:
    logp: Tensor
    old: Tensor
    rewards: Tensor
    groups: Tensor
    mask: Tensor
    reference: Tensor
    engine: Tensor
    entropy: Tensor
    values: Tensor

    @property
    def optional(self) -> dict[str, Tensor]:
        return {
            "reference_logp": self.reference,
            "engine_logp": self.engine,
            "entropy": self.entropy,
            "groups": self.groups,
        }


Loss = Callable[[Tensor, Batch], Tensor]


# How token losses are averaged, in the papers' own words.


def row_mean_then_mean(token_losses: Tensor, mask: Tensor) -> Tensor:
    """Eq. 16: (1/B) Σ_i (1/|τ_i|) Σ_t; a row without tokens counts as a row."""
    return ((token_losses * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def token_mean(token_losses: Tensor, mask: Tensor) -> Tensor:
    """DAPO, Eq. 8: 1/Σ|τ_i| Σ_i Σ_t."""
    return token_losses[mask].mean()


def row_sum_then_mean(token_losses: Tensor, mask: Tensor) -> Tensor:
    return (token_losses * mask).sum(1).mean()


# Advantages, one number a row [B,1].


def zscores(b: Batch) -> Tensor:
    """Eq. 5 with the sample std and ε = 1e-6; 0 for groups of one."""
    out = torch.zeros_like(b.rewards)
    for group in b.groups.unique():
        members = b.rewards[b.groups == group]
        if len(members) > 1:
            out[b.groups == group] = (members - members.mean()) / (members.std() + 1e-6)
    return out[:, None]


def centred(b: Batch) -> Tensor:
    out = torch.zeros_like(b.rewards)
    for group in b.groups.unique():
        members = b.rewards[b.groups == group]
        out[b.groups == group] = members - members.mean()
    return out[:, None]


def minus_mean_of_the_others(b: Batch) -> Tensor:
    out = torch.zeros_like(b.rewards)
    for i in range(len(b.rewards)):
        others = [b.rewards[j] for j in range(len(b.rewards)) if j != i and b.groups[j] == b.groups[i]]
        if others:
            out[i] = b.rewards[i] - torch.stack(others).mean()
    return out[:, None]


def batch_zscores(b: Batch) -> Tensor:
    return ((b.rewards - b.rewards.mean()) / (b.rewards.std() + 1e-6))[:, None]


def batch_zscores_by_token(b: Batch) -> Tensor:
    """verl: whitening of the rewards spread over their tokens, unbiased variance."""
    spread = b.rewards[:, None].expand_as(b.logp)
    tokens = spread[b.mask]
    return (spread - tokens.mean()) / (tokens.std() + 1e-6)


def centred_over_batch_std(b: Batch) -> Tensor:
    return centred(b) / (centred(b).std() + 1e-6)


def batch_scaled(b: Batch) -> Tensor:
    """TRL's scale_rewards="batch": the group's mean, the std of all rewards."""
    return centred(b) / (b.rewards.std() + 1e-6)


def normalised_rloo(b: Batch) -> Tensor:
    """TRL's normalize_advantages, ε = 1e-6."""
    advantages = minus_mean_of_the_others(b)
    return (advantages - advantages.mean()) / (advantages.std() + 1e-6)


def discounted_returns(gamma: float) -> Callable[[Batch], Tensor]:
    """verl: whitened returns of tokens, γ^(tokens to go) · R."""

    def advantages(b: Batch) -> Tensor:
        to_go = b.mask.sum(1, keepdim=True) - 1 - torch.arange(b.mask.shape[1])
        returns = b.rewards[:, None] * gamma ** to_go.double()
        tokens = returns[b.mask]
        return (returns - tokens.mean()) / (tokens.std() + 1e-6)

    return advantages


def centred_then_whitened_by_token(b: Batch) -> Tensor:
    """verl's reinforce_plus_plus_baseline, but for groups of one (here 0)."""
    spread = centred(b).expand_as(b.logp)
    tokens = spread[b.mask]
    return (spread - tokens.mean()) / (tokens.std() + 1e-6)


def over_mean(b: Batch) -> Tensor:
    """MaxRL: (R − r̂)/r̂ where r̂ > 0."""
    out = torch.zeros_like(b.rewards)
    for group in b.groups.unique():
        members = b.rewards[b.groups == group]
        if members.mean() > 0:
            out[b.groups == group] = members / members.mean() - 1
    return out[:, None]


def pass_at_k(k: int) -> Callable[[Batch], Tensor]:
    """Pass@k training's bootstrap in full: every k of the group's rollouts are a team that shares its best reward;
    teams' rewards are z-scored (population std), and a rollout has the mean over the teams it is in."""

    def advantages(b: Batch) -> Tensor:
        out = torch.zeros_like(b.rewards)
        for group in b.groups.unique():
            rows = (b.groups == group).nonzero()[:, 0].tolist()
            teams = list(combinations(rows, k))
            if not teams:
                continue
            best = torch.stack([b.rewards[list(team)].max() for team in teams])
            std = best.std(correction=0)
            if std > 0:
                for row in rows:
                    mine = torch.tensor([row in team for team in teams])
                    out[row] = ((best[mine] - best.mean()) / std).mean()
        return out[:, None]

    return advantages


def gae(b: Batch) -> Tensor:
    """Σ_l (γλ)^l δ_{t+l}, with γ = 1, λ = 0.95, V = 0 after the last token, where the reward is."""
    out = torch.zeros_like(b.logp)
    for i, length in enumerate(b.mask.sum(1).tolist()):
        v = [*b.values[i, :length], torch.tensor(0.0)]
        deltas = [(b.rewards[i] if t == length - 1 else 0.0) + v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            out[i, t] = sum(0.95 ** (s - t) * deltas[s] for s in range(t, length))
    return out


def whitened_gae(b: Batch) -> Tensor:
    advantages = gae(b)
    tokens = advantages[b.mask]
    return (advantages - tokens.mean()) / (tokens.std() + 1e-8)


# Token losses [B,T].


def clipped(
    logp: Tensor, old: Tensor, advantages: Tensor, low: float = 0.2, high: float = 0.2, dual: float | None = None
) -> Tensor:
    """−min(r·A, clip(r, 1−low, 1+high)·A), Schulman et al. 2017, Eq. 7; dual clip: Ye et al. 2020, Eq. 5."""
    ratio = (logp - old).exp()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)
    if dual is not None:
        objective = torch.where(advantages < 0, torch.maximum(objective, dual * advantages), objective)
    return -objective


def clip_loss(
    advantages: Callable[[Batch], Tensor], aggregate: Callable[[Tensor, Tensor], Tensor], **clip: Any
) -> Loss:
    return lambda logp, b: aggregate(clipped(logp, b.old, advantages(b), **clip), b.mask)


def sft(logp: Tensor, b: Batch) -> Tensor:
    return row_mean_then_mean(-logp, b.mask)


def reinforce(logp: Tensor, b: Batch) -> Tensor:
    signs = torch.where(b.rewards > 0, 1.0, -1.0)[:, None]
    return -(signs * logp * b.mask).sum() / len(logp)


def dr_grpo(logp: Tensor, b: Batch) -> Tensor:
    # (1/(B·L)) Σ_i Σ_t with L the default constant length.
    return (clipped(logp, b.old, centred(b)) * b.mask).sum() / (len(logp) * 1024)


def rloo(advantages: Callable[[Batch], Tensor] = minus_mean_of_the_others) -> Loss:
    return lambda logp, b: row_sum_then_mean(-(logp - b.old).exp() * advantages(b), b.mask)


def rloo_sequence(logp: Tensor, b: Batch) -> Tensor:
    """TRL's RLOO: PPO's clip of the exp of the SUM of log-ratios, mean over rows."""
    row_logp, row_old = ((each * b.mask).sum(1, keepdim=True) for each in (logp, b.old))
    return clipped(row_logp, row_old, minus_mean_of_the_others(b)).mean()


def cispo(low: float = -math.inf, high: float = 0.28, mask_low: float = math.inf, mask_high: float = math.inf) -> Loss:
    """MiniMax-M1, Eq. 4–7: sg(clip(r, 1−low, 1+high))·A·M·log π over all tokens."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        ratio = (logp - b.old).exp().detach()
        advantages = zscores(b)
        dropped = ((advantages > 0) & (ratio > 1 + mask_high)) | ((advantages < 0) & (ratio < 1 - mask_low))
        return token_mean(-ratio.clamp(low, 1 + high) * advantages * ~dropped * logp, b.mask)

    return loss


def row_losses(logp: Tensor, b: Batch, low: float, high: float) -> Tensor:
    """Zheng et al. 2025: s = (π_θ(τ)/π_old(τ))^(1/|τ|), clipped; s is differentiated. f[B,1]."""
    log_ratio = ((logp - b.old) * b.mask).sum(1, keepdim=True) / b.mask.sum(1, keepdim=True).clamp(min=1)
    return clipped(log_ratio, torch.zeros_like(log_ratio), zscores(b), low, high)


def gspo(logp: Tensor, b: Batch) -> Tensor:
    return row_losses(logp, b, 3e-4, 4e-4).mean()


def luspo(logp: Tensor, b: Batch) -> Tensor:
    """Liu et al. 2026: GSPO's loss of each row times its length."""
    return (row_losses(logp, b, 2e-3, 2.5e-3) * b.mask.sum(1, keepdim=True)).mean()


def sapo(tau_pos: float, tau_neg: float) -> Loss:
    """Gao et al. 2025: σ(τ(r − 1))·4/τ in place of the clipped ratio, τ by the advantage's sign."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        tau = torch.where(zscores(b) > 0, torch.tensor(tau_pos, dtype=torch.float64), tau_neg)
        gate = torch.sigmoid(tau * ((logp - b.old).exp() - 1)) * 4 / tau
        return row_mean_then_mean(-gate * zscores(b), b.mask)

    return loss


def gmpo(low: float, high: float) -> Loss:
    """Zhao et al. 2025: (Π_t min(ρ_t^s, clip(ρ_t^s))^s)^(1/|τ|)·Â with s the sign of Â, in the log."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        sign = zscores(b).sign()
        log_ratio = logp - b.old
        taken = sign * torch.minimum(sign * log_ratio, sign * log_ratio.clamp(-low, high))
        mean = (taken * b.mask).sum(1, keepdim=True) / b.mask.sum(1, keepdim=True).clamp(min=1)
        return -(mean.exp() * zscores(b)).mean()

    return loss


def vespo(pos: tuple[float, float], neg: tuple[float, float]) -> Loss:
    """arXiv:2602.10693: −sg(W^k·e^(λ(1 − W)))·Â·log π over all tokens, W the row's whole ratio."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        w = ((logp - b.old) * b.mask).sum(1, keepdim=True).exp().detach()
        kernels = [w**k * torch.exp(decay * (1 - w)) for k, decay in (pos, neg)]
        return token_mean(-torch.where(zscores(b) >= 0, *kernels) * zscores(b) * logp, b.mask)

    return loss


def dppo(low: float, high: float, binary_kl: bool) -> Loss:
    """Qi et al. 2026: −sg(min(r, 20)·M)·Â·log π; M is 0 where the policy moved too far the way that Â drives it."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        p, q = logp.detach().exp(), b.old.exp()
        distance = (p - q).abs()
        if binary_kl:
            rest, old_rest = (1 - p).clamp(min=1e-8), (1 - q).clamp(min=1e-8)
            distance = q * (q / p).log() + old_rest * (old_rest / rest).log()
        too_far = torch.where(zscores(b) > 0, (p > q) & (distance > high), (p < q) & (distance > low))
        return token_mean(-(p / q).clamp(max=20) * ~too_far * zscores(b) * logp, b.mask)

    return loss


def covariances(logp: Tensor, b: Batch) -> Tensor:
    logp, advantages = logp.detach(), zscores(b).expand_as(logp)
    return (advantages - advantages[b.mask].mean()) * (logp - logp[b.mask].mean())


def clip_cov(logp: Tensor, b: Batch) -> Tensor:
    """Every token of covariance in (0.1, 5) that PPO does not clip already loses its gradient (share 1: no draw)."""
    cov = covariances(logp, b)
    losses = clipped(logp, b.old, zscores(b))
    return token_mean(torch.where((cov > 0.1) & (cov < 5), losses.detach(), losses), b.mask)


def kl_cov(logp: Tensor, b: Batch) -> Tensor:
    cov = torch.where(b.mask, covariances(logp, b), -math.inf)
    chosen = torch.zeros_like(b.mask)
    best = cov.flatten().topk(int(0.2 * b.mask.sum())).indices
    chosen.view(-1)[best] = True
    ratio = (logp - b.old).exp()
    return token_mean(-ratio * zscores(b) + chosen * 1.0 * (logp - b.old).abs(), b.mask)


def high_entropy(logp: Tensor, b: Batch) -> Tensor:
    tokens = b.entropy[b.mask].sort(descending=True).values
    threshold = tokens[math.ceil(0.2 * len(tokens)) - 1]
    losses = clipped(logp, b.old, zscores(b), 0.2, 0.28) * (b.entropy >= threshold)
    return token_mean(losses, b.mask)


def srft(logp: Tensor, b: Batch) -> Tensor:
    """Eq. 19."""
    return row_mean_then_mean(-logp.exp() * zscores(b), b.mask)


def luffy(shape: Callable[[Tensor], Tensor], low: float = -math.inf, high: float = math.inf) -> Loss:
    """Yan et al. 2025: f of the ratio with π_φ = 1, between its floor and its cap."""
    return lambda logp, b: token_mean(-shape(logp.exp()).clamp(low, high) * zscores(b), b.mask)


def p_div_p(gamma: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x / (x + gamma)


def mean_entropy(b: Batch) -> Tensor:
    return (b.entropy * b.mask).sum(1) / b.mask.sum(1).clamp(min=1)


def srft_sft(logp: Tensor, b: Batch) -> Tensor:
    """Fu et al. 2025: the log-likelihood, weighted by the detached 0.5·exp(−H)."""
    return row_mean_then_mean(-0.5 * torch.exp(-mean_entropy(b))[:, None] * logp, b.mask)


def srft_rollouts(logp: Tensor, b: Batch) -> Tensor:
    """The authors' code: −log π times 0.1·exp(H) where the reward is 1, times −1 elsewhere."""
    scale = torch.where(b.rewards > 0, 0.1 * mean_entropy(b).exp(), -1.0)
    return row_mean_then_mean(-scale[:, None] * logp, b.mask)


def chord_phi(logp: Tensor, b: Batch) -> Tensor:
    """Zhang et al. 2025: the SFT loss with token weights sg(p(1 − p)), a mean over tokens."""
    p = logp.detach().exp().clamp(max=1)  # some rows of the batch are no log-probs
    return token_mean(-p * (1 - p) * logp, b.mask)


def dft(logp: Tensor, b: Batch) -> Tensor:
    return token_mean(-logp.exp().detach() * logp, b.mask)


def dpo(logp: Tensor, b: Batch) -> Tensor:
    """Rafailov et al. 2023, Eq. 7: −log σ(β log-ratio of the winner − of the loser), mean over a group's pairs; a group
    weighs as many rows as it has."""
    scores = 0.1 * ((logp - b.reference) * b.mask).sum(1)
    total = logp.new_zeros(())
    for group in b.groups.unique():
        rows = ((b.groups == group) & b.mask.any(1)).nonzero()[:, 0].tolist()
        pairs = [(winner, loser) for winner in rows for loser in rows if b.rewards[winner] > b.rewards[loser]]
        losses = [-torch.nn.functional.logsigmoid(scores[winner] - scores[loser]) for winner, loser in pairs]
        if losses:
            total = total + len(rows) * torch.stack(losses).mean()
    return total / len(logp)


def kl_estimate(estimator: str, clamp: float, logp: Tensor, b: Batch) -> Tensor:
    d = logp - b.reference
    return {"k1": d, "k2": d**2 / 2, "k3": (-d).exp() - 1 + d, "abs": d.abs()}[estimator].clamp(max=clamp)


def with_kl(estimator: str, clamp: float = math.inf, corrected: bool = False) -> Loss:
    """corrected: times π_θ/π_old, differentiated too (DeepSeek-V3.2)."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        factor = (logp - b.old).exp() if corrected else 1.0
        kl = kl_estimate(estimator, clamp, logp, b)
        return row_mean_then_mean(clipped(logp, b.old, zscores(b)) + 0.5 * kl * factor, b.mask)

    return loss


def sft_with_kl(estimator: str, clamp: float = math.inf) -> Loss:
    """On demonstrations no ratio corrects it: nobody knows who wrote them."""
    return lambda logp, b: row_mean_then_mean(0.5 * kl_estimate(estimator, clamp, logp, b) - logp, b.mask)


def with_engine_cap(logp: Tensor, b: Batch) -> Tensor:
    """Truncated importance sampling: the PPO loss times sg(min(π_old/π_engine, C)), as in verl and TRL."""
    factor = (b.old - b.engine).exp().clamp(max=1.1)
    return row_mean_then_mean(clipped(logp, b.old, zscores(b)) * factor, b.mask)


def with_correction(by_sequence: bool, masked: bool, cap: float = 1.1) -> Loss:
    """The same factor by its four names: of a token or of the product over its row; capped, or 0 above the cap."""

    def loss(logp: Tensor, b: Batch) -> Tensor:
        ratio = (b.old - b.engine).exp()
        if by_sequence:
            ratio = torch.where(b.mask, ratio, 1.0).prod(1, keepdim=True)
        factor = torch.where(ratio > cap, 0.0, ratio) if masked else ratio.clamp(max=cap)
        return row_mean_then_mean(clipped(logp, b.old, zscores(b)) * factor, b.mask)

    return loss


def with_off_policy_mask(logp: Tensor, b: Batch) -> Tensor:
    """DeepSeek-V3.2: M = 0 where Â < 0 and (1/|τ|) Σ log(π_old/π_θ) > δ."""
    drift = ((b.old - logp.detach()) * b.mask).sum(1, keepdim=True) / b.mask.sum(1, keepdim=True).clamp(min=1)
    kept = ~((zscores(b) < 0) & (drift > 0.1))
    return row_mean_then_mean(clipped(logp, b.old, zscores(b)) * kept, b.mask)


def with_trust_region(logp: Tensor, b: Batch) -> Tensor:
    """§B.2: REINFORCE with r − λ·sg(log π_θ(τ)/π_ref(τ))."""
    signs = torch.where(b.rewards > 0, 1.0, -1.0)
    advantages = signs - 0.3 * ((logp.detach() - b.reference) * b.mask).sum(1)
    return row_sum_then_mean(-advantages[:, None] * logp, b.mask)


TEXTBOOK: list[tuple[str, dict[str, Any], Loss]] = [
    ("sft", {}, sft),
    ("reinforce", {}, reinforce),
    ("reinforce", {"trust_region": 0.3}, with_trust_region),
    ("ppo", {}, clip_loss(gae, token_mean)),
    ("ppo", {"whiten": True}, clip_loss(whitened_gae, token_mean)),
    ("grpo", {}, clip_loss(zscores, row_mean_then_mean)),
    ("grpo", {"dual_clip": 3.0}, clip_loss(zscores, row_mean_then_mean, dual=3.0)),
    ("sft", {"kl_coefficient": 0.5, "kl_estimator": "k2"}, sft_with_kl("k2")),
    ("sft", {"kl_coefficient": 0.5, "kl_clamp": 1.0}, sft_with_kl("k3", clamp=1.0)),
    ("grpo", {"kl_coefficient": 0.5, "kl_estimator": "k1"}, with_kl("k1")),
    ("grpo", {"kl_coefficient": 0.5, "kl_estimator": "k2"}, with_kl("k2")),
    ("grpo", {"kl_coefficient": 0.5, "kl_estimator": "k3"}, with_kl("k3")),
    ("grpo", {"kl_coefficient": 0.5, "kl_clamp": 1.0}, with_kl("k3", clamp=1.0)),
    ("grpo", {"kl_coefficient": 0.5, "kl_estimator": "abs"}, with_kl("abs")),
    ("grpo", {"kl_coefficient": 0.5, "kl_correction": True}, with_kl("k3", corrected=True)),
    ("grpo", {"kl_coefficient": 0.5, "kl_correction": True, "kl_clamp": 1.0}, with_kl("k3", 1.0, corrected=True)),
    ("grpo", {"kl_coefficient": 0.5, "kl_correction": True, "kl_estimator": "k2"}, with_kl("k2", corrected=True)),
    ("grpo", {"std_over": "batch"}, clip_loss(batch_scaled, row_mean_then_mean)),
    ("grpo", {"engine_cap": 1.1}, with_engine_cap),
    ("grpo", {"engine_cap": 1.1, "engine_correction": "token_truncate"}, with_correction(False, False)),
    ("grpo", {"engine_cap": 1.1, "engine_correction": "token_mask"}, with_correction(False, True)),
    ("grpo", {"engine_cap": 1.1, "engine_correction": "sequence_truncate"}, with_correction(True, False)),
    ("grpo", {"engine_cap": 1.1, "engine_correction": "sequence_mask"}, with_correction(True, True)),
    ("grpo", {"off_policy_delta": 0.1}, with_off_policy_mask),
    ("dr_grpo", {}, dr_grpo),
    ("dapo", {}, clip_loss(zscores, token_mean, high=0.28)),
    ("rloo", {}, rloo()),
    ("rloo", {"normalise_advantages": True}, rloo(normalised_rloo)),
    ("rloo_sequence", {}, rloo_sequence),
    ("reinforce_pp", {}, clip_loss(batch_zscores, token_mean)),
    ("reinforce_pp", {"batch_statistics": "tokens"}, clip_loss(batch_zscores_by_token, token_mean)),
    ("reinforce_pp", {"discount": 0.9}, clip_loss(discounted_returns(0.9), token_mean)),
    ("reinforce_pp_baseline", {}, clip_loss(centred_over_batch_std, token_mean)),
    (
        "reinforce_pp_baseline",
        {"batch_statistics": "tokens"},
        clip_loss(centred_then_whitened_by_token, token_mean),
    ),
    ("cispo", {}, cispo()),
    ("cispo", {"cap_low": 0.2, "mask_low": 0.6, "mask_high": 1.0}, cispo(1 - 0.2, 0.28, 0.6, 1.0)),
    ("gspo", {}, gspo),
    ("clip_cov", {"cov_share": 1.0, "cov_low": 0.1}, clip_cov),
    ("kl_cov", {"kl_cov_share": 0.2}, kl_cov),
    ("high_entropy", {}, high_entropy),
    ("pass_at_k", {"pass_k": 2}, clip_loss(pass_at_k(2), row_mean_then_mean)),
    ("maxrl", {}, clip_loss(over_mean, row_sum_then_mean)),
    ("sapo", {}, sapo(1.0, 1.05)),
    ("sapo", {"tau_pos": 0.5, "tau_neg": 3.0}, sapo(0.5, 3.0)),
    ("gmpo", {}, gmpo(0.4, 0.4)),
    ("gmpo", {"log_clip_low": 0.6, "log_clip_high": 0.01}, gmpo(0.6, 0.01)),
    ("luspo", {}, luspo),
    ("vespo", {}, vespo((2.0, 3.0), (3.0, 2.0))),
    (
        "vespo",
        {"vespo_k_pos": 0.5, "vespo_lambda_pos": 0.1, "vespo_k_neg": 1.0, "vespo_lambda_neg": 0.2},
        vespo((0.5, 0.1), (1.0, 0.2)),
    ),
    ("dppo", {}, dppo(0.2, 0.2, binary_kl=False)),
    ("dppo", {"divergence_low": 0.01, "divergence_high": 0.05}, dppo(0.01, 0.05, binary_kl=False)),
    ("dppo_kl", {}, dppo(0.05, 0.05, binary_kl=True)),
    ("dppo_kl", {"divergence_low": 0.001, "divergence_high": 0.2}, dppo(0.001, 0.2, binary_kl=True)),
    ("srft", {}, srft),
    ("srft_sft", {}, srft_sft),
    ("srft_rollouts", {}, srft_rollouts),
    ("luffy", {}, luffy(p_div_p(0.1))),
    ("luffy", {"shaping_gamma": 0.5}, luffy(p_div_p(0.5))),
    ("luffy", {"shaping": "no_reshape"}, luffy(lambda x: x)),
    ("luffy", {"shaping": "logp", "shaping_weight": 0.3}, luffy(lambda x: 0.3 * x.log())),
    ("luffy", {"shaping": "p_logp", "shaping_weight": 0.3}, luffy(lambda x: x + 0.3 * x.log())),
    ("luffy", {"shaping": "square_root", "shaping_power": 0.3}, luffy(lambda x: x.sqrt())),
    ("luffy", {"shaping": "pow", "shaping_power": 0.3}, luffy(lambda x: x**0.3)),
    ("luffy", {"off_policy_max_clip": 0.7, "off_policy_min_clip": 0.3}, luffy(p_div_p(0.1), 0.3, 0.7)),
    ("luffy_split", {}, luffy(p_div_p(0.1))),
    ("chord_phi", {}, chord_phi),
    ("dft", {}, dft),
    ("dpo", {}, dpo),
]


def batch(seed: int) -> Batch:
    """Ragged, with every special case."""
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(12, 7, generator=generator, dtype=torch.float64)

    groups = torch.tensor([3, 3, 3, 3, 7, 7, 7, 1, 5, 5, 9, 9])  # sizes 4, 3, 1, 2, 2
    rewards = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0], dtype=torch.float64)  # groups 5 and 9 are equal
    lengths = torch.tensor([7, 1, 4, 6, 2, 7, 3, 5, 7, 2, 0, 4])
    order = torch.randperm(len(groups), generator=generator)
    old = -uniform() * 3 - 0.01
    # Log-ratios of ±0.05 stay inside the clip range, ±0.5 and ±2 leave it, on either side.
    steps = torch.tensor([-2.0, -0.5, -0.05, 0.0, 0.05, 0.5, 2.0], dtype=torch.float64)
    return Batch(
        logp=old + steps[torch.randint(7, (12, 7), generator=generator)],
        old=old,
        rewards=rewards[order],
        groups=groups[order],
        mask=(torch.arange(7) < lengths[:, None])[order],
        reference=-uniform() * 3,
        engine=old + 0.4 * uniform() - 0.2,
        entropy=uniform(),
        values=uniform(),
    )


def test_every_registered_algorithm_has_its_textbook_loss() -> None:
    assert {name for name, _, _ in TEXTBOOK} == set(algorithm_names())


@pytest.mark.parametrize(("name", "options", "loss"), TEXTBOOK, ids=lambda each: "" if callable(each) else str(each))
@pytest.mark.parametrize("seed", range(5))
def test_gradient_of_the_textbook_loss_is_minus_normaliser_times_weight(
    seed: int, name: str, options: dict[str, Any], loss: Loss
) -> None:
    b = batch(seed)
    alg = algorithm(name, **options)
    advantages = alg.advantages(b.rewards, b.groups, values=b.values, mask=b.mask)
    weights = alg.weights(b.logp, b.old, advantages, b.mask, **b.optional)
    expected = -alg.normaliser(b.mask.sum(1))[:, None] * weights
    assert expected.any()

    textbook_logp = b.logp.clone().requires_grad_()
    loss(textbook_logp, b).backward()
    assert textbook_logp.grad is not None
    torch.testing.assert_close(textbook_logp.grad, expected, rtol=1e-12, atol=1e-10)

    own_logp = b.logp.clone().requires_grad_()
    alg.loss(own_logp, b.old, advantages, b.mask, **b.optional).backward()
    assert own_logp.grad is not None
    torch.testing.assert_close(own_logp.grad, expected, rtol=1e-14, atol=1e-14)
    assert not weights.requires_grad
    assert (weights[~b.mask] == 0).all()


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo"])
def test_the_batches_reach_both_sides_of_the_clip(name: str) -> None:
    b = batch(0)
    alg = algorithm(name)
    advantages = alg.advantages(b.rewards, b.groups)[:, None].expand_as(b.logp)
    weights = alg.weights(b.logp, b.old, advantages, b.mask)
    cut = b.mask & (weights == 0)
    for sign in (1, -1):
        assert (cut & (advantages.sign() == sign)).any()
        assert ((weights != 0) & (advantages.sign() == sign)).any()
    # Clipping is one-sided: far below the range a good token still trains, far above it a bad one does.
    ratio = (b.logp - b.old).exp()
    assert (weights[b.mask & (advantages > 0) & (ratio < 0.7)] != 0).all()
    assert (weights[b.mask & (advantages < 0) & (ratio > 1.5)] != 0).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gspo", {}),
        ("rloo_sequence", {}),
        ("clip_cov", {"cov_share": 1.0, "cov_low": 0.1}),
        ("high_entropy", {}),
        ("grpo", {"dual_clip": 3.0}),
        ("grpo", {"off_policy_delta": 0.1}),
        ("cispo", {"mask_low": 0.6, "mask_high": 1.0}),
        ("gmpo", {}),
        ("luspo", {}),
        ("dppo", {"divergence_low": 0.05, "divergence_high": 0.05}),
        ("dppo_kl", {}),
        ("luffy", {"off_policy_max_clip": 0.7}),
        ("luffy", {"off_policy_min_clip": 0.7}),
    ],
    ids=str,
)
def test_every_other_mask_cuts_some_tokens_and_leaves_some(name: str, options: dict[str, Any]) -> None:
    b = batch(0)
    alg = algorithm(name, **options)
    advantages = alg.advantages(b.rewards, b.groups)
    weights = alg.weights(b.logp, b.old, advantages, b.mask, **b.optional)
    trains = b.mask & (advantages != 0)[:, None]
    assert (weights[trains] == 0).any()
    assert (weights[trains] != 0).any()
