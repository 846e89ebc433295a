"""Weights laid out for oneDNN while sampling: the same products to rounding, and nothing left of them afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.rollout import Prompt, Sampling, TorchEngine
from unigrad.rollout.packed_weights import cast_weights, is_worth_packing, packed_weights

# What is packed is large, however quick the test: 64 × 8,192 weights. The other matrices are too small.
CONFIG = LlamaConfig(
    vocab_size=40, hidden_size=64, intermediate_size=8192, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.1, eos_token_id=3,
)  # fmt: skip
LARGE = ("gate_proj", "up_proj", "down_proj")
PROMPTS = [Prompt("long", (5, 9, 30, 11, 2, 8, 4)), Prompt("one", (7,)), Prompt("short", (4, 12, 31))]

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="packs on other processors' kernels only"
)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG).eval()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))


def packed_of(model: nn.Module) -> set[str]:
    return {name.split(".")[-1] for name, module in model.named_modules() if "forward" in vars(module)}


@pytest.mark.parametrize("rows", [1, 3, 32])
def test_products_are_the_same_to_rounding(rows: int) -> None:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Linear(64, 8192), nn.ReLU(), nn.Linear(8192, 64, bias=False))
    for shape in ((rows, 1, 64), (2, 17, 64)):
        inputs = torch.randn(*shape)
        with torch.inference_mode():
            plain = layers(inputs)
            with packed_weights(layers, rows):
                assert all("forward" in vars(layers[i]) for i in (0, 2))
                torch.testing.assert_close(layers(inputs), plain, rtol=1e-4, atol=1e-5)


def test_only_large_plain_float32_layers_are_packed(model: Any) -> None:
    class Own(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    assert is_worth_packing(nn.Linear(64, 8192))
    assert not is_worth_packing(Own(64, 8192))
    assert not is_worth_packing(nn.Linear(64, 64))
    assert not is_worth_packing(nn.Linear(64, 8192, dtype=torch.float64))
    assert not is_worth_packing(nn.Linear(64, 8192, dtype=torch.bfloat16))
    assert not is_worth_packing(nn.Linear(64, 8192, device="meta"))
    with packed_weights(model, 4):
        assert packed_of(model) == set(LARGE)
    assert not packed_of(model)


def test_layers_are_as_they_were_after_a_failure(model: Any) -> None:
    before = [dict(vars(module)) for module in model.modules()]
    with pytest.raises(RuntimeError, match="meanwhile"), packed_weights(model, 4):
        raise RuntimeError("meanwhile")
    for module, attributes in zip(model.modules(), before, strict=True):
        assert vars(module).keys() == attributes.keys()


@pytest.mark.parametrize("length", [8, 40])
def test_the_engine_packs_for_long_completions_and_stays_exact(model: Any, tokenizer: Any, length: int) -> None:
    seen: list[bool] = []
    for name, module in model.named_modules():
        if name.endswith(LARGE):
            module.register_forward_hook(lambda module, *_: seen.append("forward" in vars(module)))
    engine = TorchEngine(model, tokenizer, max_concurrent_tokens=4 * 47)
    groups = engine.generate(PROMPTS, Sampling(num_generations=3, max_completion_length=length), 0)
    assert set(seen) == {length == 40}
    assert not packed_of(model)
    assert engine.is_exact
    for prompt, group in zip(PROMPTS, groups, strict=True):
        for completion in group:
            ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
            with torch.no_grad():
                logp = model(ids).logits[0, len(prompt.token_ids) - 1 : -1].double().log_softmax(-1)
            expected = logp.gather(1, ids[0, len(prompt.token_ids) :, None])[:, 0]
            assert torch.tensor(completion.logprobs).double().sub(expected).abs().max() < 1e-5


def test_each_call_packs_the_weights_of_now_and_training_goes_on(model: Any, tokenizer: Any) -> None:
    engine = TorchEngine(model, tokenizer, max_concurrent_tokens=1000)
    sampling = Sampling(num_generations=2, max_completion_length=40)
    before = engine.generate(PROMPTS, sampling, 0)
    ids = torch.tensor([PROMPTS[0].token_ids])
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.manual_seed(5)
    other = LlamaForCausalLM(CONFIG).eval()
    model.load_state_dict(other.state_dict())
    after = engine.generate(PROMPTS, sampling, 0)
    assert after != before
    assert after == TorchEngine(other, tokenizer, max_concurrent_tokens=1000).generate(PROMPTS, sampling, 0)


def test_cast_weights_are_autocasts_to_the_bit_and_gone_afterwards(model: Any) -> None:
    ids = torch.tensor([PROMPTS[0].token_ids])
    own = nn.Linear(8, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(ids).logits
        with cast_weights(model, torch.bfloat16, 4):
            assert packed_of(model) == {*LARGE, "q_proj", "k_proj", "v_proj", "o_proj", "lm_head"}
            assert torch.equal(model(ids).logits, expected)
        assert not packed_of(model)
        inputs = torch.randn(3, 8)
        with cast_weights(nn.Sequential(own), torch.bfloat16, 4), torch.autocast("cpu", enabled=False):
            assert torch.equal(own(inputs), nn.functional.linear(inputs, own.weight, own.bias))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
