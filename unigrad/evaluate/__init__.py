"""Measuring a policy: sampling, scoring, accuracy."""

from unigrad.evaluate.accuracy import Accuracy, accuracy
from unigrad.evaluate.sampling import Rollouts, sample_and_score
from unigrad.evaluate.scoring import RewardFunctionScorer, VerifierScorer

__all__ = [
    "Accuracy",
    "RewardFunctionScorer",
    "Rollouts",
    "VerifierScorer",
    "accuracy",
    "sample_and_score",
]
