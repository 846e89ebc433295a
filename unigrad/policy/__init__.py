"""The policy π_θ: loading, and the log-probs of tokens."""

from __future__ import annotations

from unigrad.policy.loading import find_architecture, load_policy
from unigrad.policy.logprobs import token_logprobs
from unigrad.policy.policy import END, Policy, TokenStatistics
from unigrad.policy.value_head import clipped_value_loss

__all__ = [
    "END",
    "Policy",
    "TokenStatistics",
    "clipped_value_loss",
    "find_architecture",
    "load_policy",
    "token_logprobs",
]
