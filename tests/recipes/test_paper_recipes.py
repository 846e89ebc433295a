"""The paper's recipes: every name is a valid run, and a small model of each architecture takes real steps by them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from unigrad.cli import main
from unigrad.config import Config, changed_keys, load_config, recipe_names
from unigrad.data import load_problems
from unigrad.data.tiny import MODEL_PATH
from unigrad.policy.architecture import bundled_architectures
from unigrad.train.objectives import objectives
from unigrad.train.run import run

GSM8K = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "train" / "gsm8k.jsonl.gz"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "paper-recipes.md"
FAMILIES = ("qwen2.5-math-1.5b", "qwen2.5-math-7b", "llama-3.1-8b")
METHODS = ("hpt", "sft", "grpo", "sft_then_grpo", "luffy", "srft", "off_on", "mix_on", "hpt_gate1", "hpt_gate2")
NAMES = [f"{family}-{method}{suffix}" for family in FAMILIES for method in METHODS for suffix in ("", "-official")]
BY_SCRIPT = (
    "output_dir", "method.", "algorithm.", "train.learning_rate", "train.weight_decay", "train.skip_grad_norm",
    "verify.no_box",
)  # fmt: skip

SYSTEM = "Your task is to follow a systematic, thorough reasoning process before providing the final solution."
QWEN_CHAT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nPlease reason step by step, and put your final answer "
    "within \\boxed{}.<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What Qwen2.5-Math's own chat template does with these messages."""
HAND_WRITTEN = (
    ("What is 640+384?", "1024", "<think>\n640+384 = 1024\n</think>\nIt is \\boxed{1024}."),
    ("Find $\\sin 30^\\circ$.", "\\frac{1}{2}", "The answer is \\boxed{\\frac{1}{2}}."),
    ("How many edges have 99 cubes?", "1188", "A cube has 8*3/2 = 12 edges: \\boxed{1188}."),
    ("Solve $x^2=729$ for $x>0$.", "27", "A wrong one: \\boxed{-27}."),
)
"""Problem, answer, demonstration; no answer that a model would hit by chance."""


def openr1_row(index: int, problem: str, answer: str, solution: str) -> dict[str, Any]:
    """In the columns of Elliott/Openr1-Math-46k-8192."""
    return {
        "data_source": "openr1",
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": problem}],
        "target": [{"role": "assistant", "content": solution}],
        "ability": "math",
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "extra_info": {"index": index, "split": "default"},
    }


@pytest.fixture(scope="module")
def hand_written(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("data") / "openr1.parquet", HAND_WRITTEN)


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not GSM8K.is_file():
        pytest.skip(f"{GSM8K} is not here")
    with gzip.open(GSM8K, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for _, line in zip(range(40), lines, strict=False)]
    short = [(row["problem"], row["answer"], row["solution"]) for row in rows if len(row["problem"]) < 200]
    return write_rows(tmp_path_factory.mktemp("data") / "gsm8k.parquet", short)


def write_rows(path: Path, rows: Any) -> str:
    table = pyarrow.Table.from_pylist([openr1_row(index, *row) for index, row in enumerate(rows)])
    pyarrow.parquet.write_table(table, path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each family's architecture in small, with the embedded model's tokenizer."""
    folders = {}
    for family in FAMILIES:
        name = load_config(family).model.name_or_path
        architecture = bundled_architectures()[name]
        tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
        if architecture.model_type == "qwen2":
            tokenizer.chat_template = QWEN_CHAT
        small = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "initializer_range": 0.2,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        facts = architecture.to_dict()
        # Follows from the number of layers.
        facts.pop("layer_types", None)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**facts, **small, "dtype": "float32"}))
        folders[family] = str(tmp_path_factory.mktemp("model") / family)
        model.save_pretrained(folders[family])
        tokenizer.save_pretrained(folders[family])
    return folders


def small_config(name: str, model: str, data: str, output: Path, **changes: object) -> Config:
    keys = {
        "output_dir": output,
        "model.name_or_path": model,
        "model.device": "cpu",
        "data.train": data,
        "data.eval": "null",
        "data.max_prompt_length": 512,
        "data.max_demonstration_length": 512,
        "rollout.max_completion_length": 12,
        "train.max_steps": 2,
        "train.questions_per_step": 4,
        "train.questions_per_update": 2,
        "train.tokens_per_micro_batch": 2048,
        "train.save_steps": 0,
        "train.tensorboard": "false",
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return load_config(name, {key: str(value) for key, value in keys.items()})


def test_the_families_list_every_method() -> None:
    assert set(NAMES) <= set(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_name_is_a_valid_run(name: str) -> None:
    config = load_config(name)
    assert config.output_dir == f"runs/{name}"
    assert objectives(config)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-official")])
def test_official_changes_only_what_the_scripts_set(name: str) -> None:
    changed = changed_keys(load_config(name), load_config(f"{name}-official"), ignoring=())
    assert [key for key in changed if not key.startswith(BY_SCRIPT)] == []
    assert "verify.no_box" in changed
    # Where all demonstrations are averaged with their groups there is nothing to set.
    assert ("algorithm.offline_aggregation" in changed) == (not name.endswith(("-luffy", "-off_on")))


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_of_section_4_1(name: str) -> None:
    config = load_config(name)
    qwen = name.startswith("qwen")
    group = 7 if "luffy" in name or "srft" in name else 8
    baseline_rate = group == 7 and name.endswith("-official")
    assert config.data.train == "Elliott/Openr1-Math-46k-8192"
    assert (config.data.max_prompt_length, config.rollout.max_completion_length) == (1024, 8192)
    assert (config.max_demonstration_length, config.rollout.num_generations) == (8192, group)
    assert config.rollout.temperature == 1.0
    assert config.train.learning_rate == (1e-6 if baseline_rate else 5e-6)
    assert (config.train.lr_scheduler_type, config.train.warmup_steps) == ("constant", 0)
    assert (config.train.questions_per_step, config.train.questions_per_update) == (128, 64)
    assert (config.train.max_steps, config.train.eval_steps, config.train.save_steps) == (500, 10, 50)
    assert (config.eval.temperature, config.eval.top_p) == (0.6, 0.95)
    assert config.data.prompt_template == ("chat" if qwen else "llama")
    assert config.model.rope_theta == (40000.0 if qwen else None)
    assert config.model.max_position_embeddings == (16384 if qwen else None)


@pytest.mark.parametrize(
    ("method", "gate"), [("hpt", {"qwen": 0, "llama": 2}), ("hpt_gate1", 1), ("hpt_gate2", 2), ("mix_on", None)]
)
@pytest.mark.parametrize("suffix", ["", "-official"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gamma(family: str, method: str, gate: Any, suffix: str) -> None:
    own = {"qwen": 0, "llama": 2}
    threshold = gate if isinstance(gate, int) else own[family.partition("2")[0].partition("-")[0]]
    (stage,) = objectives(load_config(f"{family}-{method}{suffix}"))
    for solved in range(9):
        alpha, *betas = stage.gate(solved=solved, n=8)
        assert (alpha > 0, any(betas)) == (solved > threshold, solved <= threshold)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_documented_memory_is_the_plans(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"{family}-hpt", "--plan"]) == 0
    output = capsys.readouterr().out
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"| `{family}-hpt` "))
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines[first : first + 3]]
    assert f"{rows[0][0]} parameters" in output
    for _, gpus, *sizes, card in rows:
        (planned,) = (line.split() for line in output.splitlines() if re.match(rf"  {gpus} GPUs?: fits ", line))
        assert sizes == planned[-3:]
        assert card.split() == planned[3:-3]


def test_the_columns_are_recognised(hand_written: str) -> None:
    problems = load_problems(hand_written)
    assert [(each.problem, each.answer, each.solution) for each in problems] == list(HAND_WRITTEN)
    assert [each.id for each in problems] == ["0", "1", "2", "3"]


REWARDS = """
def every_other(prompts, completions, **columns):
    return [float(index % 2) for index, _ in enumerate(completions)]
"""


@pytest.mark.parametrize("method", ["hpt", "sft", "luffy", "srft", "mix_on"])
@pytest.mark.parametrize("suffix", ["", "-official"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_model_takes_two_steps(
    family: str, method: str, suffix: str, models: dict[str, str], hand_written: str, tmp_path: Path
) -> None:
    lines = take_steps(f"{family}-{method}{suffix}", models[family], hand_written, tmp_path)
    assert [line["gate/offline_ratio"] for line in lines] == [1, 1]


@pytest.mark.parametrize(
    ("method", "offline"),
    [("grpo", [0, 0]), ("sft_then_grpo", [1, 0]), ("off_on", [1, 1]), ("hpt_gate1", [1, 1]), ("hpt_gate2", [1, 1])],
)
def test_the_other_baselines_take_two_steps(
    method: str, offline: list[int], models: dict[str, str], hand_written: str, tmp_path: Path
) -> None:
    lines = take_steps(f"qwen2.5-math-7b-{method}-official", models["qwen2.5-math-7b"], hand_written, tmp_path)
    assert [line["gate/offline_ratio"] for line in lines] == offline


@pytest.mark.parametrize("suffix", ["", "-official"])
@pytest.mark.parametrize("family", FAMILIES)
def test_solved_questions_train_on_their_rollouts(
    family: str,
    suffix: str,
    models: dict[str, str],
    hand_written: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "paper_rewards.py").write_text(REWARDS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    lines = take_steps(
        f"{family}-hpt{suffix}",
        models[family],
        hand_written,
        tmp_path,
        verify__reward_function="paper_rewards.every_other",
    )
    # Half of eight rollouts is more than either γ.
    assert [line["gate/offline_ratio"] for line in lines] == [0, 0]


@pytest.mark.parametrize("family", ["qwen2.5-math-1.5b", "llama-3.1-8b"])
def test_real_questions_train(family: str, models: dict[str, str], gsm8k: str, tmp_path: Path) -> None:
    take_steps(f"{family}-hpt", models[family], gsm8k, tmp_path, rollout__num_generations=2)


def take_steps(name: str, model: str, data: str, tmp_path: Path, **changes: object) -> list[dict[str, Any]]:
    """Two steps as `name` says; returns their metrics once they and the saved model have been checked."""
    config = small_config(name, model, data, tmp_path / "run", **changes)
    assert run(config) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert (line["train/updates"], line["train/updates_skipped"]) == (2, 0)
        assert line["grad_norm"] > 0

    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (model, tmp_path / "run" / "final"))
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)
    theta = config.model.rope_theta or before.config.rope_parameters["rope_theta"]
    assert after.config.rope_parameters == {**before.config.rope_parameters, "rope_theta": theta}
    assert torch.equal(before.model.rotary_emb.inv_freq, after.model.rotary_emb.inv_freq) == (
        config.model.rope_theta is None
    )
    assert after.config.max_position_embeddings == (
        config.model.max_position_embeddings or before.config.max_position_embeddings
    )

    for file in sorted((tmp_path / "run" / "rollouts").iterdir()):
        for line in file.read_text().splitlines():
            prompt = json.loads(line)["prompt"]
            assert SYSTEM not in prompt
            assert prompt.count("Please reason step by step, and put your final answer within \\boxed{}.") == 1
    return lines
