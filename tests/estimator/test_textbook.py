"""Every registered algorithm against autograd of its textbook loss, written out here from the cited paper.

One test for all: an algorithm that is registered without a textbook loss below fails it.

Shapes: B rows, T tokens. Each textbook loss is a function of (logp, old_logp, rewards, groups, mask) built of torch
primitives only; its gradient must equal −normaliser · w to 1e-10 in float64. The batches are ragged and reach every
branch: ratios far inside and outside the clip range on both sides, groups of equal rewards, groups of one, uneven groups, rows
without a token.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unigrad.estimator import algorithm, algorithm_names

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def row_mean_then_mean(token_losses: Tensor, mask: Tensor) -> Tensor:
    """Eq. 16: (1/B) Σ_i (1/|τ_i|) Σ_t; a row without tokens counts as a row."""
    return ((token_losses * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def zscores(rewards: Tensor, groups: Tensor) -> Tensor:
    """Eq. 5 with the sample std and ε = 1e-6; 0 for groups of one."""
    out = torch.zeros_like(rewards)
    for group in groups.unique():
        members = rewards[groups == group]
        if len(members) > 1:
            out[groups == group] = (members - members.mean()) / (members.std() + 1e-6)
    return out


def centred(rewards: Tensor, groups: Tensor) -> Tensor:
    out = torch.zeros_like(rewards)
    for group in groups.unique():
        members = rewards[groups == group]
        out[groups == group] = members - members.mean()
    return out


def clipped(logp: Tensor, old: Tensor, advantages: Tensor, low: float = 0.2, high: float = 0.2) -> Tensor:
    """−min(r·A, clip(r, 1−low, 1+high)·A), Schulman et al. 2017, Eq. 7."""
    ratio = (logp - old).exp()
    advantages = advantages[:, None]
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def sft(logp: Tensor, old: Tensor, rewards: Tensor, groups: Tensor, mask: Tensor) -> Tensor:
    return row_mean_then_mean(-logp, mask)


def reinforce(logp: Tensor, old: Tensor, rewards: Tensor, groups: Tensor, mask: Tensor) -> Tensor:
    signs = torch.where(rewards > 0, 1.0, -1.0)[:, None]
    return -(signs * logp * mask).sum() / len(logp)


def grpo(logp: Tensor, old: Tensor, rewards: Tensor, groups: Tensor, mask: Tensor) -> Tensor:
    return row_mean_then_mean(clipped(logp, old, zscores(rewards, groups)), mask)


def dr_grpo(logp: Tensor, old: Tensor, rewards: Tensor, groups: Tensor, mask: Tensor) -> Tensor:
    # (1/(B·L)) Σ_i Σ_t with L the default constant length.
    return (clipped(logp, old, centred(rewards, groups)) * mask).sum() / (len(logp) * 1024)


TEXTBOOK: dict[str, Loss] = {"sft": sft, "reinforce": reinforce, "grpo": grpo, "dr_grpo": dr_grpo}


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """logp, old logp f[B,T], rewards f[B], groups i[B], mask b[B,T]: ragged, with every special case."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.tensor([3, 3, 3, 3, 7, 7, 7, 1, 5, 5, 9, 9])  # sizes 4, 3, 1, 2, 2
    rewards = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 1, 1, 1, 0, 0], dtype=torch.float64)  # groups 5 and 9 are equal
    lengths = torch.tensor([7, 1, 4, 6, 2, 7, 3, 5, 7, 2, 0, 4])
    mask = torch.arange(7) < lengths[:, None]
    order = torch.randperm(len(groups), generator=generator)
    old = -torch.rand(12, 7, generator=generator, dtype=torch.float64) * 3 - 0.01
    # Log-ratios of ±0.05 stay inside the clip range, ±0.5 and ±2 leave it, on either side.
    steps = torch.tensor([-2.0, -0.5, -0.05, 0.0, 0.05, 0.5, 2.0], dtype=torch.float64)
    logp = old + steps[torch.randint(7, (12, 7), generator=generator)]
    return logp, old, rewards[order], groups[order], mask[order]


@pytest.mark.parametrize("name", algorithm_names())
@pytest.mark.parametrize("seed", range(5))
def test_gradient_of_the_textbook_loss_is_minus_normaliser_times_weight(name: str, seed: int) -> None:
    logp, old, rewards, groups, mask = batch(seed)
    alg = algorithm(name)
    advantages = alg.advantages(rewards, groups)
    weights = alg.weights(logp, old, advantages, mask)
    expected = -alg.normaliser(mask.sum(1))[:, None] * weights

    textbook_logp = logp.clone().requires_grad_()
    TEXTBOOK[name](textbook_logp, old, rewards, groups, mask).backward()
    assert textbook_logp.grad is not None
    torch.testing.assert_close(textbook_logp.grad, expected, rtol=0, atol=1e-10)

    own_logp = logp.clone().requires_grad_()
    alg.loss(own_logp, old, advantages, mask).backward()
    assert own_logp.grad is not None
    torch.testing.assert_close(own_logp.grad, expected, rtol=0, atol=1e-14)
    assert not weights.requires_grad
    assert (weights[~mask] == 0).all()


@pytest.mark.parametrize("name", ["grpo", "dr_grpo"])
def test_the_batches_reach_both_sides_of_the_clip(name: str) -> None:
    logp, old, rewards, groups, mask = batch(0)
    alg = algorithm(name)
    advantages = alg.advantages(rewards, groups)[:, None].expand_as(logp)
    weights = alg.weights(logp, old, advantages, mask)
    cut = mask & (weights == 0)
    for sign in (1, -1):
        assert (cut & (advantages.sign() == sign)).any()
        assert ((weights != 0) & (advantages.sign() == sign)).any()
    # Clipping is one-sided: far below the range a good token still trains, far above it a bad one does.
    ratio = (logp - old).exp()
    assert (weights[mask & (advantages > 0) & (ratio < 0.7)] != 0).all()
    assert (weights[mask & (advantages < 0) & (ratio > 1.5)] != 0).all()
