"""The floating-point operations that a step's work needs, and how many a second this machine does at best."""

from __future__ import annotations

import time

import torch

from unigrad.bench.measured import Part
from unigrad.config import Config
from unigrad.policy import Policy
from unigrad.policy.architecture import Dimensions
from unigrad.policy.products import linear

LEAST_SECONDS = 0.5


def needed(model: Dimensions, config: Config) -> dict[str, float]:
    """Of sampling, and of forward and backward: 2 and 6 a weight and token, and attention's products.

    Each question's prompt counts once, and so do its completions; the head only where a token is chosen. What is
    computed more than once (a prompt for each of its completions, padding, what a backward recomputes) is no need.
    """
    questions, n = config.train.questions_per_step, config.rollout.num_generations
    prompt, new = config.data.max_prompt_length, config.rollout.max_completion_length
    chosen = questions * n * new
    attended = questions * (prompt * (prompt + 1) // 2 + n * (new * prompt + new * (new + 1) // 2))
    weights = model.matrices * (questions * prompt + chosen) + model.vocabulary * model.hidden * chosen
    forward = 2.0 * weights + 4.0 * model.layers * model.heads * model.head_size * attended
    return {str(Part.ROLLOUTS): forward, str(Part.FORWARD_BACKWARD): 3 * forward * config.train.num_iterations}


def matrix_rate(policy: Policy, rows: int, inner: int, columns: int) -> float:
    """Operations a second of (rows × inner)·(inner × columns), as a linear layer of the policy makes them in its
    precision: the best of many."""
    device = policy.device
    left, right = (
        torch.randn(*shape, device=device).to(policy.compute_dtype) for shape in ((rows, inner), (columns, inner))
    )
    best, end = float("inf"), time.perf_counter() + LEAST_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        linear(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * rows * inner * columns / best
