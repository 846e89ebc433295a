"""Advantage estimates, Â of Eq. 6: how much better a trajectory is than its peers.

Shapes: B rows. Every estimate reads `rewards` f[B] and, where it compares, `groups` i[B] (rows of one question share a
number; they need not be neighbours) and gives f[B]. `on_policy` b[B] is False for demonstrations: statistics of a group
are those of its on-policy rows alone unless the estimate says otherwise.
A group of one, or of equal rewards, has advantage 0 wherever the estimate is relative to the group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unigrad.estimator.part import part


@part("1")
def one(rewards: Tensor) -> Tensor:
    """Â ≡ 1: every trajectory is to be imitated (SFT, Eq. 12–15). f[B]."""
    return torch.ones_like(rewards)


@part("±1")
def plus_minus_one(rewards: Tensor) -> Tensor:
    """+1 for a positive reward, else −1 (REINFORCE with a rule-based verifier, §3.3). f[B]."""
    return torch.where(rewards > 0, 1.0, -1.0).to(rewards.dtype)


def _group_sums(values: Tensor, groups: Tensor) -> Tensor:
    """Each row's sum of `values` f[B] over its group. f[B]."""
    _, index = torch.unique(groups, return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1 if index.numel() else 0, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, index, values)[index]


def _centred(rewards: Tensor, groups: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """R − mean over the group's members, exactly 0 where their rewards are equal; and how many they are. f[B]."""
    weight = members.to(rewards.dtype)
    count = _group_sums(weight, groups).clamp(min=1)
    centred = rewards - _group_sums(rewards * weight, groups) / count
    # Rounding leaves equal rewards such as 0.1 a few ulp off their mean, and a division by the std would blow that up.
    spread = _group_sums(weight * centred.abs(), groups) / count
    scale = _group_sums(weight * rewards.abs(), groups) / count
    flat = spread <= 8 * torch.finfo(rewards.dtype).eps * scale
    return torch.where(flat & members, 0.0, centred), count


@part("R − mean(R)")
def group_centred(rewards: Tensor, groups: Tensor, on_policy: Tensor) -> Tensor:
    """R − mean over the on-policy group: no division by the std (Dr. GRPO, Liu et al., 2025). f[B]."""
    centred, count = _centred(rewards, groups, on_policy)
    return torch.where(on_policy & (count > 1), centred, 0.0)


@part("(R − mean(R)) / std(R)")
def group_zscore(
    rewards: Tensor, groups: Tensor, on_policy: Tensor, *, std_ddof: int = 1, std_epsilon: float = 1e-6
) -> Tensor:
    """(R − mean) / (std + ε) over the on-policy group (GRPO, Eq. 5 and 17). f[B].

    Conventions differ: `std_ddof` 1 is the sample standard deviation (TRL, verl and oat), 0 the population's; ε is 1e-6
    as in verl (TRL 1e-4, oat 1e-8).
    """
    centred, count = _centred(rewards, groups, on_policy)
    squares = _group_sums(torch.where(on_policy, centred.square(), 0.0), groups)
    std = (squares / (count - std_ddof).clamp(min=1)).sqrt()
    # Where all is equal, and ε is 0, the quotient is 0/0.
    return torch.where(on_policy & (count > 1) & (centred != 0), centred / (std + std_epsilon), 0.0)
