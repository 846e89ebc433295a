"""The Unified Policy Gradient Estimator (§3.1–3.3): grad = 1_stable · (1/π_ref) · Â · ∇π_θ, as one weight per
token."""

from unigrad.estimator.advantages import kl_in_reward
from unigrad.estimator.algorithm import Algorithm
from unigrad.estimator.objective import entropy_bonus, surrogate
from unigrad.estimator.registry import algorithm, algorithm_names, register
from unigrad.estimator.weigh import weigh

__all__ = [
    "Algorithm",
    "algorithm",
    "algorithm_names",
    "entropy_bonus",
    "kl_in_reward",
    "register",
    "surrogate",
    "weigh",
]
