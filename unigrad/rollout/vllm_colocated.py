"""vLLM in a process of the run's own, from here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import torch

from unigrad.config import VllmConfig
from unigrad.policy import Policy
from unigrad.policy.architecture import dimensions
from unigrad.rollout import vllm_process
from unigrad.rollout.engine import EngineError
from unigrad.rollout.vllm_process import DONE, ENVIRONMENT, FAILED, Output, Request, check_installed

_SPARE_POSITIONS = 512
"""Of the cache, for rows that end within a block."""
_SECONDS_TO_END = 10
_OF_A_RANK = {"RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


class VllmColocated:
    """A process on the policy's device that runs vLLM: calls by name, whose answers come one by one."""

    def __init__(
        self,
        policy: Policy,
        options: VllmConfig,
        *,
        max_model_len: int,
        max_concurrent_tokens: int,
        lora_rank: int | None,
    ) -> None:
        """lora_rank: of adapters that it must have room for; None: of none. Raises ConfigError where vLLM is missing or
        of another version."""
        check_installed()
        self._policy, self._options = policy, options
        self._max_model_len, self._max_concurrent_tokens = max_model_len, max_concurrent_tokens
        self._lora_rank = lora_rank
        self._sleeps = False
        environ = environment(os.environ, policy.device if options.tensor_parallel_size == 1 else None)
        self._pipe, theirs = Pipe()
        # A session of its own: a terminal's Ctrl-C is for the run to answer. It ends when this end of the pipe does.
        self._process = subprocess.Popen(
            [sys.executable, "-m", vllm_process.__name__, str(theirs.fileno())],
            env=environ,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Whoever asks for vLLM's own messages sees them.
            stderr=None if environ["VLLM_LOGGING_LEVEL"] != ENVIRONMENT["VLLM_LOGGING_LEVEL"] else subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._calls = 0

    def start(self, folder: Path, weights_version: int) -> None:
        """Load the model in the folder. Raises EngineError where vLLM refuses it."""
        self._call("start", f"vLLM cannot run {type(self._policy.model).__name__}", **self._arguments(folder))

    def take_weights(self, folder: Path, weights_version: int) -> None:
        """Those of the model in the folder, in place of its own. Raises EngineError where it does not."""
        self._call("take_weights", "vLLM does not take the policy's weights", folder=str(folder))

    def take_adapter(self, folder: Path, weights_version: int) -> None:
        """That in the folder, on the model that it was started with. Raises EngineError where it does not."""
        failed = "vLLM does not take the policy's adapter"
        self._call("take_adapter", failed, folder=str(folder), number=weights_version)

    def sample(self, requests: Sequence[Request], weights_version: int) -> Generator[Output]:
        """The outputs as they end. Raises EngineError where it fails, or has ended."""
        return self._answers("sample", "vLLM failed as it sampled", requests=requests)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Inside, vLLM has its memory on the GPU."""
        if self._sleeps:
            self._call("wake_up", "vLLM failed as it woke up")
            self._sleeps = False
        try:
            yield
        finally:
            self.rest()

    def rest(self) -> None:
        """Give the memory on the GPU back, where the user wants that."""
        if self._options.sleep:
            self._call("sleep", "vLLM failed as it went to sleep")
            self._sleeps = True

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _call(self, name: str, failed: str, **arguments: Any) -> None:
        for _ in self._answers(name, failed, **arguments):
            pass

    def _answers(self, name: str, failed: str, **arguments: Any) -> Generator[Output]:
        """What the call gives, as it comes. Raises EngineError, which begins with `failed`, where it fails, and where
        the process has ended."""
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

    def _arguments(self, folder: Path) -> dict[str, Any]:
        """Those of vLLM's `LLM`."""
        policy, options = self._policy, self._options
        is_cpu = policy.device.type == "cpu"
        return {
            "model": str(folder),
            "dtype": policy.computes_in,
            "max_model_len": self._max_model_len,
            "tensor_parallel_size": options.tensor_parallel_size,
            "gpu_memory_utilization": options.memory_share,
            "kv_cache_memory_bytes": self._cache_bytes() if is_cpu else None,
            "enable_sleep_mode": options.sleep,
            "enforce_eager": is_cpu,
            **({} if self._lora_rank is None else {"enable_lora": True, "max_lora_rank": self._lora_rank}),
        }

    def _cache_bytes(self) -> int:
        """Of the keys and values of `max_concurrent_tokens`."""
        model = dimensions(self._policy.model)
        each = 2 * model.layers * model.key_value_heads * model.head_size * self._policy.compute_dtype.itemsize
        return each * (self._max_concurrent_tokens + _SPARE_POSITIONS)


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
