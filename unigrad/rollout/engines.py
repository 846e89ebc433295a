"""The engines by name, and how each is made for a policy."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from unigrad.config import VLLM, RolloutConfig, VllmConfig
from unigrad.errors import ConfigError
from unigrad.machine import launched
from unigrad.plugins import add, find
from unigrad.policy import Policy
from unigrad.rollout.engine import Engine
from unigrad.rollout.generate_engine import GenerateEngine, check_generates
from unigrad.rollout.probe import check_generate_engine, check_torch_engine
from unigrad.rollout.sampling import Sampling
from unigrad.rollout.torch_engine import TorchEngine, checked_cache_argument
from unigrad.rollout.vllm_engine import VllmEngine
from unigrad.rollout.vllm_process import HOTTEST, check_installed

AUTO = "auto"

logger = logging.getLogger(__name__)

EngineBuilder = Callable[[Policy, int], Engine]
"""From a policy and `rollout.max_concurrent_tokens`, the positions whose keys and values may be held at once."""


def _torch(policy: Policy, max_concurrent_tokens: int, compute_dtype: torch.dtype | None = None) -> Engine:
    compute_dtype = compute_dtype or policy.compute_dtype
    check_torch_engine(policy, compute_dtype)
    return TorchEngine(
        policy.model, policy.tokenizer, max_concurrent_tokens=max_concurrent_tokens, compute_dtype=compute_dtype
    )


def _generate(policy: Policy, max_concurrent_tokens: int) -> Engine:
    check_generate_engine(policy)
    return GenerateEngine(
        policy.model,
        policy.tokenizer,
        max_concurrent_tokens=max_concurrent_tokens,
        compute_dtype=policy.compute_dtype,
    )


def _vllm(policy: Policy, max_concurrent_tokens: int, options: VllmConfig | None = None) -> Engine:
    return VllmEngine(policy, max_concurrent_tokens=max_concurrent_tokens, options=options)


def _auto(policy: Policy, max_concurrent_tokens: int) -> Engine:
    """The torch engine, or where it cannot run the model the generate engine, which is said."""
    try:
        return _torch(policy, max_concurrent_tokens)
    except ValueError as error:
        refusal = error
    try:
        engine = _generate(policy, max_concurrent_tokens)
    except ValueError as error:
        raise ValueError(f"{refusal}; {error}") from error
    logger.warning("rollout.engine: %s", instead(str(refusal)))
    return engine


ENGINES: dict[str, EngineBuilder] = {AUTO: _auto, "torch": _torch, "generate": _generate, VLLM: _vllm}


def expected_engine(name: str, model: PreTrainedModel) -> tuple[str, str | None]:
    """Which engine will sample, and where `auto` falls back on it why, as far as the model's architecture alone says.

    The model may be on the meta device. Raises ValueError where that engine cannot run it.
    """
    if name == "generate":
        check_generates(model)
    if name not in (AUTO, "torch"):
        return name, None
    try:
        checked_cache_argument(model)
    except ValueError as error:
        if name == "torch":
            raise
        check_generates(model)
        return "generate", instead(str(error))
    return "torch", None


def chosen_name(name: str, engine: Engine) -> str:
    """The engine's own name, where `auto` chose it."""
    return name if name != AUTO else "torch" if isinstance(engine, TorchEngine) else "generate"


def instead(refusal: str) -> str:
    """What is said where the generate engine takes the torch engine's place."""
    return f"generate, transformers' own and slower, as {refusal}"


def register_engine(name: str, build: EngineBuilder) -> None:
    """Add an engine. Raises ValueError where its name is taken."""
    add(ENGINES, name, build, "an engine")


def engine_of(rollout: RolloutConfig) -> Callable[[Policy], Engine]:
    """What makes the engine that the section asks for.

    Raises ValueError on an unknown name, naming the nearest, and ConfigError where that engine is not installed, or has
    no precision of its own to choose, or cannot train on what the section samples.
    """
    build = engine_builder(rollout.engine)
    if build is not _vllm and rollout.vllm != VllmConfig():
        raise ConfigError(
            f"rollout.vllm: only rollout.engine = {VLLM!r} reads it, not {rollout.engine!r}; leave it out"
        )
    if build is _vllm and rollout.decode_dtype is None:
        _check_vllm(rollout)
        return lambda policy: _vllm(policy, rollout.max_concurrent_tokens, rollout.vllm)
    if rollout.decode_dtype is None:
        return lambda policy: build(policy, rollout.max_concurrent_tokens)
    if build not in (_torch, _auto):
        raise ConfigError(
            f"rollout.decode_dtype = {rollout.decode_dtype!r}: only rollout.engine = 'torch' can decode in another "
            f"precision than the policy's, not {rollout.engine!r}; leave it out"
        )
    dtype: torch.dtype = getattr(torch, rollout.decode_dtype)
    return lambda policy: _torch(policy, rollout.max_concurrent_tokens, dtype)


def _check_vllm(rollout: RolloutConfig) -> None:
    if Sampling.of_training(rollout).is_truncated:
        raise ConfigError(
            f"rollout.top_p = {rollout.top_p:g}, rollout.top_k = {rollout.top_k}: vLLM's log-probs are of what "
            "these leave, and not the policy's; set them to 1 and 0, or use rollout.engine = 'torch'"
        )
    if rollout.temperature > HOTTEST:
        raise ConfigError(f"rollout.temperature = {rollout.temperature:g}: vLLM takes at most {HOTTEST:g}")
    parts, ranks = rollout.vllm.tensor_parallel_size, launched().local_size
    if parts > 1 and ranks > 1:
        raise ConfigError(
            f"rollout.vllm.tensor_parallel_size = {parts}: each of the {ranks} ranks of this machine has a vLLM of its "
            f"own, on one device; have all of them sample from one server (rollout.vllm.server) that was started with "
            f"--tensor-parallel-size {parts}"
        )
    if rollout.vllm.server is None:
        check_installed()


def is_exact(engine: Engine, policy: Policy) -> bool:
    """Whether the engine's log-probs are the policy's, to the rounding of float32: see `Engine`."""
    return policy.compute_dtype != torch.bfloat16 and getattr(engine, "is_exact", False)


def engine_builder(name: str) -> EngineBuilder:
    """Raises ValueError on an unknown name, naming the nearest."""
    return find(ENGINES, name, "engine")
