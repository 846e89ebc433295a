"""Advantage estimates, Â of Eq. 6: how much better a trajectory is than its peers.

Shapes: B rows, T tokens. Every estimate reads `rewards` f[B] or `solved` f[B] (1 or 0), where it compares also `groups`
i[B] (one number a question), and gives f[B]. `on_policy` b[B] is False for demonstrations: a group has the statistics
of its on-policy rows unless the estimate says otherwise. `mask` b[B,T], `values` f[B,T] and `token_rewards` f[B,T] are
for those that look at tokens. A group of one, or of equal rewards, has advantage 0 wherever it is relative to it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unigrad.errors import ConfigError
from unigrad.estimator.part import When, part


def _only_centred(symbol: str) -> tuple[When, ...]:
    return (When("normalise_std", False, unread=("std_ddof", "std_epsilon", "std_over"), symbol=symbol),)


@part("1")
def one(solved: Tensor) -> Tensor:
    """Â ≡ 1: every trajectory is to be imitated (SFT, Eq. 12–15). f[B]."""
    return torch.ones_like(solved)


@part("±1")
def plus_minus_one(solved: Tensor) -> Tensor:
    """+1 where solved, else −1 (REINFORCE with a rule-based verifier, §3.3). f[B]."""
    return 2 * solved - 1


@part("R")
def reward(rewards: Tensor) -> Tensor:
    """The raw score, Â_RL of Eq. 4: no baseline. f[B]."""
    return rewards


def _group_sums(values: Tensor, groups: Tensor) -> Tensor:
    """Each row's sum of `values` f[B] over its group. f[B]."""
    _, index = torch.unique(groups, return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1 if index.numel() else 0, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, index, values)[index]


def _centred(rewards: Tensor, groups: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """R − mean over the group's `members` (b[B], or f[B] where a row counts several times), and their number. f[B]."""
    weight = members.to(rewards.dtype)
    count = _group_sums(weight, groups).clamp(min=1)
    centred = rewards - _group_sums(rewards * weight, groups) / count
    # Rounding leaves equal rewards such as 0.1 a few ulp off their mean, and a division by the std would blow that up.
    spread = _group_sums(weight * centred.abs(), groups) / count
    scale = _group_sums(weight * rewards.abs(), groups) / count
    flat = spread <= 8 * torch.finfo(rewards.dtype).eps * scale
    return torch.where((weight > 0) & ~flat, centred, 0.0), count


def _std(rewards: Tensor, groups: Tensor, members: Tensor, std_ddof: int) -> Tensor:
    """The std over the group's members, exactly 0 where their rewards are equal. f[B]."""
    centred, count = _centred(rewards, groups, members)
    return (_group_sums(members * centred.square(), groups) / (count - std_ddof).clamp(min=1)).sqrt()


def _zscores(
    rewards: Tensor, groups: Tensor, members: Tensor, std_groups: Tensor, std_ddof: int, std_epsilon: float
) -> Tensor:
    """(R − mean) / (std + ε) over the group's members; the std's groups may be others. f[B]."""
    return _divided(_centred(rewards, groups, members)[0], _std(rewards, std_groups, members, std_ddof) + std_epsilon)


def _over_batch(centred: Tensor, members: Tensor, std_epsilon: float) -> Tensor:
    """centred / (std + ε), the std of all members whatever their group. f[B]."""
    batch = torch.zeros_like(centred, dtype=torch.int64)
    return _divided(centred, _std(centred, batch, members, 1) + std_epsilon)


def _divided(centred: Tensor, divisor: Tensor) -> Tensor:
    """centred / divisor, and 0 where that would be 0/0. f[B]."""
    return torch.where(centred != 0, centred / divisor, 0.0)


def _whitened(values: Tensor, members: Tensor, std_epsilon: float) -> Tensor:
    """(value − mean) / (std + ε) over all members, whatever their group. f[B]."""
    batch = torch.zeros_like(values, dtype=torch.int64)
    return _zscores(values, batch, members, batch, 1, std_epsilon)


@part("R − mean(R)")
def group_centred(rewards: Tensor, groups: Tensor, on_policy: Tensor) -> Tensor:
    """R − mean over the on-policy group, undivided by its std (Dr. GRPO, Liu et al., 2025, arXiv:2503.20783). f[B]."""
    return _centred(rewards, groups, on_policy)[0]


@part("(R − mean(R)) / std(R)", when=_only_centred("R − mean(R)"))
def group_zscore(
    rewards: Tensor,
    groups: Tensor,
    on_policy: Tensor,
    *,
    std_ddof: Literal[0, 1],
    std_epsilon: float,
    std_over: Literal["group", "batch"],
    normalise_std: bool,
) -> Tensor:
    """(R − mean) / (std + ε) over the on-policy group (GRPO, Eq. 5 and 17). f[B].

    Conventions differ: `std_ddof` 1 is the sample's std (TRL, verl, oat), 0 the population's; ε is 1e-6 as in verl (TRL
    1e-4, oat 1e-8). `std_over` "batch" divides by the std of all rewards (Lite PPO, arXiv:2508.08221; TRL's
    `scale_rewards`). A group of one: 0, as in TRL (verl: R).
    """
    if not normalise_std:
        return _centred(rewards, groups, on_policy)[0]
    std_groups = groups if std_over == "group" else torch.zeros_like(groups)
    return _zscores(rewards, groups, on_policy, std_groups, std_ddof, std_epsilon)


@part("(R − mean(R_on∪off)) / std(R_on∪off)", when=_only_centred("R − mean(R_on∪off)"))
def union_zscore(
    rewards: Tensor, groups: Tensor, *, std_ddof: Literal[0, 1], std_epsilon: float, normalise_std: bool
) -> Tensor:
    """`group_zscore` over the group's rollouts and demonstrations alike (SRFT, LUFFY: Table 1). f[B].

    LUFFY's authors' code only centres: 3 failures and a correct demonstration have −0.25 and +0.75. SRFT's authors'
    code uses no group statistics on rollouts (+0.1·e^H where solved, else −1): not offered.
    """
    everyone = torch.ones_like(rewards, dtype=torch.bool)
    if not normalise_std:
        return _centred(rewards, groups, everyone)[0]
    return _zscores(rewards, groups, everyone, groups, std_ddof, std_epsilon)


@part("(R − mean(R_on)) / std(R_on)", when=_only_centred("R − mean(R_on)"))
def against_rollouts(
    rewards: Tensor,
    groups: Tensor,
    on_policy: Tensor,
    *,
    std_ddof: Literal[0, 1],
    std_epsilon: float,
    normalise_std: bool,
) -> Tensor:
    """The group's rollouts alone make the mean and the std for its demonstrations too (LUFFY's split advantages). f[B].

    Where the rollouts are equal the std counts as 1, as in the authors' code: a correct demonstration among failures
    has 1, among successes 0. Without a rollout: R.
    """
    within, count = _centred(rewards, groups, on_policy)
    baseline = _group_sums(torch.where(on_policy, rewards, 0.0), groups) / count
    centred = torch.where(on_policy, within, rewards - baseline)
    std = _std(rewards, groups, on_policy, std_ddof)
    return centred / (torch.where(std > 0, std, 1.0) + std_epsilon) if normalise_std else centred


@part("(R − mean(R)) / mean(R)")
def over_mean(rewards: Tensor, groups: Tensor, on_policy: Tensor) -> Tensor:
    """(R − mean) / mean over the on-policy group, 0 where nothing is solved (MaxRL, 2026, arXiv:2602.02710). f[B].

    Summed over rows of N rewards in {0, 1} it expects ∇ of the first N − 1 terms of log p = −Σ_k (1 − p)^k / k, whose
    first is GRPO's p. Raises ConfigError on a reward below 0, by which the mean would mean nothing.
    """
    lowest = torch.where(on_policy, rewards, 0.0).amin() if len(rewards) else 0.0
    if lowest < 0:
        raise ConfigError(f"maxrl divides by a group's mean reward: rewards must be at least 0, not {float(lowest):g}")
    centred, count = _centred(rewards, groups, on_policy)
    return _divided(centred, _group_sums(torch.where(on_policy, rewards, 0.0), groups) / count)


@part("R − mean(R of the others)", when=[When("normalise_advantages", False, unread=("std_epsilon",))])
def leave_one_out(
    rewards: Tensor, groups: Tensor, on_policy: Tensor, *, normalise_advantages: bool, std_epsilon: float
) -> Tensor:
    """R − mean of the group's OTHER on-policy rows, an unbiased baseline (RLOO, Ahmadian et al., 2024). f[B].

    A group of one has no others: 0, as in TRL (verl: R). `normalise_advantages` is TRL's: these sum to 0 in each group,
    so that dividing by the batch's std is all of it.
    """
    centred, count = _centred(rewards, groups, on_policy)
    advantages = centred * count / (count - 1).clamp(min=1)
    return _over_batch(advantages, on_policy, std_epsilon) if normalise_advantages else advantages


@part("(R − mean(R_batch)) / std(R_batch)")
def reinforce_pp(
    rewards: Tensor,
    on_policy: Tensor,
    mask: Tensor | None = None,
    token_rewards: Tensor | None = None,
    *,
    std_epsilon: float,
    batch_statistics: Literal["rows", "tokens"],
    discount: float | None,
) -> Tensor:
    """(R − mean) / (std + ε) over the batch's on-policy rows (REINFORCE++, Hu et al., 2025, arXiv:2501.03262). f[B].

    `batch_statistics` "tokens" counts a row once a token, as verl and OpenRLHF do, and needs the mask. `discount` γ
    makes R a token's own return, Σ_l γ^l r_{t+l}, the statistics the tokens' and the result f[B,T]: verl's `gamma`;
    with a KL in the reward, 1 is the paper's. Holes are skipped; in verl the tokens before one have return 0.
    """
    if batch_statistics == "rows" and discount is None:
        return _whitened(rewards, on_policy, std_epsilon)
    if mask is None or token_rewards is None:
        what = "discount" if discount is not None else "batch_statistics='tokens'"
        raise ValueError(f"{what} needs the mask")
    if discount is None:
        return _whitened(rewards, on_policy * mask.sum(dim=1), std_epsilon)
    returns = _discounted_sums(token_rewards, mask, discount)
    whitened = _whitened(returns[mask], on_policy[:, None].expand_as(mask)[mask], std_epsilon)
    return torch.zeros_like(returns).masked_scatter(mask, whitened)


@part("(R − mean(R)) / std(batch)")
def reinforce_pp_baseline(
    rewards: Tensor,
    groups: Tensor,
    on_policy: Tensor,
    mask: Tensor | None = None,
    *,
    std_epsilon: float,
    batch_statistics: Literal["rows", "tokens"],
) -> Tensor:
    """R − mean of the group, over the batch's std of that (REINFORCE++-baseline, Hu et al., 2025). f[B].

    The rows' batch mean of group-centred rewards is 0, so nothing is centred twice. By "tokens", as in verl, it is not,
    and groups of equal rewards have a small advantage.
    """
    centred = _centred(rewards, groups, on_policy)[0]
    if batch_statistics == "rows":
        return _over_batch(centred, on_policy, std_epsilon)
    if mask is None:
        raise ValueError("batch_statistics='tokens' needs the mask")
    return _whitened(centred, on_policy * mask.sum(dim=1), std_epsilon)


@part("pass@k(R)")
def pass_at_k(solved: Tensor, groups: Tensor, on_policy: Tensor, *, pass_k: int) -> Tensor:
    """The analytic advantage of pass@k training (Chen et al., 2025, arXiv:2508.10751). f[B].

    z-scores of all groups of k, averaged over those that hold the row: with N on-policy rows, N⁻ of them unsolved,
    R̄ = 1 − C(N⁻,k)/C(N,k) and σ² = R̄(1 − R̄), Â is (1 − R̄)/σ for a solved row and
    (1 − R̄ − C(N⁻−1,k−1)/C(N−1,k−1))/σ for another. 0 where N ≤ k or σ is 0.
    """
    count = _group_sums(on_policy.to(solved.dtype), groups)
    unsolved = _group_sums(on_policy * (1 - solved), groups)
    all_fail, others_fail = torch.ones_like(solved), torch.ones_like(solved)
    for drawn in range(pass_k):
        all_fail = all_fail * ((unsolved - drawn) / (count - drawn).clamp(min=1)).clamp(min=0)
        if drawn:
            others_fail = others_fail * ((unsolved - drawn) / (count - drawn).clamp(min=1)).clamp(min=0)
    sigma = (all_fail * (1 - all_fail)).sqrt()
    advantage = torch.where(solved > 0, all_fail, all_fail - others_fail)
    return torch.where(on_policy & (count > pass_k) & (sigma > 0), advantage / sigma, 0.0)


@part("GAE")
def gae(
    token_rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float, whiten: bool
) -> Tensor:
    """Σ_l (γλ)^l δ_{t+l} with δ_t = r_t + γV_{t+1} − V_t (Schulman et al., 2015, arXiv:1506.02438, Eq. 16). f[B,T].

    After a row's last token V is 0. Holes in the mask (a tool's tokens) are skipped: the token before one continues
    with the token after it, as in verl. `whiten` gives the batch's tokens mean 0 and std 1 (always so in verl and TRL).
    """
    order = _tokens_first(mask)
    following = torch.zeros_like(values).scatter(1, order, _shifted(values.gather(1, order), 1))
    advantages = _discounted_sums(token_rewards + gamma * following - values, mask, gamma * gae_lambda)
    if not whiten:
        return advantages
    tokens = int(mask.sum())
    centred = torch.where(mask, advantages - advantages.sum() / max(tokens, 1), 0.0)
    return centred / ((centred.square().sum() / max(tokens - 1, 1)).sqrt() + 1e-8)


def _tokens_first(mask: Tensor) -> Tensor:
    """Columns i[B,T] that gather each row's tokens to its front in their order, so that holes are skipped."""
    return (~mask).int().argsort(dim=1, stable=True)


def _discounted_sums(values: Tensor, mask: Tensor, decay: float) -> Tensor:
    """Σ_l decay^l values_{t+l} over the row's tokens, values f[B,T] 0 outside the mask. f[B,T]."""
    order = _tokens_first(mask)
    sums, reach = values.gather(1, order), 1
    # Each round doubles how many values a sum holds.
    while reach < values.shape[1]:
        sums = sums + decay * _shifted(sums, reach)
        reach, decay = 2 * reach, decay**2
    return torch.zeros_like(values).scatter(1, order, sums)


def _shifted(values: Tensor, by: int) -> Tensor:
    """values f[B,T] of the token `by` further on, 0 beyond the end. f[B,T]."""
    return torch.nn.functional.pad(values[:, by:], (0, by))


def at_last_token(rewards: Tensor, mask: Tensor) -> Tensor:
    """Each row's reward f[B] on the last True of its mask b[B,T], 0 elsewhere and in a row without tokens. f[B,T]."""
    to_come = mask.flip(1).cumsum(1).flip(1)
    return torch.where(mask & (to_come == 1), rewards[:, None], 0.0)


def kl_in_reward(
    rewards: Tensor, rollout_logp: Tensor, reference_logp: Tensor, mask: Tensor, coefficient: float
) -> Tensor:
    """The reward f[B] on the last token, less coefficient · log(π_old/π_ref) at each (Ziegler et al., 2019). f[B,T].

    `Algorithm.advantages` takes it in place of the rewards, with the mask; estimates of one number a row read its sum.
    """
    inside = mask.bool()
    penalty = torch.where(inside, rollout_logp - reference_logp, 0.0)
    return at_last_token(rewards, inside) - coefficient * penalty
