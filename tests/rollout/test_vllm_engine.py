"""The vLLM engine, for real: its tokens, its log-probs, the weights that it is given, and how it fails."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from packaging.requirements import Requirement

from unigrad.batch import Sequences, micro_batch_of
from unigrad.cli import main
from unigrad.config import LoraConfig, RolloutConfig, VllmConfig, load_config
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError
from unigrad.policy import Policy, load_policy
from unigrad.rollout import Completion, Prompt, Sampling, TorchEngine, vllm_engine, vllm_process
from unigrad.rollout.engine import EngineError
from unigrad.rollout.engines import engine_of, is_exact
from unigrad.rollout.probe import check_log_probs
from unigrad.rollout.vllm_colocated import environment
from unigrad.rollout.vllm_engine import VllmEngine
from unigrad.rollout.vllm_process import ENVIRONMENT, WINDOW, room_for_rank

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
ROOM = 2048
# The second is longer than a block of vLLM's cache, and so found in it again.
PROMPTS = [
    Prompt("short", (1, 5, 6, 40)),
    Prompt("long", (1, *(3 + i * 7 % 90 for i in range(150)))),
    Prompt("middle", (1, *(3 + i * 11 % 90 for i in range(30)))),
]


def start(policy: Policy) -> VllmEngine:
    return VllmEngine(policy, max_concurrent_tokens=ROOM)


# As torchrun has them: vLLM's process is none of its ranks.
OF_A_RANK = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OF_A_RANK.items():
            patch.setenv(name, value)
        engine = start(load_policy(model_source("tiny"), device="cpu"))
    yield engine
    engine.close()


@pytest.fixture
def policy(engine: VllmEngine) -> Policy:
    return engine._policy


def sample(engine: Any, seed: int = 0, n: int = 4, length: int = 24, **options: Any) -> list[list[Completion]]:
    return engine.generate(PROMPTS, Sampling(num_generations=n, max_completion_length=length, **options), seed)


def flat(groups: list[list[Completion]]) -> list[tuple[tuple[int, ...], str, bool, bool]]:
    return [(each.token_ids, each.text, each.truncated, each.ended) for group in groups for each in group]


def torch_engine(policy: Policy) -> TorchEngine:
    return TorchEngine(policy.model, policy.tokenizer, max_concurrent_tokens=ROOM)


def mismatch(policy: Policy, groups: list[list[Completion]], temperature: float = 1.0) -> float:
    """The largest distance of the engine's log-probs from the trainer's, in nats."""
    pairs = [(prompt, each) for prompt, group in zip(PROMPTS, groups, strict=True) for each in group]
    rows = [(prompt.token_ids, each.token_ids) for prompt, each in pairs]
    batch = micro_batch_of(Sequences.of_ids(rows, [temperature] * len(rows)), [range(len(rows))], "padded")
    with torch.no_grad():
        statistics = policy(batch)
    sampled = [value for index in batch.indices_P.tolist() for value in pairs[index][1].logprobs]
    return (torch.tensor(sampled) - statistics.logp_M).abs().max().item()


def step(policy: Policy, learning_rate: float = 0.01) -> None:
    """An optimizer's step that changes what the policy samples."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate)
    rows = [(prompt.token_ids, (9, 8, 7, 6, 5)) for prompt in PROMPTS]
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * len(rows)), [range(len(rows))], "padded")
    (-policy(batch).logp_M.sum()).backward()
    optimizer.step()
    optimizer.zero_grad()


@needs_vllm
def test_greedy_tokens_are_the_torch_engines_also_after_a_step(engine: VllmEngine, policy: Policy) -> None:
    assert not is_exact(engine, policy)
    before = None
    for _ in range(2):
        greedy = sample(engine, temperature=0.0)
        assert flat(greedy) == flat(sample(torch_engine(policy), temperature=0.0))
        assert mismatch(policy, greedy) < 1e-4
        assert flat(greedy) != before
        versions = {each.weights_version for group in greedy for each in group}
        assert versions == {engine.weights_version}
        before = flat(greedy)
        step(policy)
    assert {each.weights_version for group in sample(engine) for each in group} == {engine.weights_version}
    assert engine.weights_version == versions.pop() + 1


@needs_vllm
def test_weights_that_are_put_in_place_of_others_are_new_ones(engine: VllmEngine, policy: Policy) -> None:
    for parameter in policy.model.parameters():
        parameter.data = parameter.data * 1.01
    assert mismatch(policy, sample(engine)) < 1e-4


@needs_vllm
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_the_trainers_at_the_temperature(engine: VllmEngine, policy: Policy, temperature: float) -> None:
    groups = sample(engine, temperature=temperature)
    assert mismatch(policy, groups, temperature) < 1e-4
    assert len({each.token_ids for each in groups[0]}) > 1
    every = [each for group in groups for each in group]
    assert all(len(each.token_ids) == len(each.logprobs) for each in every)
    assert all(each.entropies == () for each in every)


@needs_vllm
def test_a_rollout_depends_on_its_seed_its_key_and_its_index_alone(engine: VllmEngine) -> None:
    first = sample(engine, seed=1)
    assert flat(sample(engine, seed=1)) == flat(first)
    assert flat(sample(engine, seed=2)) != flat(first)
    alone = engine.generate([PROMPTS[2]], Sampling(num_generations=2, max_completion_length=24), 1)
    assert flat(alone) == flat([first[2][:2]])


@needs_vllm
@pytest.mark.parametrize(
    "options", [{"stop": ("3", "1+")}, {"stop_token_ids": (5, 6, 7, 8, 9)}, {"length": 3}, {"length": 500}], ids=str
)
def test_greedy_rollouts_end_as_the_torch_engines(engine: VllmEngine, policy: Policy, options: dict[str, Any]) -> None:
    expected = sample(torch_engine(policy), n=1, temperature=0.0, **options)
    assert flat(sample(engine, n=1, temperature=0.0, **options)) == flat(expected)


@needs_vllm
def test_what_is_cut_off_is_never_sampled(engine: VllmEngine, policy: Policy) -> None:
    groups = sample(engine, n=64, length=1, top_k=2, temperature=2.0)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        with torch.no_grad():
            likeliest = policy.model(torch.tensor([prompt.token_ids])).logits[0, -1].topk(2).indices.tolist()
        assert {each.token_ids[0] for each in group} <= set(likeliest)
    assert any(len({each.token_ids for each in group}) == 2 for group in groups)


@needs_vllm
def test_completions_are_handed_over_as_they_end(engine: VllmEngine) -> None:
    seen: list[tuple[str, int, Completion]] = []
    sampling = Sampling(num_generations=3, max_completion_length=24)
    groups = engine.generate(PROMPTS, sampling, 0, lambda *each: seen.append((each[0].key, each[1], each[2])))
    assert {(key, index): each for key, index, each in seen} == {
        (prompt.key, index): each
        for prompt, group in zip(PROMPTS, groups, strict=True)
        for index, each in enumerate(group)
    }

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.generate(PROMPTS, sampling, 0, fail)
    assert flat(engine.generate(PROMPTS, sampling, 0)) == flat(groups)


@needs_vllm
def test_bad_prompts_are_refused(engine: VllmEngine) -> None:
    sampling = Sampling(num_generations=1, max_completion_length=4)
    for prompts, message in (
        ([Prompt("a", ())], "has 0 tokens"),
        ([Prompt("a", (1,)), Prompt("a", (2,))], "two prompts have the key 'a'"),
        ([Prompt("a", (1,) * 256)], "has 256 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            engine.generate(prompts, sampling, 0)
    assert engine.generate([], sampling, 0) == []


@needs_vllm
def test_weights_that_are_not_the_policys_are_an_error(engine: VllmEngine, policy: Policy) -> None:
    step(policy, 0.03)
    # As if it had them.
    engine._given = vllm_engine._sums(policy)
    with pytest.raises(ValueError, match=r"^stale: its log-probs differ by [0-9.]+ from those that would be trained"):
        check_log_probs(engine, policy, "stale", engine._rounding)
    step(policy)
    sample(engine)
    with torch.no_grad():
        next(policy.model.parameters())[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        sample(engine)


def check_adapter_alone(options: VllmConfig) -> None:
    policy = load_policy(model_source("tiny"), device="cpu")
    policy.add_adapter(LoraConfig(r=4, alpha=6.0), 0)
    engine = VllmEngine(policy, max_concurrent_tokens=ROOM, options=options)
    try:
        before = None
        for version in (1, 2, 3):
            greedy = sample(engine, temperature=0.0)
            assert flat(greedy) == flat(sample(torch_engine(policy), temperature=0.0)) != before
            assert mismatch(policy, greedy) < 1e-4
            assert {each.weights_version for group in greedy for each in group} == {version}
            before = flat(greedy)
            (newest,) = Path(engine._files.name).glob("[0-9]*")
            assert newest.name == f"{version}"
            assert not (newest / "model.safetensors").exists()
            step(policy, 0.05)
    finally:
        engine.close()


@needs_vllm
def test_an_adapter_goes_over_alone() -> None:
    pytest.importorskip("peft")
    check_adapter_alone(VllmConfig(adapter_only=True))


@needs_vllm
def test_its_process_ends_with_it_and_its_end_is_one_error() -> None:
    engine = start(load_policy(model_source("tiny"), device="cpu"))
    files, process = Path(engine._files.name), psutil.Process(engine._remote._process.pid)
    assert os.getpgid(process.pid) != os.getpgid(0)
    process.kill()
    with pytest.raises(EngineError, match=r"^vLLM failed as it sampled: its process has ended \(-9\)$"):
        sample(engine)
    engine.close()
    assert not files.exists()
    assert not process.is_running()


@needs_vllm
def test_a_model_that_vllm_refuses_is_one_line() -> None:
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    tiny = load_policy(model_source("tiny"), device="cpu")
    model = OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=101, n_positions=64, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match=r"^vLLM cannot run OpenAIGPTLMHeadModel: ") as refusal:
        start(Policy(model, tiny.tokenizer))
    assert "\n" not in str(refusal.value)


RUN = {
    "rollout.engine": "vllm", "tiny.train_problems": 16, "tiny.eval_problems": 8, "rollout.max_completion_length": 32,
    "rollout.num_generations": 4, "train.questions_per_step": 4, "train.max_steps": 4, "train.save_steps": 1,
    "train.eval_steps": 2, "train.tensorboard": "false",
}  # fmt: skip


def unigrad(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unigrad", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def options(run: Path, **changes: object) -> list[str]:
    keys = {**RUN, "output_dir": run, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["train", "tiny-hpt", *(text for key, value in keys.items() for text in (f"--{key}", str(value)))]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@needs_vllm
@pytest.mark.timeout(400)
def test_a_run_whose_vllm_is_killed_says_so_and_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = unigrad(*options(run))
    file = run / "metrics.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    for each in psutil.Process(process.pid).children(recursive=True):
        if vllm_process.__name__ in each.cmdline():
            each.kill()
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 1, said
    (line,) = [each for each in said.splitlines() if each.startswith("unigrad: error:")]
    assert "its process has ended" in line
    assert f"--resume {run}" in line
    assert "Traceback" not in said
    again = unigrad("train", "--resume", str(run))
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert (run / "final").is_dir()
    assert [line["step"] for line in metrics(run)] == [0, 1, 2, 3, 4]
    for line in metrics(run)[1:]:
        assert "policy/entropy" not in line
        assert line.get("policy/rollout_mismatch_max", 0.0) < 1e-4
        assert line.get("policy/rollout_ess", 1.0) > 0.999


@needs_vllm
def test_smollm2() -> None:
    path = os.environ.get("UNIGRAD_SMOLLM2")
    if path is None:
        pytest.skip("UNIGRAD_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
    policy = load_policy(path, device="cpu")
    engine = start(policy)
    try:
        texts = ("The capital of France is", "Two and two make", "Once upon a time")
        prompts = [Prompt(text, tuple(policy.tokenizer(text).input_ids)) for text in texts]
        sampling = Sampling(num_generations=1, max_completion_length=24, temperature=0.0)
        for _ in range(2):
            greedy = engine.generate(prompts, sampling, 0)
            assert flat(greedy) == flat(torch_engine(policy).generate(prompts, sampling, 0))
            step(policy, 1e-4)
    finally:
        engine.close()


def test_its_process_sees_the_policys_gpu_alone_and_is_no_rank() -> None:
    ours = {**OF_A_RANK, "HOME": "/", "VLLM_LOGGING_LEVEL": "INFO", "CUDA_VISIBLE_DEVICES": "4,6"}
    common = {**ENVIRONMENT, "HOME": "/", "VLLM_LOGGING_LEVEL": "INFO"}
    for device, visible in (("cuda:1", "6"), ("cuda", "4"), ("cpu", "4,6"), (None, "4,6")):
        seen = environment(ours, device and torch.device(device))
        assert seen == {**common, "CUDA_VISIBLE_DEVICES": visible}
    assert environment({}, torch.device("cuda:1"))["CUDA_VISIBLE_DEVICES"] == "1"


def test_the_versions_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = map(Requirement, project["optional-dependencies"]["vllm"])
    assert (requirement.name, requirement.specifier) == ("vllm", WINDOW)


def test_vllm_that_is_missing_or_another_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for found, what in ((None, "vllm is missing"), ("0.9.1", f"vllm 0.9.1 was not tried, {WINDOW} was")):
        monkeypatch.setattr(vllm_process, "_installed", lambda found=found: found)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            assert main(options(tmp_path / "run")) == 2
        line = f"unigrad: error: rollout.engine = 'vllm': {what}; pip install 'unigrad[vllm]'\n"
        assert said.getvalue() == line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"engine": "vllm", "top_p": 0.9}, r"rollout\.top_p = 0\.9, .* or use rollout\.engine = 'torch'"),
        ({"engine": "vllm", "top_k": 5}, r"rollout\.top_k = 5: vLLM's log-probs are of what these leave"),
        ({"engine": "vllm", "temperature": 2.5}, r"rollout\.temperature = 2\.5: vLLM takes at most 2"),
        ({"engine": "vllm", "decode_dtype": "bfloat16"}, r"only rollout\.engine = 'torch' can decode .* not 'vllm'"),
        ({"vllm": {"sleep": True}}, r"rollout\.vllm: only rollout\.engine = 'vllm' reads it, not 'auto'; leave it out"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        engine_of(RolloutConfig.model_validate(section))


def test_a_model_is_not_cut_over_the_devices_of_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    section = RolloutConfig.model_validate({"engine": "vllm", "vllm": {"tensor_parallel_size": 2}})
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    with pytest.raises(ConfigError, match=r"each of the 8 ranks .* started with --tensor-parallel-size 2"):
        engine_of(section)
    # A rank alone on its machine has all of the machine's devices.
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(vllm_process, "_installed", lambda: "0.32.0")
    assert callable(engine_of(section))


def test_an_adapter_that_vllm_has_no_room_for_is_refused() -> None:
    assert [room_for_rank(each) for each in (1, 2, 8, 9, 300, 512)] == [1, 8, 8, 16, 320, 512]
    with pytest.raises(
        ConfigError, match=r"vLLM takes adapters of rank 512 at most, and model\.lora\.r is 600; leave it"
    ):
        room_for_rank(600)
    with pytest.raises(ConfigError, match=r"rollout\.vllm\.adapter_only: there is no adapter; set model\.lora\.r"):
        load_config("tiny-hpt", {"rollout.engine": "vllm", "rollout.vllm.adapter_only": "true"})
