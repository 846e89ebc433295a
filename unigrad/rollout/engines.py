"""The engines by name, and how each is made for a policy."""

from __future__ import annotations

from collections.abc import Callable

from unigrad.errors import nearest
from unigrad.policy import Policy
from unigrad.rollout.engine import Engine
from unigrad.rollout.torch_engine import TorchEngine

EngineBuilder = Callable[[Policy, int], Engine]
"""From a policy and `rollout.max_concurrent_tokens`, the positions whose keys and values may be held at once."""


def _torch(policy: Policy, max_concurrent_tokens: int) -> Engine:
    return TorchEngine(
        policy.model,
        policy.tokenizer,
        max_concurrent_tokens=max_concurrent_tokens,
        compute_dtype=policy.compute_dtype,
    )


ENGINES: dict[str, EngineBuilder] = {"torch": _torch}


def register_engine(name: str, build: EngineBuilder) -> None:
    """Add an engine. Raises ValueError where its name is taken."""
    if name in ENGINES:
        raise ValueError(f"an engine named {name!r} is registered already")
    ENGINES[name] = build


def engine_builder(name: str) -> EngineBuilder:
    """Raises ValueError on an unknown name, naming the nearest."""
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}; did you mean {nearest(name, ENGINES)!r}?")
    return ENGINES[name]
