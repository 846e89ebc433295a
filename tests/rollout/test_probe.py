"""The torch engine is tried on a model before a run begins: it samples as the policy computes, or it is refused."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BertGenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from unigrad.policy import Policy, transformers_api
from unigrad.rollout import Completion, Prompt, Sampling
from unigrad.rollout.engines import engine_builder, is_exact
from unigrad.rollout.probe import check_torch_engine

SIZES = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 24, "initializer_range": 0.3,
}  # fmt: skip


def make(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Policy:
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    return Policy(AutoModelForCausalLM.from_config(config), tokenizer, compute_dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_engine_can_run_passes(dtype: torch.dtype) -> None:
    check_torch_engine(make(LlamaConfig(**SIZES), dtype))


def test_attention_to_both_sides_is_refused() -> None:
    policy = make(BertGenerationConfig(**SIZES, is_decoder=False))
    with pytest.raises(ValueError, match=r"cannot run BertGenerationDecoder: its log-probs differ by \d") as error:
        check_torch_engine(policy)
    assert "\n" not in str(error.value)


class NeedsItsOwnCache(nn.Module):
    """A layer that asks the cache for what only its own kind has."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: object, **options: object) -> Tensor:
        for cache in (options.get("cache"), options.get("past_key_values")):
            if cache is not None:
                cache.crop_to_window()  # type: ignore[attr-defined]
        return self.layer(*args, **options)


def test_whatever_a_model_raises_is_one_line() -> None:
    policy = make(LlamaConfig(**SIZES))
    attention = policy.model.model.layers[0].self_attn
    policy.model.model.layers[0].self_attn = NeedsItsOwnCache(attention)
    with pytest.raises(ValueError, match=r"^the torch engine cannot run LlamaForCausalLM: .*crop_to_window") as error:
        engine_builder("torch")(policy, 64)
    assert "\n" not in str(error.value)


def test_a_window_that_never_binds_is_full_attention() -> None:
    policy = make(MistralConfig(**SIZES, sliding_window=24))
    engine = engine_builder("torch")(policy, 64)
    same = make(MistralConfig(**SIZES, sliding_window=None))
    prompts = [Prompt("a", (1, 2, 3)), Prompt("b", (4,) * 15)]
    sampling = Sampling(num_generations=2, max_completion_length=20)

    def sampled(groups: list[list[Completion]]) -> list[tuple[int, ...]]:
        return [each.token_ids for group in groups for each in group]

    got = sampled(engine.generate(prompts, sampling, 3))
    assert got == sampled(engine_builder("torch")(same, 64).generate(prompts, sampling, 3))
    assert max(map(len, got)) == 20
    for model in (policy.model, same.model):
        assert set(transformers_api.reaches(model).values()) == {transformers_api.Reach()}


def test_only_float32_beside_float32_is_exact() -> None:
    exact, rounded = make(LlamaConfig(**SIZES)), make(LlamaConfig(**SIZES), torch.bfloat16)
    engine = engine_builder("torch")(exact, 64)
    assert is_exact(engine, exact)
    assert not is_exact(engine, rounded)
    assert not is_exact(engine_builder("torch")(rounded, 64), exact)


def test_an_engine_that_says_nothing_is_not_exact() -> None:
    class Foreign:
        def generate(self, *args: object) -> list[list[Completion]]:
            return []

    assert not is_exact(Foreign(), make(LlamaConfig(**SIZES)))
