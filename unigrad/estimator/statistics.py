"""What the parts read: the batch's statistics by name, checked, and 0 where there is no token.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from unigrad.estimator.advantages import at_last_token
from unigrad.estimator.part import Part
from unigrad.options import least_solved

Statistics = dict[str, Any]
"""Each a tensor, or None where it is not given."""
OPTIONAL = {
    "entropy": "the policy's entropy at each token, f[B,T]",
    "reference_logp": "log-probs of a frozen reference model, f[B,T]",
    "engine_logp": "log-probs that the rollout engine gave, f[B,T]",
    "groups": "question numbers, i[B]",
    "values": "the value head's estimates, f[B,T]",
    "mask": "the completions' tokens, b[B,T]",
}
"""What only some algorithms read; `Algorithm.needs` says which."""
AT_ADVANTAGES = ("groups", "rewards", "solved", "token_rewards", "on_policy", "values", "mask")
OF_TOKENS = ("entropy", "reference_logp", "engine_logp")
AT_WEIGHTS = ("groups", "logp", "rollout_logp", "advantages", "mask", "ratio", "stable", *OF_TOKENS)


def at_advantages(
    rewards: Tensor,
    groups: Tensor,
    on_policy: Tensor | None,
    values: Tensor | None,
    mask: Tensor | None,
    solved: Tensor | None,
) -> Statistics:
    """What an advantage reads; arguments and errors as of `Algorithm.advantages`."""
    _check("groups", groups, 1)
    if not rewards.is_floating_point():
        raise ValueError(f"rewards must be floating point, got {rewards.dtype}")
    rewards, token_rewards = rewards.detach(), None
    if mask is not None:
        _check("mask", mask, 2)
        _check("mask's rows", mask[:, 0] if mask.shape[1] else groups, 1, like=groups)
        mask = mask.bool()
    if rewards.dim() == 2:
        if mask is None:
            raise ValueError("rewards by token need the mask")
        _check("rewards", rewards, 2, like=mask)
        token_rewards = torch.where(mask, rewards, 0.0)
        rewards = token_rewards.sum(dim=1)
    _check("rewards", rewards, 1, like=groups)
    if token_rewards is None and mask is not None:
        token_rewards = at_last_token(rewards, mask)
    on_policy = torch.ones_like(rewards, dtype=torch.bool) if on_policy is None else on_policy
    _check("on_policy", on_policy, 1, like=rewards)
    if solved is None:
        solved = rewards >= least_solved()
    _check("solved", solved, 1, like=rewards)
    if values is not None and mask is not None:
        _check("values", values, 2, like=mask)
        values = torch.where(mask, values.detach().to(rewards.dtype), 0.0)
    given = (groups, rewards, solved.to(rewards.dtype), token_rewards, on_policy.bool(), values, mask)
    return dict(zip(AT_ADVANTAGES, given, strict=True))


def at_weights(
    logp: Tensor, rollout_logp: Tensor | None, adv: Tensor, mask: Tensor, groups: Tensor | None,
    optional: dict[str, Tensor | None],
) -> Statistics:  # fmt: skip
    """What the parts of a weight read; arguments and errors as of `Algorithm.weights`, `optional` all f[B,T]."""
    _check("logp", logp, 2)
    _check("mask", mask, 2, like=logp)
    inside = mask.bool()

    def tokens(name: str, values: Tensor) -> Tensor:
        _check(name, values, 2, like=logp)
        # Values outside the mask are padding: whatever they hold must not reach an exp or a sum.
        return torch.where(inside, values.detach().to(logp.dtype), 0.0)

    rows = logp[:, 0] if logp.shape[1] else logp.new_empty(len(logp))
    if adv.dim() != 2:
        _check("adv", adv, 1, like=rows)
        adv = adv[:, None].expand_as(logp)
    if groups is not None:
        _check("groups", groups, 1, like=rows)
    given = {name: None if values is None else tokens(name, values) for name, values in optional.items()}
    given["rollout_logp"] = tokens("rollout_logp", logp if rollout_logp is None else rollout_logp)
    return {**given, "logp": tokens("logp", logp), "advantages": tokens("adv", adv), "mask": inside, "groups": groups}


def require(algorithm: str, parts: Iterable[Part], statistics: Statistics) -> None:
    """Raises ValueError on a statistic that one of the algorithm's parts cannot do without and that is not given."""
    for each in parts:
        for name, required in each.statistics.items():
            if required and name in statistics and statistics[name] is None:
                name = "mask" if name == "token_rewards" else name
                raise ValueError(f"algorithm {algorithm!r} needs {name} ({OPTIONAL[name]}) for its {each.name}")


def _check(name: str, tensor: Tensor, rank: int, like: Tensor | None = None) -> None:
    if tensor.dim() != rank:
        raise ValueError(f"{name} must have rank {rank}, got shape {tuple(tensor.shape)}")
    if like is not None and tensor.shape != like.shape:
        raise ValueError(f"{name} must have shape {tuple(like.shape)}, got {tuple(tensor.shape)}")
