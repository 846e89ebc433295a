"""A policy whose every trajectory can be listed, so that a gradient estimator's expectation and variance are exact.

Shapes: N trajectories, T tokens, S states (prefixes), V tokens of the vocabulary (the last one ends a trajectory),
C batches, G rows of a batch. θ is a table of logits f[S,V].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from unigrad.estimator import Algorithm


class Tree:
    """All token sequences over `vocabulary` tokens that stop at the end token or after `depth` tokens."""

    def __init__(self, vocabulary: int = 3, depth: int = 3) -> None:
        prefixes = [p for length in range(depth) for p in product(range(vocabulary - 1), repeat=length)]
        number = {prefix: state for state, prefix in enumerate(prefixes)}
        ended = [(*prefix, vocabulary - 1) for prefix in prefixes]
        full = list(product(range(vocabulary - 1), repeat=depth))
        self.trajectories = sorted(ended + full)
        self.shape = (len(prefixes), vocabulary)
        padding = [0] * depth
        rows = [(len(t), [number[t[:i]] for i in range(len(t))], list(t)) for t in self.trajectories]
        self.lengths_N = torch.tensor([length for length, _, _ in rows])
        self.states_NT = torch.tensor([(states + padding)[:depth] for _, states, _ in rows])
        self.tokens_NT = torch.tensor([(tokens + padding)[:depth] for _, _, tokens in rows])
        self.mask_NT = torch.arange(depth) < self.lengths_N[:, None]

    def logp(self, logits: Tensor) -> Tensor:
        """log π of each trajectory's tokens, 0 outside the mask, differentiable in logits f[S,V]. f[N,T]."""
        table = torch.log_softmax(logits, dim=-1)
        return torch.where(self.mask_NT, table[self.states_NT, self.tokens_NT], 0.0)

    def probabilities(self, logits: Tensor) -> Tensor:
        """π(τ), f[N], summing to 1."""
        return self.logp(logits).sum(dim=1).exp()

    def entropy(self, logits: Tensor) -> Tensor:
        """The policy's entropy where each token was chosen, f[N,T]."""
        table = torch.log_softmax(logits, dim=-1)
        return torch.where(self.mask_NT, -(table.exp() * table).sum(dim=-1)[self.states_NT], 0.0)

    def scores(self, logits: Tensor) -> Tensor:
        """∇_θ log π of each token: one-hot minus π, in the row of its state. f[N,T,S·V]."""
        table = torch.softmax(logits.detach(), dim=-1)
        gradients = torch.zeros(*self.mask_NT.shape, *self.shape, dtype=logits.dtype)
        n, t = self.mask_NT.nonzero(as_tuple=True)
        states = self.states_NT[n, t]
        gradients[n, t, states] = -table[states]
        gradients[n, t, states, self.tokens_NT[n, t]] += 1
        return gradients.flatten(start_dim=2)


@dataclass(frozen=True)
class Estimates:
    """The gradient estimate f[C,P] of every possible batch, and the batch's probability f[C]."""

    gradients: Tensor
    probabilities: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """f[P]."""
        return self.probabilities @ self.gradients

    @property
    def variance(self) -> float:
        """The trace of the covariance."""
        return float(self.probabilities @ (self.gradients - self.mean).square().sum(dim=1))

    def bias(self, exact: Tensor) -> float:
        """‖mean − exact‖, exact f[P]."""
        return float((self.mean - exact).norm())

    def mean_squared_error(self, exact: Tensor) -> float:
        """Bias² + variance."""
        return float(self.probabilities @ (self.gradients - exact).square().sum(dim=1))


def batches(tree: Tree, *draws: tuple[Tensor, int]) -> tuple[Tensor, Tensor]:
    """Every batch of `count` rows from each distribution f[N]: rows i[C,G] and their probabilities f[C].

    Rows of one draw are exchangeable, so each set of them stands once, with the probability of all its orders.
    """
    rows_CG, probabilities_C = torch.zeros(1, 0, dtype=torch.int64), torch.ones(1, dtype=draws[0][0].dtype)
    for distribution_N, count in draws:
        if not count:
            continue
        sets_KR = torch.combinations(torch.arange(len(tree.trajectories)), count, with_replacement=True)
        repeats_KN = torch.nn.functional.one_hot(sets_KR, len(tree.trajectories)).sum(dim=1)
        orders_K = math.factorial(count) / (repeats_KN + 1).to(distribution_N).lgamma().exp().prod(dim=1)
        chances_K = distribution_N[sets_KR].prod(dim=1) * orders_K
        rows_CG = torch.cat([rows_CG.repeat_interleave(len(sets_KR), 0), sets_KR.repeat(len(rows_CG), 1)], dim=1)
        probabilities_C = (probabilities_C[:, None] * chances_K).flatten()
    possible = probabilities_C > 0
    return rows_CG[possible], probabilities_C[possible]


def row_gradients(
    algorithm: Algorithm,
    tree: Tree,
    rows_CG: Tensor,
    *,
    logits: Tensor,
    rollout_logits: Tensor,
    rewards_N: Tensor,
    reference_logits: Tensor,
    values_NT: Tensor,
    on_policy_G: Tensor | None = None,
    advantages_from: Algorithm | None = None,
) -> Tensor:
    """normaliser · Σ_t w_t ∇log π_t of each row of each batch of G rows of one question; see `batches`. f[C,G,P].

    rewards f[N] and values f[N,T] by trajectory. on_policy b[G]: rows that are no demonstrations (None: all).
    advantages_from: the algorithm whose advantages the rows have (None: its own).
    """
    count, size = rows_CG.shape
    advantages_from = advantages_from or algorithm
    logp_NT, old_NT = tree.logp(logits).detach(), tree.logp(rollout_logits).detach()
    token = {"entropy": tree.entropy(logits).detach(), "reference_logp": tree.logp(reference_logits).detach()}
    scores_NTP = tree.scores(logits)
    on_policy_G = torch.ones(size, dtype=torch.bool) if on_policy_G is None else on_policy_G

    def some(batch: slice) -> Tensor:
        rows = rows_CG[batch].flatten()
        groups = torch.arange(len(rows_CG[batch])).repeat_interleave(size)
        mask = tree.mask_NT[rows]
        adv = advantages_from.advantages(
            rewards_N[rows], groups, on_policy_G.repeat(len(rows) // size), values=values_NT[rows], mask=mask
        )
        weights = algorithm.weights(
            logp_NT[rows], old_NT[rows], adv, mask, groups=groups, **{name: each[rows] for name, each in token.items()}
        )
        lengths = tree.lengths_N[rows].to(weights.dtype).reshape(-1, size)
        coefficients = torch.stack([algorithm.normaliser(each) for each in lengths]).flatten()
        gradients = torch.einsum("rt,rtp->rp", weights * coefficients[:, None], scores_NTP[rows])
        return gradients.reshape(-1, size, gradients.shape[1])

    # What compares tokens or rows across its batch must see one batch at a time.
    alone = algorithm.whole_batch or advantages_from.advantage.whole_batch
    pieces = [slice(c, c + 1) for c in range(count)] if alone else [slice(0, count)]
    return torch.cat([some(piece) for piece in pieces])
