"""What an update says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unigrad.batch import Layout, MicroBatch, Rows
from unigrad.estimator.references import MAX_LOG_RATIO
from unigrad.policy import TokenStatistics

SUMMED = (
    "loss", "value_loss", "tokens", "entropy", "rollout_tokens", "mismatch", "mismatch_kl", "ratio", "ratio_squares",
    "clipped", "idle", "positions",
)  # fmt: skip


@dataclass(slots=True)
class UpdateReport:
    """Sums over the rows of one update, so that reports of several updates add up. A trajectory's tokens count once.

    loss: −Σ c_i Σ_t w_it log π_it (Eq. 13), less the entropy bonus. value_loss: Σ c_i Σ_t of the value head's.
    Over on-policy tokens, with r = π_θ/π_engine: mismatch: |log r|. mismatch_kl: r − 1 − log r, the k3 estimate of
    KL(engine‖π_θ) in nats. ratio, ratio_squares: r and r². clipped: tokens whose weight the mask set to 0.
    entropy: over all tokens, in nats. idle: tokens of weight 0 in every row, which the output embedding's backward pass
    leaves out. positions: what the forward passes computed, by layout.
    """

    loss: float = 0.0
    value_loss: float = 0.0
    grad_norm: float = 0.0
    skipped: bool = False
    tokens: int = 0
    entropy: float = 0.0
    rollout_tokens: int = 0
    mismatch: float = 0.0
    mismatch_max: float = 0.0
    mismatch_kl: float = 0.0
    ratio: float = 0.0
    ratio_squares: float = 0.0
    clipped: int = 0
    idle: int = 0
    positions: Counter[Layout] = field(default_factory=Counter)

    @classmethod
    def of_all(cls, reports: Sequence[UpdateReport]) -> UpdateReport:
        """Of an update whose parts these are."""
        if len(reports) == 1:
            return reports[0]
        total = cls()
        for each in reports:
            for name in SUMMED:
                setattr(total, name, getattr(total, name) + getattr(each, name))
            total.mismatch_max = max(total.mismatch_max, each.mismatch_max)
        return total

    @property
    def effective_samples(self) -> float:
        """(Σ r)² / (n Σ r²) over n on-policy tokens, in (0, 1]: the share of independent tokens of π_θ that say as much
        as those of the engine do (Kish). There must be one."""
        return self.ratio**2 / (self.rollout_tokens * self.ratio_squares) if self.ratio_squares else 0.0

    @torch.no_grad()
    def add(
        self,
        batch: MicroBatch,
        rows: Rows,
        statistics: TokenStatistics,
        weights_N: Tensor,
        loss: Tensor,
        value_loss: Tensor,
    ) -> None:
        """Count a micro-batch: its rows and their tokens' weights."""
        token_N = rows.token_N
        trained_M = torch.zeros_like(statistics.logp_M, dtype=torch.bool)
        trained_M[token_N] = True
        sampled_N = rows.sequences.sampled_S[rows.sequence_R][rows.row_N]
        log_ratio = (statistics.logp_M - rows.sequences.rollout_logp_M)[token_N][sampled_N].cpu().double()
        ratio = log_ratio.clamp(max=MAX_LOG_RATIO).exp()
        self.loss += loss.item()
        self.value_loss += value_loss.item()
        self.tokens += int(trained_M.sum())
        bonus_R = weights_N.new_tensor([each.entropy_coefficient for each in rows.algorithms])[rows.algorithm_R]
        matters_M = torch.zeros_like(trained_M)
        matters_M[token_N[(weights_N != 0) | (bonus_R != 0)[rows.row_N]]] = True
        self.idle += int((trained_M & ~matters_M).sum())
        self.positions[batch.layout] += batch.positions
        self.entropy += statistics.entropy_M[trained_M].sum().item()
        self.rollout_tokens += len(log_ratio)
        self.mismatch += log_ratio.abs().sum().item()
        self.mismatch_max = max(self.mismatch_max, log_ratio.abs().max().item() if len(log_ratio) else 0.0)
        self.mismatch_kl += (ratio - 1 - log_ratio).sum().item()
        self.ratio += ratio.sum().item()
        self.ratio_squares += ratio.square().sum().item()
        self.clipped += int((sampled_N & (weights_N == 0) & (rows.advantage_N != 0)).sum())
