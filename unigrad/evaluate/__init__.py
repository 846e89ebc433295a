"""Measuring a policy: sampling, scoring, accuracy, benchmarks. Nothing that this imports imports torch."""

from unigrad.evaluate.accuracy import Accuracy, accuracy
from unigrad.evaluate.bootstrap import bootstrap_pass_at_k
from unigrad.evaluate.exclusive import Exclusive, ExclusiveSolves, exclusive_solves
from unigrad.evaluate.pass_rates import pass_at_k
from unigrad.evaluate.sampling import Rollouts, sample_and_score
from unigrad.evaluate.scoring import RewardFunctionScorer, VerifierScorer

__all__ = [
    "Accuracy",
    "Exclusive",
    "ExclusiveSolves",
    "RewardFunctionScorer",
    "Rollouts",
    "VerifierScorer",
    "accuracy",
    "bootstrap_pass_at_k",
    "exclusive_solves",
    "pass_at_k",
    "sample_and_score",
]
