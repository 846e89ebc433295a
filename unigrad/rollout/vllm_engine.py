"""Sampling by vLLM, in a process of its own that is given the policy's weights whenever these have changed."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from unigrad.config import VllmConfig
from unigrad.policy import Policy, transformers_api
from unigrad.policy.architecture import dimensions
from unigrad.rollout import vllm_process
from unigrad.rollout.engine import Completion, EngineError, OnCompletion, Prompt
from unigrad.rollout.probe import check_log_probs
from unigrad.rollout.rows import Row, StopRules, rows_of
from unigrad.rollout.sampler import NOT_FINITE, trajectory_generator
from unigrad.rollout.sampling import Sampling
from unigrad.rollout.vllm_process import DONE, ENVIRONMENT, FAILED, Output, Request, check_installed

_SPARE_POSITIONS = 512
"""Of the cache, for rows that end within a block."""
_SECONDS_TO_END = 10
_ROUNDING = 2.0**-18
"""In float32, of kernels other than ours: 30 layers of SmolLM2 make 2e-4 nats of it, stale weights far more."""
_OF_A_RANK = {"RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class VllmEngine:
    """An `Engine` that holds weights of its own, in vLLM's process: those of the policy at its last change.

    They go over as files, which vLLM reads again; then its prefix cache is emptied, and a few tokens are sampled and
    compared with the policy. An adapter is merged into them. Log-probs are at the sampling temperature, but of what
    top_k and top_p leave where these cut; entropies are not given.
    """

    def __init__(self, policy: Policy, *, max_concurrent_tokens: int, options: VllmConfig | None = None) -> None:
        """Start vLLM on the policy as it stands.

        Args:
            policy: what is sampled from.
            max_concurrent_tokens: the longest row; on a CPU also the positions that the key/value cache holds.
            options: how vLLM is run; None: by default.

        Raises:
            ConfigError: vLLM is missing or of another version.
            ValueError: one line: vLLM refuses the model, or gives other log-probs than the policy.
        """
        check_installed()
        self._policy = policy
        self._max_concurrent_tokens = max_concurrent_tokens
        self._options = options or VllmConfig()
        self._files = TemporaryDirectory(prefix="unigrad-vllm-")
        self.weights_version = 1
        """How often vLLM has been given weights."""
        self._is_awake = True
        cannot = f"vLLM cannot run {type(policy.model).__name__}"
        try:
            self._save()
            alone = self._options.tensor_parallel_size == 1
            self._remote = _Remote(environment(os.environ, policy.device if alone else None))
            self._remote.call("start", cannot, **self._arguments())
            check_log_probs(self, policy, cannot, self._rounding)
            if self._options.sleep:
                self._sleep()
        except EngineError as error:
            self.close()
            raise ValueError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End vLLM's process and take its files away."""
        if hasattr(self, "_remote"):
            self._remote.close()
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
        with self._awake():
            self._update()
            for output in self._sampled(requests):
                row, completion = rows[output[0]], self._completion(output, stops)
                ended[row.prompt.key, row.index] = completion
                if on_completion is not None:
                    on_completion(row.prompt, row.index, completion)
        indices = range(sampling.num_generations)
        return [[ended[prompt.key, index] for index in indices] for prompt in prompts]

    def _sampled(self, requests: Sequence[Request]) -> Iterator[Output]:
        return self._remote.answers("sample", "vLLM failed as it sampled", requests=requests)

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

    def _update(self) -> None:
        """Give vLLM the policy's weights, if they have changed. Raises EngineError where it does not take them."""
        if _sums(self._policy) == self._given:
            return
        earlier = self._folder
        self.weights_version += 1
        self._save()
        self._remote.call("take_weights", "vLLM does not take the policy's weights", folder=str(self._folder))
        shutil.rmtree(earlier)
        what = f"weights {self.weights_version} in vLLM"
        try:
            check_log_probs(self, self._policy, what, self._rounding)
        except ValueError as error:
            if not all(bool(parameter.isfinite().all()) for parameter in self._policy.model.parameters()):
                raise FloatingPointError(NOT_FINITE) from error
            raise EngineError(str(error)) from error

    @property
    def _rounding(self) -> float:
        return max(torch.finfo(self._policy.compute_dtype).eps, _ROUNDING)

    def _save(self) -> None:
        """Write the policy where vLLM reads it."""
        self._policy.save_pretrained(self._folder, self._policy.compute_dtype)
        self._given = _sums(self._policy)

    @property
    def _folder(self) -> Path:
        return Path(self._files.name) / str(self.weights_version)

    @contextmanager
    def _awake(self) -> Iterator[None]:
        """Inside, vLLM has its memory on the GPU."""
        if self._is_awake:
            yield
            return
        self._remote.call("wake_up", "vLLM failed as it woke up")
        self._is_awake = True
        try:
            yield
        finally:
            self._sleep()

    def _sleep(self) -> None:
        self._remote.call("sleep", "vLLM failed as it went to sleep")
        self._is_awake = False

    def _arguments(self) -> dict[str, Any]:
        policy, options = self._policy, self._options
        is_cpu = policy.device.type == "cpu"
        return {
            "model": str(self._folder),
            "dtype": str(policy.compute_dtype).removeprefix("torch."),
            "max_model_len": min(policy.max_positions or sys.maxsize, self._max_concurrent_tokens),
            "tensor_parallel_size": options.tensor_parallel_size,
            "gpu_memory_utilization": options.memory_share,
            "kv_cache_memory_bytes": self._cache_bytes() if is_cpu else None,
            "enable_sleep_mode": options.sleep,
            "enforce_eager": is_cpu,
        }

    def _cache_bytes(self) -> int:
        """Of the keys and values of `max_concurrent_tokens`."""
        model = dimensions(self._policy.model)
        each = 2 * model.layers * model.key_value_heads * model.head_size * self._policy.compute_dtype.itemsize
        return each * (self._max_concurrent_tokens + _SPARE_POSITIONS)


class _Remote:
    """vLLM's process from here: calls by name, whose answers come one by one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._pipe, theirs = Pipe()
        # A session of its own: a terminal's Ctrl-C is for the run to answer. It ends when this end of the pipe does.
        self._process = subprocess.Popen(
            [sys.executable, "-m", vllm_process.__name__, str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Whoever asks for vLLM's own messages sees them.
            stderr=None
            if environment["VLLM_LOGGING_LEVEL"] != ENVIRONMENT["VLLM_LOGGING_LEVEL"]
            else subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._calls = 0

    def call(self, name: str, failed: str, **arguments: Any) -> None:
        """Raises EngineError, which begins with `failed`, where it fails, and where the process has ended."""
        for _ in self.answers(name, failed, **arguments):
            pass

    def answers(self, name: str, failed: str, **arguments: Any) -> Iterator[Output]:
        """What the call gives, as it comes. Raises as `call` does."""
        self._calls += 1
        try:
            self._pipe.send((self._calls, name, arguments))
            while True:
                number, kind, answer = self._pipe.recv()
                if number != self._calls:  # of a call that was left before its end
                    continue
                if kind == DONE:
                    return
                if kind == FAILED:
                    raise EngineError(f"{failed}: {answer}")
                yield answer
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise EngineError(f"{failed}: its process has ended ({self._process.wait()})") from error

    def close(self) -> None:
        self._pipe.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment(ours: Mapping[str, str], device: torch.device | None) -> dict[str, str]:
    """The variables of vLLM's process, from those of this one. device: that of the policy, where vLLM is to have no
    other."""
    # By torchrun's it would take itself for one of the ranks.
    own = {
        name: value for name, value in ours.items() if name not in _OF_A_RANK and not name.startswith("TORCHELASTIC")
    }
    if device is not None and device.type == "cuda":
        visible = own.get("CUDA_VISIBLE_DEVICES")
        index = device.index or 0
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[index] if visible else str(index)
    return {**ENVIRONMENT, **own}


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
