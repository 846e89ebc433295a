"""What an update says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unigrad.batch import Rows
from unigrad.policy import TokenStatistics


@dataclass(slots=True)
class UpdateReport:
    """Sums over the rows of one update, so that reports of several updates add up. A trajectory's tokens count once.

    loss: −Σ c_i Σ_t w_it log π_it (Eq. 13), less the entropy bonus. value_loss: Σ c_i Σ_t of the value head's.
    mismatch: |log π_θ − the rollout engine's log-prob| over on-policy tokens. clipped: on-policy tokens whose weight
    the mask set to 0. entropy: over all tokens, in nats.
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
    clipped: int = 0

    @classmethod
    def of_all(cls, reports: Sequence[UpdateReport]) -> UpdateReport:
        """Of an update whose parts these are."""
        if len(reports) == 1:
            return reports[0]
        total = cls()
        for each in reports:
            for name in ("loss", "value_loss", "tokens", "entropy", "rollout_tokens", "mismatch", "clipped"):
                setattr(total, name, getattr(total, name) + getattr(each, name))
            total.mismatch_max = max(total.mismatch_max, each.mismatch_max)
        return total

    @torch.no_grad()
    def add(self, rows: Rows, statistics: TokenStatistics, weights_N: Tensor, loss: Tensor, value_loss: Tensor) -> None:
        """Count a micro-batch: its rows and their tokens' weights."""
        token_N = rows.token_N
        trained_M = torch.zeros_like(statistics.logp_M, dtype=torch.bool)
        trained_M[token_N] = True
        sampled_N = rows.sequences.sampled_S[rows.sequence_R][rows.row_N]
        difference = (statistics.logp_M - rows.sequences.rollout_logp_M)[token_N].abs()[sampled_N]
        self.loss += loss.item()
        self.value_loss += value_loss.item()
        self.tokens += int(trained_M.sum())
        self.entropy += statistics.entropy_M[trained_M].sum().item()
        self.rollout_tokens += len(difference)
        self.mismatch += difference.sum().item()
        self.mismatch_max = max(self.mismatch_max, difference.max().item() if len(difference) else 0.0)
        self.clipped += int((sampled_N & (weights_N == 0) & (rows.advantage_N != 0)).sum())
