"""The engines by name, and how each is made for a policy."""

from __future__ import annotations

from collections.abc import Callable

import torch

from unigrad.config import RolloutConfig
from unigrad.errors import ConfigError
from unigrad.plugins import add, find
from unigrad.policy import Policy
from unigrad.rollout.engine import Engine
from unigrad.rollout.probe import check_torch_engine
from unigrad.rollout.torch_engine import TorchEngine

EngineBuilder = Callable[[Policy, int], Engine]
"""From a policy and `rollout.max_concurrent_tokens`, the positions whose keys and values may be held at once."""


def _torch(policy: Policy, max_concurrent_tokens: int, compute_dtype: torch.dtype | None = None) -> Engine:
    compute_dtype = compute_dtype or policy.compute_dtype
    check_torch_engine(policy, compute_dtype)
    return TorchEngine(
        policy.model, policy.tokenizer, max_concurrent_tokens=max_concurrent_tokens, compute_dtype=compute_dtype
    )


ENGINES: dict[str, EngineBuilder] = {"torch": _torch}


def register_engine(name: str, build: EngineBuilder) -> None:
    """Add an engine. Raises ValueError where its name is taken."""
    add(ENGINES, name, build, "an engine")


def engine_of(rollout: RolloutConfig) -> Callable[[Policy], Engine]:
    """What makes the engine that the section asks for.

    Raises ValueError on an unknown name, naming the nearest, and ConfigError where that engine has no precision of its
    own to choose.
    """
    build = engine_builder(rollout.engine)
    if rollout.decode_dtype is None:
        return lambda policy: build(policy, rollout.max_concurrent_tokens)
    if build is not _torch:
        raise ConfigError(
            f"rollout.decode_dtype = {rollout.decode_dtype!r}: only rollout.engine = 'torch' can decode in another "
            f"precision than the policy's, not {rollout.engine!r}; leave it out"
        )
    dtype: torch.dtype = getattr(torch, rollout.decode_dtype)
    return lambda policy: _torch(policy, rollout.max_concurrent_tokens, dtype)


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 take longer there than in float32: a CPU without instructions that oneDNN needs."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_exact(engine: Engine, policy: Policy) -> bool:
    """Whether the engine's log-probs are the policy's, to the rounding of float32: see `Engine`."""
    return policy.compute_dtype != torch.bfloat16 and getattr(engine, "is_exact", False)


def engine_builder(name: str) -> EngineBuilder:
    """Raises ValueError on an unknown name, naming the nearest."""
    return find(ENGINES, name, "engine")
