"""The engines by name, and how each is made for a policy."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unigrad.plugins import add, find
from unigrad.policy import Policy
from unigrad.rollout.engine import Engine
from unigrad.rollout.probe import check_torch_engine
from unigrad.rollout.torch_engine import TorchEngine

EngineBuilder = Callable[[Policy, int], Engine]
"""From a policy and `rollout.max_concurrent_tokens`, the positions whose keys and values may be held at once."""


def _torch(policy: Policy, max_concurrent_tokens: int) -> Engine:
    check_torch_engine(policy)
    return TorchEngine(
        policy.model,
        policy.tokenizer,
        max_concurrent_tokens=max_concurrent_tokens,
        compute_dtype=policy.compute_dtype,
    )


ENGINES: dict[str, EngineBuilder] = {"torch": _torch}


def register_engine(name: str, build: EngineBuilder) -> None:
    """Add an engine. Raises ValueError where its name is taken."""
    add(ENGINES, name, build, "an engine")


def is_exact(engine: Engine, policy: Policy) -> bool:
    """Whether the engine's log-probs are the policy's, to the rounding of float32: see `Engine`."""
    return policy.compute_dtype != torch.bfloat16 and getattr(engine, "is_exact", False)


def engine_builder(name: str) -> EngineBuilder:
    """Raises ValueError on an unknown name, naming the nearest."""
    return find(ENGINES, name, "engine")
