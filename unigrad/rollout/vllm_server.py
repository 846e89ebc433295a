"""A vLLM server that its user started, over HTTP: the run samples from it, and gives it the policy's weights."""

from __future__ import annotations

import json
import math
import re
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from unigrad.errors import ConfigError, as_line, one_line
from unigrad.rollout.engine import EngineError
from unigrad.rollout.vllm_process import EXTENSION, WINDOW, Output, Request, Weights
from unigrad.world import World

_DEV_SETTING, _LORA_SETTING = "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_GENERATE = "/inference/v1/generate"
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_SAY = 120.0
"""What it is: it looks at its whole machine for that."""
_SILENCE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}
"""Of a connection on which nothing comes: after a minute it ends where the other machine has gone."""
_NOT_FINITE = -9999.0
"""What vLLM's JSON has in place of a log-prob that is no number, or −∞."""
_OF_THE_CALL = "Call to collective_rpc method failed: "
_OF_A_WORKER = re.compile(r"Worker failed with error '(.*)', please check the stack trace", re.DOTALL)
"""What vLLM puts around a worker's own words."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run needs of a server.

    model: what it serves at first: a folder or the hub's name. shape: what `vllm_process.shape` must say of it.
    lora_rank: of adapters that it must have room for; None: of none.
    """

    model: str
    dtype: str
    max_model_len: int
    shape: Mapping[str, Any]
    lora_rank: int | None = None

    @property
    def flags(self) -> dict[str, str]:
        """Those of `vllm serve` that have one right value."""
        return {
            "--dtype": self.dtype,
            "--logprobs-mode": "processed_logprobs",
            "--generation-config": "vllm",
            "--worker-extension-cls": EXTENSION,
        }

    def command(self, address: str) -> str:
        """What starts such a server."""
        flags = {"--port": urlsplit(address).port, "--max-model-len": self.max_model_len, **self.flags}
        given = " ".join(f"{flag} {value}" for flag, value in flags.items())
        setting = room = ""
        if self.lora_rank is not None:
            setting, room = f"{_LORA_SETTING}=1 ", f" --enable-lora --max-lora-rank {self.lora_rank}"
        return f"{_DEV_SETTING}=1 {setting}vllm serve {self.model} {given} --enable-scale-out{room}"


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A server from here.

    address: `http://HOST:PORT`. run: a name by which the server's weights are known to be this run's. parallel: how
    many requests it works on at a time. has_adapter: whether it is given adapters, and samples from these.
    """

    address: str
    run: str
    parallel: int = 1
    has_adapter: bool = False

    def sample(self, requests: Sequence[Request], weights_version: int) -> Generator[Output]:
        """The outputs as they end; those that are not waited for are let go.

        Raises EngineError where the server fails or has gone, or where one was not sampled by these weights.
        """
        model = {"model": self._name(weights_version)} if self.has_adapter else {}
        bodies = [{"token_ids": [*ids], "sampling_params": dict(parameters), **model} for ids, parameters in requests]
        for number, answer in self._answers(_GENERATE, bodies):
            (choice,) = answer["choices"]
            versions = {each["version"] for each in choice["weight_versions"] or ()}
            if versions - {self._name(weights_version)}:
                raise EngineError(
                    f"{self} has other weights than this run gave it: it was started again, or another run uses it"
                )
            logprobs = [entry["logprob"] for entry in choice["logprobs"]["content"]]
            finite = [math.nan if value <= _NOT_FINITE else value for value in logprobs]
            yield number, choice["token_ids"], finite, choice["finish_reason"]

    def take_weights(self, folder: Path, weights_version: int) -> None:
        """Those of the model in the folder, which the server must reach by the same path, in place of its own.

        Raises EngineError where it fails.
        """
        with self._paused(weights_version):
            body = {"method": Weights.take_weights.__name__, "kwargs": {"folder": str(folder)}}
            self._call("/collective_rpc", body, f"does not take the weights in {folder}")

    def take_adapter(self, folder: Path, weights_version: int) -> None:
        """That in the folder, as `take_weights`, on the weights that were taken before. Raises EngineError where it
        fails."""
        with self._paused(weights_version):
            adapter = {"lora_name": self._name(weights_version), "lora_path": str(folder)}
            self._call("/v1/load_lora_adapter", adapter, f"does not take the adapter in {folder}")
            if weights_version > 1:
                self._call("/v1/unload_lora_adapter", {"lora_name": self._name(weights_version - 1)})

    @contextmanager
    def _paused(self, weights_version: int) -> Iterator[None]:
        """Inside, nothing is sampled: what was is given up, and the prefix cache is emptied. Then the server has these
        weights."""
        self._call("/pause?mode=abort")
        try:
            yield
            self._call("/update_weight_version", {"new_version": self._name(weights_version)})
        finally:
            self._call("/resume")

    def start(self, folder: Path, weights_version: int) -> None:
        """It serves a model already."""
        self.take_weights(folder, weights_version)

    def awake(self) -> AbstractContextManager[None]:
        """It never sleeps: it has its GPUs for itself."""
        return nullcontext()

    def rest(self) -> None:
        """See `awake`."""

    def close(self) -> None:
        """The server is its user's, and stays."""

    def checked(self, needs: Needs) -> VllmServer:
        """As it says of itself. Raises ConfigError, one line with what to start, where it is not what is needed."""
        try:
            what, found = self._fault(needs)
        except EngineError as error:
            what, found = one_line(error), self
        if what:
            raise ConfigError(f"rollout.vllm.server: {what}; start it with: {needs.command(self.address)}")
        return found

    def _fault(self, needs: Needs) -> tuple[str | None, VllmServer]:
        """What is wrong with it, if anything, and the server as it says of itself."""
        calls = _Calls(self.address, _SECONDS_TO_SAY)
        status, version = calls.ask("GET", "/version")
        if status != HTTPStatus.OK or not isinstance(version, dict) or "version" not in version:
            return f"what answers at {self.address} is no vLLM server", self
        if not WINDOW.contains(version["version"], prereleases=True):
            return f"vllm {version['version']} at {self.address} was not tried, {WINDOW} was", self
        status, said = calls.ask("GET", f"/server_info?{urlencode({'config_format': 'json'})}")
        if status != HTTPStatus.OK:
            return f"{self} was started without {_DEV_SETTING}=1", self
        settings = said["vllm_config"]
        model = settings["model_config"]
        found = {
            "--dtype": str(model["dtype"]).removeprefix("torch."),
            "--logprobs-mode": model["logprobs_mode"],
            "--generation-config": model["generation_config"],
            "--worker-extension-cls": settings["parallel_config"]["worker_extension_cls"],
        }
        lacking = [f"{flag} {value}" for flag, value in needs.flags.items() if found[flag] != value]
        if model["max_model_len"] < needs.max_model_len:
            lacking.append(f"--max-model-len {needs.max_model_len}, or a lower rollout.max_concurrent_tokens")
        if calls.ask("POST", _GENERATE, {})[0] == HTTPStatus.FORBIDDEN:
            lacking.append("--enable-scale-out")
        if needs.lora_rank is not None:
            if ((settings["lora_config"] or {}).get("max_lora_rank") or 0) < needs.lora_rank:
                lacking.append(f"--enable-lora --max-lora-rank {needs.lora_rank}")
            if not said["vllm_env"].get(_LORA_SETTING):
                lacking.append(f"{_LORA_SETTING}=1")
        if lacking:
            return f"{self} was started without {', '.join(lacking)}", self
        shape = self._call("/collective_rpc", {"method": Weights.model_shape.__name__})["results"][0]
        for name, value in needs.shape.items():
            if shape[name] not in (None, value):
                return f"{self} has another model than the run: its {name} is {shape[name]}, not {value}", self
        parallel = settings["scheduler_config"]["max_num_seqs"]
        return None, VllmServer(self.address, self.run, parallel, has_adapter=needs.lora_rank is not None)

    def _name(self, weights_version: int) -> str:
        return f"{self.run}-{weights_version}"

    def _call(self, path: str, body: Mapping[str, Any] | None = None, failed: str | None = None) -> Any:
        ((_, answer),) = self._answers(path, [body or {}], failed or f"refuses {path}")
        return answer

    def _answers(
        self, path: str, bodies: Sequence[Mapping[str, Any]], failed: str = "failed as it sampled"
    ) -> Iterator[tuple[int, Any]]:
        """Each body's answer by its position, as they come. Raises EngineError, which says `failed` of the server."""
        if not bodies:
            return
        calls = _Calls(self.address)
        with ThreadPoolExecutor(min(len(bodies), self.parallel)) as pool:
            futures = {pool.submit(calls.ask, "POST", path, body): number for number, body in enumerate(bodies)}
            try:
                for future in as_completed(futures):
                    status, answer = future.result()
                    if status != HTTPStatus.OK:
                        raise EngineError(f"{self} {failed}: {_message(answer)}")
                    yield futures[future], answer
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                calls.hang_up()

    def __str__(self) -> str:
        return f"vLLM's server at {self.address}"


class _Calls:
    """Calls to the server at this address, each on a connection of its own, that can be given up together.

    seconds: that an answer may take; None: a completion takes what it takes.
    """

    def __init__(self, address: str, seconds: float | None = None) -> None:
        self._address, self._seconds = address, seconds
        self._are_over = Event()
        self._connections: set[HTTPConnection] = set()

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """The status, and the answer: as JSON where it is such. Raises EngineError where none comes."""
        where = urlsplit(self._address)
        connection = HTTPConnection(where.hostname or "", where.port, timeout=_SECONDS_TO_CONNECT)
        try:
            connection.connect()
            for name, value in _SILENCE.items():
                if (option := getattr(socket, name, None)) is not None:
                    connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.sock.settimeout(self._seconds)
            self._connections.add(connection)
            if self._are_over.is_set():
                raise ConnectionAbortedError("given up")
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, _parsed(answer.read())
        except (OSError, HTTPException) as error:
            raise EngineError(f"no vLLM server answers at {self._address}: {one_line(error)}") from error
        finally:
            self._connections.discard(connection)
            connection.close()

    def hang_up(self) -> None:
        """End all calls; vLLM lets go what it works on for them."""
        self._are_over.set()
        for connection in [*self._connections]:
            with suppress(OSError, AttributeError):  # one that ends by itself meanwhile
                connection.sock.shutdown(socket.SHUT_RDWR)


def connected(address: str, needs: Needs, world: World) -> VllmServer:
    """The server, for all ranks. Raises ConfigError, one line with what to start, where it is not what is needed."""
    run = world.from_first(lambda: uuid4().hex)
    return VllmServer(address, run).checked(needs)


def _parsed(content: bytes) -> Any:
    text = content.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _message(answer: Any) -> str:
    """What vLLM says of an error."""
    text = str(answer["error"]["message"] if isinstance(answer, dict) and "error" in answer else answer)
    worker = _OF_A_WORKER.search(text)
    return as_line(worker[1] if worker else text.removeprefix(_OF_THE_CALL))
