"""Is a completion's final answer right: math answers, multiple choice, or a user's own reward function."""

from __future__ import annotations

from unigrad.verify.rewards import RewardFunction, function_name, load_reward_function, score
from unigrad.verify.scoring import RewardFunctionScorer, UnsolvedWarning, VerifierScorer, WeightedScorer
from unigrad.verify.verifier import Submission, Verifier, verify

__all__ = [
    "RewardFunction",
    "RewardFunctionScorer",
    "Submission",
    "UnsolvedWarning",
    "Verifier",
    "VerifierScorer",
    "WeightedScorer",
    "function_name",
    "load_reward_function",
    "score",
    "verify",
]
