"""The policy π_θ: loading, token log-probs, and the layout of rows in micro-batches."""

from __future__ import annotations

from unigrad.policy.layout import micro_batches
from unigrad.policy.loading import find_architecture, load_policy
from unigrad.policy.logprobs import token_logprobs
from unigrad.policy.policy import Policy, TokenStatistics
from unigrad.policy.value_head import clipped_value_loss

__all__ = [
    "Policy",
    "TokenStatistics",
    "clipped_value_loss",
    "find_architecture",
    "load_policy",
    "micro_batches",
    "token_logprobs",
]
