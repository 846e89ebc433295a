"""The plan of a run: exact parameters, parts of memory held against real tensors, and no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import Ranks
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from unigrad.batch import Sequences, laid_out
from unigrad.cli import main
from unigrad.config import Config, load_config, recipe_names
from unigrad.data.tiny import MODEL_PATH
from unigrad.plan.memory import (
    LOGPROB_CHUNK,
    LOGPROBS_KEPT,
    SAMPLER_PART,
    Part,
    activations,
    cache_rows,
    key_value_size,
    logprob_buffers,
    memory,
    micro_batch_tokens,
    peak,
)
from unigrad.policy import Policy, find_architecture, load_policy, transformers_api
from unigrad.policy.activations import recompute
from unigrad.policy.architecture import Dimensions, bundled_architectures, dimensions, skeleton
from unigrad.policy.logprobs import CHUNK_BYTES, KEPT_BYTES
from unigrad.policy.sharding import sharded
from unigrad.rollout import Prompt, Sampling, TorchEngine, sampler, torch_engine
from unigrad.rollout.row_cache import RowCache
from unigrad.train.optimizer import build_optimizer
from unigrad.world import joined

ACTIVATIONS_WITHIN = 1.1
"""The estimate of what the layers keep is this close to what autograd saves."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder with an empty hub cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_can_be_planned_offline(recipe: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", recipe, "--plan"]) == 0
    output = capsys.readouterr().out
    config = load_config(recipe)
    assert re.search(r"model: .*, [\d,]+ parameters", output)
    assert "one GPU of at least" in output
    assert f"the run: {config.train.max_steps:,} steps" in output
    gated = config.model.name_or_path.startswith("meta-llama/")
    assert ("HF_TOKEN" in output) == gated
    assert ("from the hub" in output) == (config.model.name_or_path != "tiny")
    assert list(tmp_path.iterdir()) == []


WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments):
    sys.stderr.write(f"network: {arguments}\\n")
    raise OSError("no network")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from unigrad.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("recipe", ["tiny-hpt", "llama-3.1-8b-hpt"])
def test_nothing_tries_the_network(recipe: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, "train", recipe, "--plan"],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "HF_HOME": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-Math-7B", 7_615_616_512),
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_parameters_are_exact(name: str, parameters: int) -> None:
    assert dimensions(skeleton(bundled_architectures()[name])).parameters == parameters


def test_what_a_large_model_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "qwen2.5-math-7b-hpt-official", "--plan"]) == 0
    output = capsys.readouterr().out
    assert "128 questions, 1,024 completions, 2 updates; at most 8,388,608 tokens sampled" in output
    assert "the run: 500 steps, 64,000 questions, 512,000 completions, 1,000 updates" in output
    assert "it does not fit 24, 40, 80, 141 GB" in output
    on_8, on_64 = (re.search(rf"  {ranks} GPUs: fits .*", output) for ranks in (8, 64))
    assert on_8
    assert on_64
    # Of 16 bytes a parameter and AdamW's buffer, each keeps an eighth, or a 64th, besides the context.
    for line, ranks in ((on_8, 8), (on_64, 64)):
        assert float(line[0].split()[-1]) == pytest.approx(20 * 7_615_616_512 / ranks / 2**30 + 1, abs=0.01)
    assert "30.46 GB the final model" in output
    assert "the model Qwen/Qwen2.5-Math-7B from the hub, 15.23 GB" in output


def test_a_part_that_only_some_methods_have() -> None:
    model = dimensions(find_architecture(str(MODEL_PATH))[0])

    def parts(**changes: bool) -> dict[str, Part]:
        options = {"samples": True, "reference": False, "value_head": False, **changes}
        return {part.name: part for part in memory(load_config("tiny"), model, compute_size=2, **options)}

    assert parts(reference=True)["weights of the reference model, float32"].size == 4 * model.parameters
    assert parts(value_head=True)["weights, float32"].size == 4 * (model.parameters + model.hidden + 1)
    assert any(name.startswith("keys and values") for name in parts())


def test_an_adapter_is_trained_in_the_models_place(capsys: pytest.CaptureFixture[str]) -> None:
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    config = load_config("tiny-hpt", {"model.lora.r": "4"})
    options: dict[str, Any] = {"samples": True, "reference": True, "value_head": False, "compute_size": 2}
    sizes = {part.name: part.size for part in memory(config, model, **options, adapter=1000)}
    assert sizes["weights, float32"] == 4 * (model.parameters + 1000)
    assert sizes["gradients, float32"] == sizes["AdamW's buffer"] == 4000
    assert sizes["AdamW's two moments, float32"] == 8000
    assert "weights of the reference model, float32" not in sizes
    whole = {part.name: part.size for part in memory(config, model, **options)}
    head = model.vocabulary * model.hidden
    # The gradient of the output embedding, of a tied one twice, and a chunk's share of it in bfloat16.
    assert whole["logits, the output embedding's gradient"] - sizes["logits"] == (4 * (1 + model.tied) + 2) * head

    assert main(["train", "llama-3.1-8b-hpt", "--plan", "--model.lora.r", "16"]) == 0
    output = capsys.readouterr().out
    # r · (in + out) of q, k, v, o, gate, up and down, in 32 layers.
    pairs = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)
    assert f"8,030,261,248 parameters; its adapter, of {32 * 16 * pairs:,}, is trained" in output
    assert "0.50 GB a checkpoint" in output
    assert "32.12 GB the final model" in output


def test_the_model_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = AutoModelForCausalLM.from_config

    def from_config(config: Any) -> Any:
        made.append(config)
        return original(config)

    monkeypatch.setattr(AutoModelForCausalLM, "from_config", from_config)
    assert main(["train", "tiny-hpt", "--plan"]) == 0
    assert len(made) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.name_or_path", "Qwen/Qwen3-8B"], "the architecture of Qwen/Qwen3-8B is not known here"),
        (["--model.name_or_path", "./nowhere"], "there is no model at nowhere"),
        (["--rollout.max_completion_length", "20000"], "make 20064 tokens; tiny takes 256"),
        (["--algorithm.name", "gropo"], "unknown algorithm 'gropo'; did you mean 'grpo'?"),
        (["--data.prompt_template", "boxd"], "no prompt template 'boxd'"),
        (["--model.lora.r", "2", "--model.lora.target_modules", "v_prj"], "did you mean 'v_proj'?"),
    ],
)
@pytest.mark.usefixtures("offline")
def test_what_cannot_be_planned_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny-hpt", "--plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_is_planned_with_the_overrides(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL_PATH)
    model.save_pretrained(tmp_path)
    planned, found = find_architecture(str(tmp_path), rope_theta=500.0, max_position_embeddings=77)
    architecture = planned.config
    assert (architecture.rope_parameters["rope_theta"], architecture.max_position_embeddings) == (500.0, 77)
    assert found == "its folder"
    assert dimensions(planned).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.usefixtures("offline")
def test_the_local_cache_comes_before_the_bundled_facts(tmp_path: Path) -> None:
    name = "Qwen/Qwen2.5-Math-1.5B"
    model = tmp_path / "cache" / "models--Qwen--Qwen2.5-Math-1.5B"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("0123", encoding="utf-8")
    assert find_architecture(name)[1] == "the bundled facts"
    config = AutoModelForCausalLM.from_pretrained(MODEL_PATH).config
    config.save_pretrained(model / "snapshots" / "0123")
    planned, found = find_architecture(name)
    assert (found, planned.config.model_type) == ("the local cache", "llama")


def test_weights_gradients_and_moments_are_those_of_a_real_update() -> None:
    policy = load_policy(str(MODEL_PATH), device="cpu")
    policy.add_value_head()
    config = load_config("tiny-hpt")
    optimizer = build_optimizer(policy.parameters(), config.train)
    (batch,) = laid_out(Sequences.of_ids([([1, 5, 6], [7, 8, 2])], [1.0]), [0], 6)
    statistics = policy(batch)
    assert statistics.values_M is not None
    (statistics.logp_M.sum() + statistics.values_M.sum()).backward()
    weights = sum(p.nbytes for p in policy.parameters())
    gradients = sum(p.grad.nbytes for p in policy.parameters() if p.grad is not None)
    optimizer.step()
    moments = sum(state[name].nbytes for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq"))

    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    planned = memory(config, model, samples=True, reference=False, value_head=True, compute_size=4)
    sizes = {part.name: part.size for part in planned}
    assert sizes["weights, float32"] == weights
    assert sizes["gradients, float32"] == gradients
    assert sizes["AdamW's two moments, float32"] == moments
    assert "bfloat16 copies of the matrices" not in sizes
    assert peak(planned, "update") > weights + gradients + moments


@pytest.mark.parametrize(("dtype", "compute_size"), [(None, 4), (torch.bfloat16, 2)])
@pytest.mark.parametrize("concurrent", [400, 65536])
def test_keys_and_values_are_those_of_the_real_cache(
    dtype: torch.dtype | None, compute_size: int, concurrent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[RowCache] = []

    class Recorded(RowCache):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            caches.append(self)

    monkeypatch.setattr(torch_engine, "RowCache", Recorded)
    # As on a GPU: a CPU's attention is float32's in any case.
    monkeypatch.setattr(transformers_api, "decoding_attention", lambda *_: "sdpa")
    config = load_config(
        "tiny-hpt",
        {
            "data.max_prompt_length": "20",
            "data.eval": "null",
            "rollout.max_completion_length": "30",
            "rollout.num_generations": "3",
            "rollout.max_concurrent_tokens": str(concurrent),
            "train.questions_per_step": "4",
        },
    )
    policy = load_policy(str(MODEL_PATH), device="cpu")
    engine = TorchEngine(policy.model, policy.tokenizer, max_concurrent_tokens=concurrent, compute_dtype=dtype)
    prompts = [Prompt(str(key), tuple(range(3, 23))) for key in range(4)]
    engine.generate(prompts, Sampling(num_generations=3, max_completion_length=30), 0)
    (cache,) = caches
    real = sum(buffer.nbytes for layer in cache.layers for buffer in (layer.keys, layer.values))

    rows, length = cache_rows(config, samples=True)
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    assert (rows, length) == (min(concurrent // 50, 12), 50)
    assert rows * length * key_value_size(model, compute_size) == real


SMALL = {
    "vocab_size": 101,
    "hidden_size": 64,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def saved_bytes(kind: str, rows: int, length: int, compute_size: int, checkpointing: bool) -> tuple[int, Dimensions]:
    """What autograd saves in a forward pass of the layers: tensors that are neither parameters nor casts of them."""
    config = AutoConfig.for_model(kind, **SMALL)
    model = AutoModelForCausalLM.from_config(config)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
    if checkpointing:
        Policy(model, tokenizer, gradient_checkpointing=True).model.train()
    else:
        recompute(model)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    casts = {p.shape for p in matrices} | {p.T.shape for p in matrices}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in weights and tensor.shape not in casts:
            saved[storage] = tensor
        return tensor

    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=compute_size == 2)
    with saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        model.base_model(input_ids=torch.zeros(rows, length, dtype=torch.long), use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values()), dimensions(model)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("compute_size", [4, 2])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_activations_are_about_what_autograd_saves(kind: str, compute_size: int, checkpointing: bool) -> None:
    rows, length = 3, 100
    measured, model = saved_bytes(kind, rows, length, compute_size, checkpointing)
    estimated = rows * length * activations(model, compute_size, checkpointing)
    assert 1 / ACTIVATIONS_WITHIN < measured / estimated < ACTIVATIONS_WITHIN


def test_the_micro_batch_is_bounded_by_what_there_is() -> None:
    def tokens(samples: bool = True, **changes: int) -> int:
        keys = {"data.max_prompt_length": 100, "rollout.max_completion_length": 400, "rollout.num_generations": 4}
        overrides = {**keys, **{key.replace("__", "."): value for key, value in changes.items()}}
        config: Config = load_config("tiny-hpt", {key: str(value) for key, value in overrides.items()})
        return micro_batch_tokens(config, samples=samples)

    assert tokens(train__tokens_per_micro_batch=2000) == 2000
    assert tokens(train__tokens_per_micro_batch=100) == 500
    assert tokens(train__tokens_per_micro_batch=2000, data__max_demonstration_length=3000) == 3100
    assert tokens(train__tokens_per_micro_batch=10**6) == 16 * 5 * 500
    assert tokens(train__tokens_per_micro_batch=10**6, samples=False) == 16 * 500


def test_the_sizes_of_a_chunk_and_a_part_are_those_in_use() -> None:
    assert (CHUNK_BYTES["cuda"], KEPT_BYTES["cuda"]) == (LOGPROB_CHUNK, LOGPROBS_KEPT)
    assert sampler._PART == SAMPLER_PART


def test_log_prob_buffers_are_bounded_however_many_tokens_there_are() -> None:
    qwen = dimensions(skeleton(bundled_architectures()["Qwen/Qwen2.5-Math-1.5B"]))
    head = qwen.vocabulary * qwen.hidden
    for tokens in (10**4, 10**6):
        assert logprob_buffers(qwen, tokens, 2) == 2 * LOGPROB_CHUNK + LOGPROBS_KEPT + 4 * head * 2 + 4 * head
    assert logprob_buffers(qwen, 100, 4) == 3 * 4 * 100 * qwen.vocabulary + 4 * head * 2


def test_the_tokenizer_is_not_needed(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(MODEL_PATH).config.save_pretrained(tmp_path)
    with pytest.raises((OSError, ValueError)):
        AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert main(["train", "tiny-hpt", "--plan", "--model.name_or_path", str(tmp_path)]) == 0


def _held_by_a_rank() -> int:
    """Takes an update of the embedded model in parts, and holds what this rank has of it against the plan."""
    config = load_config("tiny-hpt")
    with joined(lambda: torch.device("cpu"), 60) as world:
        policy = sharded(load_policy(str(MODEL_PATH), device="cpu"), world)
        optimizer = build_optimizer(policy.parameters(), config.train)
        (batch,) = laid_out(Sequences.of_ids([([1, 5, 6], [7, 8, 2])], [1.0]), [0], 6)
        policy(batch).logp_M.sum().backward()
        local = {
            "weights": [p.to_local() for p in policy.parameters()],
            "gradients": [p.grad.to_local() for p in policy.parameters()],
        }
        optimizer.step()
        states = [state[name].to_local() for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        local["AdamW's two moments"] = states
        with policy.whole() as whole:
            in_full = sum(p.nbytes for p in whole.parameters())
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    planned = memory(config, model, samples=True, reference=False, value_head=False, compute_size=4, ranks=world.size)
    sizes = {part.name: part.size for part in planned}
    for name, tensors in local.items():
        # Rows that do not come out even make one part larger.
        assert sum(each.nbytes for each in tensors) == pytest.approx(sizes[f"{name}, a part of 2, float32"], rel=0.02)
    assert in_full == sizes["all weights, while they are sampled from, float32"]
    return 0


def test_each_of_two_ranks_holds_what_is_planned(tmp_path: Path) -> None:
    with Ranks(2, tmp_path, _held_by_a_rank) as ranks:
        assert ranks.codes() == [0, 0], ranks.said()


def test_ranks_share_what_is_sampled_and_weights_alone_are_parted() -> None:
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    options: dict[str, Any] = {"samples": True, "reference": True, "value_head": False, "compute_size": 2}

    def sizes(ranks: int, **changes: str) -> dict[str, Part]:
        config = load_config("tiny-hpt", {"data.eval": "null", **{f"ranks.{key}": v for key, v in changes.items()}})
        return {part.name: part for part in memory(config, model, **options, ranks=ranks)}

    config = load_config("tiny-hpt", {"data.eval": "null"})
    questions, n = config.train.questions_per_step, config.rollout.num_generations
    assert cache_rows(config, samples=True, ranks=3)[0] == -(-questions // 3) * n
    replicated, parted, offloaded = sizes(4, sharded="false"), sizes(4), sizes(4, cpu_offload="true")
    assert replicated["weights, float32"].size == 4 * model.parameters
    assert replicated["bfloat16 copies of the matrices"].phases == ("sampling", "training")
    assert parted["weights, a part of 4, float32"].size == model.parameters
    assert parted["weights of the reference model, float32"].size == model.parameters
    assert not any("a part of" in name or "reference" in name for name in offloaded)


@pytest.mark.parametrize(("sleep", "phases"), [("false", ("sampling", "training", "update")), ("true", ("sampling",))])
def test_vllm_has_weights_and_a_cache_of_its_own(sleep: str, phases: tuple[str, ...]) -> None:
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    keys = {"rollout.engine": "vllm", "rollout.vllm.sleep": sleep, "rollout.vllm.tensor_parallel_size": "2"}
    config = load_config("tiny-hpt", keys)
    options: dict[str, Any] = {"samples": True, "reference": False, "value_head": False, "compute_size": 2}
    parts = {part.name: part for part in memory(config, model, **options)}
    assert parts["vLLM's weights"].size == model.parameters
    tokens = config.rollout.max_concurrent_tokens
    assert parts["vLLM's cache, at least"].size == tokens * key_value_size(model, 2) // 2
    assert parts["vLLM's weights"].phases == parts["vLLM's cache, at least"].phases == phases
    # A rank has all weights for as long as vLLM samples, to give them to it.
    ranks = {part.name for part in memory(config, model, **options, ranks=4)}
    assert "all weights, while they are sampled from, float32" in ranks
    # What the trainer itself would sample with is not there.
    assert parts["bfloat16 copies of the matrices"].phases == ("training",)
    assert not any(name.startswith(("keys and values", "a decoding step")) for name in parts)


def test_a_vllm_server_has_nothing_on_the_trainers_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {"rollout.engine": "vllm", "rollout.vllm.server": "http://node-2:8000"}
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    options: dict[str, Any] = {"samples": True, "reference": False, "value_head": False, "compute_size": 2}
    names = {part.name for part in memory(load_config("tiny-hpt", keys), model, **options)}
    assert not any("vLLM" in name or name.startswith(("keys and values", "a decoding step")) for name in names)
    assert (
        main(["train", "tiny-hpt", "--plan", *(word for key, value in keys.items() for word in (f"--{key}", value))])
        == 0
    )
    assert "no vLLM on this GPU: http://node-2:8000 samples, and needs one of its own" in capsys.readouterr().out
