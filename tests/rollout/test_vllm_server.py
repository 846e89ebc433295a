"""A vLLM server that runs sample from and give weights to, for real: started as the error says that it is to be."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import processes
import pytest
import ranks
import torch
from packaging.specifiers import SpecifierSet
from test_vllm_engine import ROOM, check_adapter_alone, flat, metrics, mismatch, options, sample, step, torch_engine

from unigrad.cli import main
from unigrad.config import LoraConfig, RolloutConfig, VllmConfig
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError
from unigrad.policy import Policy, load_policy
from unigrad.rollout import Completion, Prompt, Sampling, vllm_server
from unigrad.rollout.engine import EngineError
from unigrad.rollout.engines import engine_of
from unigrad.rollout.vllm_engine import VllmEngine
from unigrad.rollout.vllm_process import shape
from unigrad.rollout.vllm_server import Needs, VllmServer

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
SECONDS_TO_START = 400


def tiny() -> Policy:
    return load_policy(model_source("tiny"), device="cpu")


def needs(**changes: Any) -> Needs:
    policy = tiny()
    own = Needs(str(model_source("tiny")), "float32", 256, shape(policy.model.config))
    return replace(own, **changes)


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = f"http://127.0.0.1:{free_port()}"
    words = shlex.split(needs(lora_rank=8).command(address))
    model = words.index("serve") + 1
    settings = dict(word.split("=") for word in words[: model - 2])
    # The command of the build for CPUs looks for the package by the name of the one for GPUs; and one process fewer.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", *words[model:]]
    environment = {
        **os.environ, **settings, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    said = tmp_path_factory.mktemp("server") / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--enforce-eager", "--distributed-executor-backend", "uni"],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(SECONDS_TO_START):
            assert process.poll() is None, said.read_text()
            with contextlib.suppress(ConfigError):
                VllmServer(address, "").checked(needs())
                break
            time.sleep(1)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def engine(address: str) -> Iterator[VllmEngine]:
    engine = start(tiny(), address)
    yield engine
    engine.close()


def start(policy: Policy, address: str) -> VllmEngine:
    return VllmEngine(policy, max_concurrent_tokens=ROOM, options=VllmConfig(server=address))


@needs_vllm
@pytest.mark.timeout(SECONDS_TO_START + 60)
def test_greedy_tokens_are_the_torch_engines_also_after_a_step(engine: VllmEngine) -> None:
    policy = engine._policy
    before = None
    for version in (1, 2):
        greedy = sample(engine, temperature=0.0)
        assert flat(greedy) == flat(sample(torch_engine(policy), temperature=0.0)) != before
        assert mismatch(policy, greedy) < 1e-4
        assert {each.weights_version for group in greedy for each in group} == {version}
        before = flat(greedy)
        step(policy)
    warm = sample(engine, temperature=0.6)
    assert mismatch(policy, warm, 0.6) < 1e-4
    assert len({each.token_ids for each in warm[0]}) > 1


@needs_vllm
def test_an_adapter_is_merged(address: str) -> None:
    pytest.importorskip("peft")
    policy = tiny()
    policy.add_adapter(LoraConfig(r=4), 0)
    engine = start(policy, address)
    try:
        plain = sample(engine, temperature=0.0)
        step(policy, 0.05)
        adapted = sample(engine, temperature=0.0)
        assert flat(adapted) == flat(sample(torch_engine(policy), temperature=0.0)) != flat(plain)
    finally:
        engine.close()


@needs_vllm
def test_an_adapter_goes_over_alone(address: str) -> None:
    pytest.importorskip("peft")
    check_adapter_alone(VllmConfig(server=address, adapter_only=True))


@needs_vllm
def test_a_rollout_depends_on_its_seed_its_key_and_its_index_alone(engine: VllmEngine) -> None:
    first = sample(engine, seed=1)
    assert flat(sample(engine, seed=1)) == flat(first)
    assert flat(sample(engine, seed=2)) != flat(first)
    alone = engine.generate([Prompt("middle", (1, *(3 + i * 11 % 90 for i in range(30))))], sampling(2), 1)
    assert flat(alone) == flat([first[2][:2]])


def sampling(n: int, length: int = 24) -> Sampling:
    return Sampling(num_generations=n, max_completion_length=length)


@needs_vllm
@pytest.mark.parametrize(
    "options", [{"stop": ("3", "1+")}, {"stop_token_ids": (5, 6, 7, 8, 9)}, {"length": 3}, {"length": 500}], ids=str
)
def test_greedy_rollouts_end_as_the_torch_engines(engine: VllmEngine, options: dict[str, Any]) -> None:
    expected = sample(torch_engine(engine._policy), n=1, temperature=0.0, **options)
    assert flat(sample(engine, n=1, temperature=0.0, **options)) == flat(expected)


@needs_vllm
def test_completions_are_handed_over_as_they_end_and_what_is_left_is_let_go(engine: VllmEngine) -> None:
    seen: list[Completion] = []
    prompts = [Prompt("a", (1, 5, 6, 40))]
    groups = engine.generate(prompts, sampling(3), 0, lambda *each: seen.append(each[2]))
    assert sorted(each.token_ids for each in seen) == sorted(each.token_ids for each in groups[0])

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.generate(prompts, sampling(64, 200), 0, fail)
    assert flat(engine.generate(prompts, sampling(3), 0)) == flat(groups)


@needs_vllm
def test_weights_of_another_run_are_an_error_at_once(engine: VllmEngine, address: str) -> None:
    other = start(tiny(), address)
    assert sample(other, n=1)
    with pytest.raises(EngineError, match=rf"^vLLM's server at {address} has other weights than this run gave it: "):
        sample(engine)
    other.close()


@needs_vllm
def test_weights_that_are_not_the_policys_are_an_error(engine: VllmEngine) -> None:
    policy = engine._policy
    step(policy)
    with torch.no_grad():  # in no file, so that vLLM does not get it
        policy.model.model.rotary_emb.inv_freq *= 3.0
    with pytest.raises(EngineError, match=r"^weights 2 in vLLM: its log-probs differ by [0-9.]+ from those that would"):
        sample(engine)
    with torch.no_grad():
        next(policy.model.parameters())[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sample(engine)


@needs_vllm
def test_a_folder_that_it_does_not_see_is_named_and_it_goes_on(engine: VllmEngine, tmp_path: Path) -> None:
    seen_by_none = tmp_path / "folder"
    no_folder = rf"does not take the weights in {seen_by_none}: it sees no such folder; rollout\.vllm\.weights_folder"
    with pytest.raises(EngineError, match=no_folder):
        engine._remote.take_weights(seen_by_none, 2)
    assert sample(engine, n=1)
    with pytest.raises(ConfigError, match=r"^rollout\.vllm\.weights_folder: .*No such file or directory"):
        VllmEngine(
            tiny(), max_concurrent_tokens=ROOM, options=engine._options.model_copy(update={"weights_folder": "x/y"})
        )


@needs_vllm
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"lora_rank": 64}, r"was started without --enable-lora --max-lora-rank 64; "),
        ({"dtype": "bfloat16"}, r"was started without --dtype bfloat16; "),
        (
            {"max_model_len": 512},
            r"was started without --max-model-len 512, or a lower rollout\.max_concurrent_tokens; ",
        ),
        ({"shape": {"vocab_size": 49152}}, r"has another model than the run: its vocab_size is 101, not 49152; "),
    ],
)
def test_a_server_that_was_started_otherwise_is_one_line(address: str, changes: dict[str, Any], what: str) -> None:
    start_it = r"start it with: VLLM_SERVER_DEV_MODE=1 .*vllm serve \S+ --port \d+ --max-model-len"
    with pytest.raises(ConfigError, match=rf"^rollout\.vllm\.server: vLLM's server at {address} {what}{start_it}"):
        VllmServer(address, "").checked(needs(**changes))


@needs_vllm
def test_a_server_of_another_version_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_server, "WINDOW", SpecifierSet(">=0.90,<0.91"))
    with pytest.raises(ConfigError, match=rf"vllm 0\.32\.\d+ at {address} was not tried, <0\.91,>=0\.90 was; start it"):
        VllmServer(address, "").checked(needs())


class Forwarder:
    """A way to the server that can be cut."""

    def __init__(self, address: str) -> None:
        self._port = int(address.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours = self._listener.accept()[0]
                theirs = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [ours, theirs]
                for source, target in ((ours, theirs), (theirs, ours)):
                    threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@needs_vllm
@pytest.mark.timeout(400)
def test_ranks_share_a_server_and_its_loss_is_one_line_and_the_run_goes_on(address: str, tmp_path: Path) -> None:
    run, way = tmp_path / "run", Forwarder(address)
    keys = ["--rollout.vllm.server", way.address]
    with ranks.Ranks(2, tmp_path, ranks.command_line, [*options(run, train__max_steps=50), *keys]) as both:
        file = run / "metrics.jsonl"
        while not file.exists() or file.read_bytes().count(b"\n") < 3:
            assert all(each.is_alive() for each in both.processes), both.said()
            time.sleep(0.01)
        way.cut()
        assert both.codes() == [1, 1], both.said()
        (line,) = [each for each in both.said().splitlines() if each.startswith("unigrad: error:")]
        assert f"no vLLM server answers at {way.address}" in line
        assert f"--resume {run}" in line
        assert "Traceback" not in both.said()
    last = str(metrics(run)[-1]["step"] + 2)
    keys = ["--rollout.vllm.server", address, "--train.max_steps", last]
    again = processes.start(["train", "--resume", str(run), *keys], tmp_path / "said")
    assert processes.exit_code(again) == 0, (tmp_path / "said").read_text()
    assert (run / "final").is_dir()
    assert [line["step"] for line in metrics(run)] == [*range(int(last) + 1)]
    for line in metrics(run)[1:]:
        assert line.get("policy/rollout_mismatch_max", 0.0) < 1e-4


@needs_vllm
def test_ranks_train_an_adapter_that_goes_over_alone(address: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    run = tmp_path / "run"
    lora = {"model__lora__r": 4, "rollout__vllm__adapter_only": True, "train__learning_rate": 0.01}
    keys = options(run, rollout__vllm__server=address, train__max_steps=3, train__eval_steps=0, **lora)
    ranks.train(2, tmp_path, keys)
    lines = [line for file in (run / "rollouts").iterdir() for line in file.read_text().splitlines()]
    versions = {json.loads(line).get("weights_version") for line in lines}
    assert versions - {None} == {1, 2, 3}  # a demonstration has none
    for line in metrics(run):
        assert line.get("policy/rollout_mismatch_max", 0.0) < 1e-4


@contextlib.contextmanager
def another_web_server(*, version: str | None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if version and self.path == "/version" else 404)
            self.end_headers()
            self.wfile.write(b'{"version": "%s"}' % str(version).encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_no_server_to_be_used_is_one_line_with_the_command(tmp_path: Path) -> None:
    def error_of(address: str) -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            assert main([*options(tmp_path / "run"), "--rollout.vllm.server", address]) == 2
        line, command = said.getvalue().split("; start it with: ")
        port = address.rpartition(":")[2]
        assert command == f"{needs().command(address)}\n"
        assert f"VLLM_SERVER_DEV_MODE=1 vllm serve {model_source('tiny')} --port {port} --max-model-len 256 " in command
        return line

    nowhere = f"http://127.0.0.1:{free_port()}"
    first = "unigrad: error: rollout.vllm.server: "
    assert error_of(nowhere).startswith(f"{first}no vLLM server answers at {nowhere}: ")
    with another_web_server(version=None) as address:
        assert error_of(address) == f"{first}what answers at {address} is no vLLM server"
    with another_web_server(version="0.32.1") as address:
        assert error_of(address) == f"{first}vLLM's server at {address} was started without VLLM_SERVER_DEV_MODE=1"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"server": "10.0.0.1:8000"}, r"must be http://HOST:PORT, such as http://127\.0\.0\.1:8000, and is '10\.0"),
        ({"server": "http://node"}, r"must be http://HOST:PORT"),
        ({"server": "http://node:80000"}, r"must be http://HOST:PORT"),
        ({"server": "http://node:8000/v1"}, r"must be http://HOST:PORT"),
        ({"server": "http://node:8000", "sleep": True}, r"sleep is of a process of the run's own, and server is given"),
        ({"server": "http://node:8000", "memory_share": 0.9}, r"give the server --gpu-memory-utilization instead"),
    ],
)
def test_what_does_not_fit_a_server_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VllmConfig.model_validate(section)


def test_a_server_needs_no_vllm_here() -> None:
    assert VllmConfig(server="http://node:8000/").server == "http://node:8000"
    engine_of(RolloutConfig(engine="vllm", vllm=VllmConfig(server="http://node:8000")))
    with pytest.raises(ConfigError, match=r"rollout\.vllm: only rollout\.engine = 'vllm' reads it"):
        engine_of(RolloutConfig(vllm=VllmConfig(server="http://node:8000")))
