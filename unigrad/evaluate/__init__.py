"""Measuring a policy: accuracy, pass@k, benchmarks. Nothing that this imports imports torch."""

from unigrad.callable_package import callable_as
from unigrad.evaluate import from_python
from unigrad.evaluate.accuracy import accuracy
from unigrad.evaluate.exclusive import Exclusive, ExclusiveSolves, exclusive_solves
from unigrad.runs.metrics import Accuracy
from unigrad.stats.bootstrap import bootstrap_pass_at_k
from unigrad.stats.pass_rates import pass_at_k

__all__ = [
    "Accuracy",
    "Exclusive",
    "ExclusiveSolves",
    "accuracy",
    "bootstrap_pass_at_k",
    "exclusive_solves",
    "pass_at_k",
]

callable_as(__name__, from_python.evaluate)
