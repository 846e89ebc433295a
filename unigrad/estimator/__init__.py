"""The Unified Policy Gradient Estimator (§3.1–3.3): grad = 1_stable · (1/π_ref) · Â · ∇π_θ, as one weight per token."""

from unigrad.estimator.algorithm import Algorithm, algorithm, algorithm_names, register
from unigrad.estimator.objective import surrogate

__all__ = ["Algorithm", "algorithm", "algorithm_names", "register", "surrogate"]
