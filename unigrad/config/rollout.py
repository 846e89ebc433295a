"""The section `rollout`: what samples the rollouts, and how."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from unigrad.config.section import Given, NonNegative, Positive, Section

MOST_COMPLETIONS = 1_000_000
"""Of one step, or samples of a problem: their tokens are held in memory at once."""


class VllmConfig(Section):
    memory_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of a GPU's memory for vLLM, weights and cache; on a CPU its cache holds rollout.max_concurrent_tokens"""
    tensor_parallel_size: Positive = 1
    """Devices over which vLLM cuts the model"""
    sleep: bool = False
    """Give vLLM's memory on the GPU back while the policy trains, for the time that it takes to fetch it again"""
    server: str | None = None
    """Where a vLLM server listens that all ranks sample from and the run gives its weights to, http://HOST:PORT; a run
    that cannot use it says what to start. null: a process of the run's own on each rank"""
    adapter_only: bool = False
    """Give vLLM the adapter of model.lora alone, which it adds as it samples; false: merged into the weights"""
    weights_folder: Given | None = None
    """Where weights are written for vLLM to read, and taken away again: for a server, a folder that it sees by the
    same path. null: the system's temporary folder"""

    @field_validator("server")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        try:
            is_whole = parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/")
        except ValueError:
            is_whole = False
        if not is_whole:
            raise ValueError(f"must be http://HOST:PORT, such as http://127.0.0.1:8000, and is {value!r}")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _check(self) -> Self:
        of_a_process = {
            "memory_share": "--gpu-memory-utilization",
            "tensor_parallel_size": "--tensor-parallel-size",
            "sleep": None,
        }
        for key, flag in of_a_process.items():
            if self.server is not None and getattr(self, key) != type(self).model_fields[key].default:
                instead = f"give the server {flag} instead" if flag else "a server has its GPUs for itself"
                raise ValueError(f"{key} is of a process of the run's own, and server is given: {instead}")
        return self


VLLM = "vllm"
"""The engine whose section that is."""


class RolloutConfig(Section):
    engine: str = "auto"
    """What samples the rollouts: torch (attention), generate (transformers' own, any decoder, slower), auto: torch
    where it can, vllm (a process of its own, needs unigrad[vllm]), or an engine that a plugin registers"""
    num_generations: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] = 8
    """Rollouts per question, the paper's n"""
    max_completion_length: Positive = 1024
    """Longest completion in tokens; longer ones are truncated"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; training uses the log-probs at this temperature"""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this mass; 1: off"""
    top_k: NonNegative = 0
    """Sample among the k likeliest tokens; 0: off"""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end a completion, besides the end token; in evaluations of the run too"""
    max_concurrent_tokens: Positive = 65536
    """Tokens (prompts and completions) whose keys and values are held at once; waiting rows enter as others finish"""
    decode_dtype: Literal["bfloat16"] | None = None
    """Precision in which torch samples, in evaluations of the run too; null: model.dtype's. bfloat16 is faster where
    the processor has instructions for it; algorithm.engine_cap, 2 then by default, corrects for the mismatch"""
    mismatch_alarm: Annotated[float, Field(gt=0)] | None = 0.02
    """A run warns once policy/rollout_mismatch_kl, in nats a token, passes this; null: never"""
    vllm: VllmConfig = VllmConfig()

    @property
    def is_corrected(self) -> bool:
        """Whether rollouts are weighed for the engine's own log-probs unless told otherwise."""
        return self.decode_dtype is not None or self.engine == VLLM
