"""Sampling by vLLM, in a process of its own or on a server, given the policy's weights whenever these have changed."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch

from unigrad.config import VllmConfig
from unigrad.errors import ConfigError
from unigrad.policy import Policy, transformers_api
from unigrad.rollout.engine import Completion, EngineError, OnCompletion, Prompt
from unigrad.rollout.probe import check_log_probs
from unigrad.rollout.rows import Row, StopRules, rows_of
from unigrad.rollout.sampler import NOT_FINITE, trajectory_generator
from unigrad.rollout.sampling import Sampling
from unigrad.rollout.vllm_colocated import VllmColocated
from unigrad.rollout.vllm_process import Output, Request, room_for_rank, shape
from unigrad.rollout.vllm_server import Needs, connected
from unigrad.world import ALONE, current_world

_ROUNDING = 2.0**-18
"""In float32, of kernels other than ours: 30 layers of SmolLM2 make 2e-4 nats of it, stale weights far more."""


class Vllm(Protocol):
    """vLLM, wherever it runs. Its weights have versions, counted by who gives them. What fails is an EngineError."""

    def start(self, folder: Path, weights_version: int) -> None:
        """Have it hold the weights of the model in the folder, for the first time."""
        ...

    def take_weights(self, folder: Path, weights_version: int) -> None:
        """Those of the model in the folder, in place of its own; what it had computed by these is forgotten."""
        ...

    def take_adapter(self, folder: Path, weights_version: int) -> None:
        """That in the folder, on the weights that it was started with, in place of the one before."""
        ...

    def sample(self, requests: Sequence[Request], weights_version: int) -> Generator[Output]:
        """The outputs as they end; those that are not waited for are let go."""
        ...

    def awake(self) -> AbstractContextManager[None]:
        """Inside, it has the memory that it samples with."""
        ...

    def rest(self) -> None:
        """Give that memory back, where it is to."""
        ...

    def close(self) -> None: ...


class VllmEngine:
    """An `Engine` that holds weights of its own, in vLLM: those of the policy at its last change.

    They go over as files, which vLLM reads again; then its prefix cache is emptied, and a few tokens are sampled and
    compared with the policy. An adapter is merged into them, or goes over alone. Log-probs are at the sampling
    temperature, but of what top_k and top_p leave where these cut; entropies are not given.

    Each rank has a vLLM process of its own. Of a server all ranks sample, and the first gives it weights: every rank
    must call `generate` equally often, with prompts or without.
    """

    def __init__(self, policy: Policy, *, max_concurrent_tokens: int, options: VllmConfig | None = None) -> None:
        """Start vLLM on the policy as it stands, or give its weights to the server.

        Args:
            policy: what is sampled from.
            max_concurrent_tokens: the longest row; on a CPU also the positions that the key/value cache holds.
            options: how vLLM is run, or where; None: by default.

        Raises:
            ConfigError: one line: vLLM is missing or of another version, the server is or was started otherwise, or it
                refuses the model, or gives other log-probs than the policy.
        """
        self._policy = policy
        self._max_concurrent_tokens = max_concurrent_tokens
        self._options = options or VllmConfig()
        self.weights_version = 1
        """How often vLLM has been given weights."""
        self._adapter = policy.adapter if self._options.adapter_only else None
        self._world = ALONE if self._options.server is None else current_world()
        try:
            self._remote = self._vllm()
            self._world.from_first(self._start)
        except BaseException:
            self.close()
            raise

    def _vllm(self) -> Vllm:
        policy, options = self._policy, self._options
        max_model_len = min(policy.max_positions or sys.maxsize, self._max_concurrent_tokens)
        lora_rank = None if self._adapter is None else room_for_rank(self._adapter.rank)
        if options.server is None:
            return VllmColocated(
                policy,
                options,
                max_model_len=max_model_len,
                max_concurrent_tokens=self._max_concurrent_tokens,
                lora_rank=lora_rank,
            )
        config = policy.model.config
        model = config.name_or_path or "MODEL"
        needs = Needs(model, policy.computes_in, max_model_len, shape(config.get_text_config()), lora_rank)
        return connected(options.server, needs, self._world)

    def _start(self) -> None:
        try:
            self._files = TemporaryDirectory(prefix="unigrad-vllm-", dir=self._options.weights_folder)
        except OSError as error:
            raise ConfigError(f"rollout.vllm.weights_folder: {error}") from error
        try:
            if self._adapter is None:
                self._save()
                self._remote.start(self._folder, self.weights_version)
            else:
                base = Path(self._files.name) / "base"
                self._policy.save_base(base, self._policy.compute_dtype)
                self._remote.start(base, self.weights_version)
                self._give()
            cannot = f"vLLM cannot run {type(self._policy.model).__name__}"
            check_log_probs(_AsItStands(self), self._policy, cannot, self._rounding)
            self._given = _sums(self._policy)
            self._remote.rest()
        except (EngineError, ValueError) as error:
            raise ConfigError(f"{error}{self._advice}") from error

    def close(self) -> None:
        """End vLLM's process, or leave the server, and take the files away."""
        if hasattr(self, "_remote"):
            self._remote.close()
        if hasattr(self, "_files"):
            self._files.cleanup()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_generations` completions for each prompt: see `Engine.generate`.

        Raises:
            ValueError: a key that comes twice, a prompt that is empty or leaves no room in the model's positions, or a
                completion that is longer than `max_concurrent_tokens`.
            FloatingPointError: the model's logits are not finite.
            EngineError: vLLM fails, has ended, or does not take the policy's weights.
        """
        with self._remote.awake():
            # Where the first rank fails, all do.
            self.weights_version = self._world.from_first(self._updated)
            return self.generate_as_it_stands(prompts, sampling, seed, on_completion)

    def generate_as_it_stands(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """The same from the weights that vLLM has, on this rank alone."""
        rows = rows_of(prompts, sampling, transformers_api.max_positions(self._policy.model.config) or sys.maxsize)
        longest = max((row.length for row in rows), default=0)
        if longest > self._max_concurrent_tokens:
            raise ValueError(
                f"max_concurrent_tokens={self._max_concurrent_tokens} holds no completion: the longest prompt with its "
                f"completion takes {longest}"
            )
        stops = StopRules.of(self._policy.model, self._policy.tokenizer, sampling)
        requests = [(row.prompt.token_ids, _parameters(row, sampling, seed, stops)) for row in rows]
        ended: dict[tuple[str, int], Completion] = {}
        with closing(self._remote.sample(requests, self.weights_version)) as outputs:
            for output in outputs:
                row, completion = rows[output[0]], self._completion(output, stops)
                ended[row.prompt.key, row.index] = completion
                if on_completion is not None:
                    on_completion(row.prompt, row.index, completion)
        indices = range(sampling.num_generations)
        return [[ended[prompt.key, index] for index in indices] for prompt in prompts]

    def _completion(self, output: Output, stops: StopRules) -> Completion:
        _, ids, logprobs, reason = output
        if reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended a rollout by {reason!r}")
        if not all(map(math.isfinite, logprobs)):
            raise FloatingPointError(NOT_FINITE)
        ended = bool(stops.by_token(torch.tensor(ids[-1:])))
        return Completion(
            token_ids=tuple(ids),
            logprobs=tuple(logprobs),
            entropies=(),
            truncated=reason == "length",
            ended=ended,
            text=str(stops.tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)),
            weights_version=self.weights_version,
        )

    def _updated(self) -> int:
        """The version of vLLM's weights, which are given to it if they have changed. Raises EngineError where it does
        not take them, and FloatingPointError where they are none."""
        sums = _sums(self._policy)
        if sums == self._given:
            return self.weights_version
        if not all(map(math.isfinite, sums)):
            # A server's cache would hold what is no number for whoever comes after.
            raise FloatingPointError(NOT_FINITE)
        earlier = self._folder
        self.weights_version += 1
        self._give()
        shutil.rmtree(earlier)
        what = f"weights {self.weights_version} in vLLM"
        try:
            check_log_probs(_AsItStands(self), self._policy, what, self._rounding)
        except ValueError as error:
            raise EngineError(f"{error}{self._advice}") from error
        self._given = sums
        return self.weights_version

    @property
    def _advice(self) -> str:
        return "" if self._adapter is None else "; with rollout.vllm.adapter_only false the adapter is merged"

    @property
    def _rounding(self) -> float:
        return max(torch.finfo(self._policy.compute_dtype).eps, _ROUNDING)

    def _give(self) -> None:
        """Have vLLM hold what training has changed, as it is now."""
        self._save()
        take = self._remote.take_weights if self._adapter is None else self._remote.take_adapter
        take(self._folder, self.weights_version)

    def _save(self) -> None:
        """Write it where vLLM reads it."""
        if self._adapter is None:
            self._policy.save_pretrained(self._folder, self._policy.compute_dtype)
        else:
            self._adapter.save(self._folder)

    @property
    def _folder(self) -> Path:
        return Path(self._files.name) / str(self.weights_version)


@dataclass(frozen=True, slots=True)
class _AsItStands:
    """An `Engine` that samples from the weights that vLLM has, on this rank alone."""

    engine: VllmEngine

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        return self.engine.generate_as_it_stands(prompts, sampling, seed, on_completion)


def _parameters(row: Row, sampling: Sampling, seed: int, stops: StopRules) -> dict[str, Any]:
    """The arguments of vLLM's SamplingParams; a seed of its own, so that whoever shares its batch does not matter."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": row.room,
        "seed": int(trajectory_generator(seed, row.prompt.key, row.index).integers(2**62)),
        "stop": list(sampling.stop),
        "stop_token_ids": stops.token_ids.tolist(),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "detokenize": bool(sampling.stop),
        "logprobs": 0,
    }


def _sums(policy: Policy) -> tuple[float, ...]:
    """What tells a policy's weights from those before: two sums over each parameter, in float64. By content, since the
    whole of a sharded policy is put into its parameters anew each time."""
    parameters = [parameter.detach() for parameter in policy.model.parameters()]
    norm = torch.linalg.vector_norm
    sums = [total(each, dtype=torch.float64) for each in parameters for total in (torch.sum, norm)]
    return tuple(torch.stack(sums).tolist())
