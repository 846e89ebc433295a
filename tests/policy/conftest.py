"""Tiny random models of real architectures and a tokenizer for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

VOCABULARY = 60
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    # Wide enough that the distributions are far from uniform.
    "initializer_range": 0.3,
}
CONFIGS = {
    "llama": LlamaConfig, "qwen2": Qwen2Config, "gemma": GemmaConfig, "gemma2": Gemma2Config, "granite": GraniteConfig,
    "cohere": CohereConfig,
}  # fmt: skip


@pytest.fixture
def tiny_model() -> Callable[..., PreTrainedModel]:
    """Builds a model of an architecture with seeded weights; keywords override its config."""

    def build(architecture: str, **overrides: Any) -> PreTrainedModel:
        if architecture == "gpt2":
            config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64, **overrides)
        else:
            config = CONFIGS[architecture](**{**SIZES, **overrides})
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)

    return build


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Words a0 ... a58 with the end token; no pad token."""
    vocabulary = {f"a{index}": index for index in range(VOCABULARY - 1)} | {"<end>": VOCABULARY - 1}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="a0")
