"""What is saved is read as it was trained, by transformers 5 and 4."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
)

from unigrad.policy.saving import older_rope, save_pretrained

TRANSFORMERS_4 = os.environ.get("TRANSFORMERS_4")
"""A folder with transformers 4.57, tokenizers and huggingface-hub, as `pip install --target` makes it."""

SIZES = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LONG = {"rope_type": "longrope", "short_factor": [1.1, 1.2], "long_factor": [4.0, 4.0]}


def flat(base: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": base, **more}


CONFIGS: dict[str, tuple[PreTrainedConfig, dict[str, Any]]] = {
    "llama": (LlamaConfig(**SIZES, rope_parameters=flat(5e5)), {"rope_theta": 5e5}),
    "llama3": (
        LlamaConfig(**SIZES, rope_parameters={**flat(3e5), **LLAMA3, "original_max_position_embeddings": 32}),
        {"rope_theta": 3e5, "rope_scaling": {**LLAMA3, "original_max_position_embeddings": 32}},
    ),
    "gpt_neox": (
        GPTNeoXConfig(**SIZES, rope_parameters=flat(4e4, partial_rotary_factor=0.5)),
        {"rotary_emb_base": 4e4, "rotary_pct": 0.5},
    ),
    "phi3": (
        Phi3Config(
            **SIZES, num_key_value_heads=4, sliding_window=None, original_max_position_embeddings=32,
            rope_parameters={**flat(2e4), **LONG},
        ),
        {"rope_theta": 2e4, "rope_scaling": {"type": "longrope", **{key: LONG[key] for key in list(LONG)[1:]}}},
    ),
    "gemma3": (
        Gemma3TextConfig(
            **SIZES, head_dim=4, num_key_value_heads=2, layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": {**flat(1e6), "rope_type": "linear", "factor": 8.0}, "sliding_attention": flat(2e4)
            },
        ),
        {"rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "experts": (
        Qwen3MoeConfig(**SIZES, head_dim=4, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8),
        {"num_experts": 4},
    ),
}  # fmt: skip
IDS = torch.tensor([[*range(3, 27)]])


def built(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[kind][0], dtype=torch.float32)
    return model.eval()


@pytest.mark.parametrize("kind", CONFIGS)
def test_both_generations_names_stand_in_the_config_and_ours_reads_the_same(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = built(kind)
    save_pretrained(model, tokenizer, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    expected = CONFIGS[kind][1]
    assert {key: written.get(key) for key in expected} == expected
    assert "rope_parameters" in written
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, again(input_ids=IDS).logits)


def test_what_transformers_4_has_no_keys_for(caplog: pytest.LogCaptureFixture) -> None:
    assert older_rope("some_model", flat(1e4) | {"rope_type": "proportional"}) is None
    by_layer = {"full_attention": flat(1e6), "sliding_attention": flat(1e4)}
    assert older_rope("some_model", by_layer) is None
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    assert older_rope("gemma3_text", {**by_layer, "sliding_attention": scaled}) is None
    assert older_rope("gpt2", {}) == {}


def test_the_tokenizer_has_a_class_and_names_that_both_know(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>"]})
    save_pretrained(built("llama"), tokenizer, tmp_path)
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert written["additional_special_tokens"] == ["<think>"]
    assert "extra_special_tokens" not in written
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is type(tokenizer)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.all_special_tokens == tokenizer.all_special_tokens


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_the_space(
    dtype: torch.dtype,
    tiny_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    save_pretrained(model, tokenizer, tmp_path, dtype)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert again.dtype == dtype
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].to(dtype))
    # The tied tensor is there once.
    held = sum(weight.numel() for weight in model.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 2 * held + 4096
    assert model.dtype == torch.float32


def test_a_weight_that_the_precision_cannot_hold_is_no_infinity(
    tiny_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 1e5
    with pytest.raises(FloatingPointError, match=r"lm_head\.weight holds 1e\+05, which float16 has not"):
        save_pretrained(model, tokenizer, tmp_path, torch.float16)
    save_pretrained(model, tokenizer, tmp_path, torch.bfloat16)


@pytest.mark.skipif(not TRANSFORMERS_4, reason="TRANSFORMERS_4 names no folder with transformers 4.57")
def test_transformers_4_computes_the_same_logits(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for kind in CONFIGS:
        model = built(kind)
        save_pretrained(model, tokenizer, tmp_path / kind)
        with torch.no_grad():
            torch.save(model(input_ids=IDS).logits, tmp_path / kind / "logits.pt")
    code = """
import sys, torch
from pathlib import Path
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__
assert __version__.startswith("4.")
for folder in Path(sys.argv[1]).iterdir():
    AutoTokenizer.from_pretrained(folder)
    logits = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=torch.tensor([[*range(3, 27)]])).logits
    torch.testing.assert_close(logits, torch.load(folder / "logits.pt"), rtol=0, atol=1e-4)
"""
    environment = {**os.environ, "PYTHONPATH": str(TRANSFORMERS_4)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
