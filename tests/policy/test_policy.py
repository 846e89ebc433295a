"""The policy's log-probs against the model's own logits, row by row, without padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import build
from token_logprobs import token_logprobs
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    MixtralConfig,
    Phi3Config,
    PhimoeConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from unigrad.batch import micro_batches
from unigrad.policy import Policy
from unigrad.policy.transformers_api import cache_argument

Build = Callable[..., PreTrainedModel]

# The end token (59) is also a prompt token; one prompt and one completion have a single token.
ROWS = [
    ((1, 2, 3, 4, 5), (6, 7, 59)),
    ((59,), (11, 12, 13, 14, 15, 16, 59)),
    ((21, 59, 22), (59,)),
    ((31, 32, 33, 34, 35, 36, 37), (38, 39, 40, 41)),
]
TEMPERATURES = [1.0, 0.5, 1.0, 1.7]
WEIGHTS = [0.5, -2.0, 1.0, 3.0]


def make_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    dtype: torch.dtype = torch.float64,
    gradient_checkpointing: bool = False,
) -> Policy:
    return Policy(model.to(dtype), tokenizer, compute_dtype=dtype, gradient_checkpointing=gradient_checkpointing)


def plain_logprobs(model: PreTrainedModel, row: int) -> Tensor:
    """log π of a row's completion tokens from the full logits of the row alone, [tokens, vocabulary]."""
    prompt, completion = ROWS[row]
    logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
    return (logits[len(prompt) - 1 : -1] / TEMPERATURES[row]).log_softmax(-1)


def gradient_of(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma", "gpt2"])
def test_equals_the_logits_of_each_row_alone(
    tiny_model: Build,
    tokenizer: PreTrainedTokenizerFast,
    architecture: str,
    tied: bool,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    policy = make_policy(tiny_model(architecture, tie_word_embeddings=tied), tokenizer, dtype)
    statistics = token_logprobs(policy, ROWS, TEMPERATURES)
    assert statistics.mask_BT.sum(1).tolist() == [3, 7, 1, 4]
    assert not statistics.logp_BT[~statistics.mask_BT].any()
    assert not statistics.entropy_BT[~statistics.mask_BT].any()
    for row, (_, completion) in enumerate(ROWS):
        logp_TV = plain_logprobs(policy.model, row)
        expected_T = logp_TV[torch.arange(len(completion)), torch.tensor(completion)]
        actual_T = statistics.logp_BT[row, : len(completion)]
        torch.testing.assert_close(actual_T, expected_T, rtol=tolerance, atol=tolerance)
        entropy_T = -(logp_TV.exp() * logp_TV).sum(-1)
        torch.testing.assert_close(
            statistics.entropy_BT[row, : len(completion)], entropy_T, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_gradient_equals_that_of_the_plain_loss(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast, gradient_checkpointing: bool
) -> None:
    policy = make_policy(tiny_model("llama"), tokenizer, gradient_checkpointing=gradient_checkpointing)
    plain = torch.stack(
        [
            weight
            * plain_logprobs(policy.model, row)[torch.arange(len(ROWS[row][1])), torch.tensor(ROWS[row][1])].sum()
            for row, weight in enumerate(WEIGHTS)
        ]
    )
    expected = gradient_of(policy.model, plain.sum())
    statistics = token_logprobs(policy, ROWS, TEMPERATURES)
    actual = gradient_of(policy.model, (statistics.logp_BT * torch.tensor(WEIGHTS)[:, None]).sum())
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-12, atol=1e-12, msg=name)


def test_the_gradient_does_not_depend_on_the_token_budget(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = make_policy(tiny_model("qwen2"), tokenizer)
    lengths = [len(prompt) + len(completion) for prompt, completion in ROWS]
    gradients, layouts = [], set()
    for token_budget in (1, 16, 24, 1000):
        groups = micro_batches(lengths, token_budget)
        layouts.add(len(groups))
        policy.model.zero_grad()
        for group in groups:
            statistics = token_logprobs(policy, [ROWS[i] for i in group], [TEMPERATURES[i] for i in group])
            weights_B1 = torch.tensor([WEIGHTS[i] for i in group])[:, None]
            (weights_B1 * (statistics.logp_BT + 0.1 * statistics.entropy_BT)).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]))
    assert len(layouts) > 2
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-12, atol=1e-12)


def test_a_pad_id_that_is_also_the_end_token_keeps_its_gradient(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    # With padding_idx, nn.Embedding would leave out the gradient of every 59 that the model reads.
    policy = make_policy(tiny_model("llama", pad_token_id=59, tie_word_embeddings=False), tokenizer)
    token_logprobs(policy, [((1, 59), (2, 3))], [1.0]).logp_BT.sum().backward()
    assert policy.model.get_input_embeddings().weight.grad[59].abs().sum() > 0


def test_checkpointing_recomputes_layers_and_leaves_the_cache_to_rollouts(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = make_policy(tiny_model("llama"), tokenizer, gradient_checkpointing=True)
    calls = []
    policy.model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    statistics = token_logprobs(policy, ROWS, TEMPERATURES)
    assert len(calls) == 1
    statistics.logp_BT.sum().backward()
    assert len(calls) == 2
    assert not policy.model.training
    output = policy.model(input_ids=torch.tensor([[1, 2]]), use_cache=True)
    assert output[cache_argument(policy.model)].get_seq_length() == 2


def test_checkpointing_with_dropout_is_refused(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model("llama", attention_dropout=0.1)
    with pytest.raises(ValueError, match=r"dropout \(attention_dropout=0.1\)"):
        make_policy(model, tokenizer, gradient_checkpointing=True)


def small(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


EXPERTS = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "num_local_experts": 4, "num_experts_per_tok": 2,
    "sliding_window": None, "initializer_range": 0.3,
}  # fmt: skip


@pytest.mark.parametrize(
    "config", [MixtralConfig(**EXPERTS, router_jitter_noise=0.3), PhimoeConfig(**EXPERTS, input_jitter_noise=0.3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpointing_leaves_routing_noise_off(
    tokenizer: PreTrainedTokenizerFast, config: PreTrainedConfig, dtype: torch.dtype
) -> None:
    model = small(config)
    policy = Policy(model, tokenizer, compute_dtype=dtype, gradient_checkpointing=True)
    with torch.no_grad():
        sampled = token_logprobs(policy, ROWS, TEMPERATURES).logp_BT
    for seed in range(3):
        torch.manual_seed(seed)
        assert torch.equal(token_logprobs(policy, ROWS, TEMPERATURES).logp_BT, sampled)
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        ids = torch.tensor([[*ROWS[0][0], *ROWS[0][1]]])
        quiet, noisy = model(ids).logits, model.train()(ids).logits
    assert not torch.equal(quiet, noisy)  # or nothing was switched off


def test_a_checkpointed_layer_within_another_has_the_same_gradient(tokenizer: PreTrainedTokenizerFast) -> None:
    gradients = []
    for checkpointing in (False, True):
        policy = make_policy(build("zamba2"), tokenizer, gradient_checkpointing=checkpointing)
        logp_BT = token_logprobs(policy, ROWS, TEMPERATURES).logp_BT
        gradients.append(gradient_of(policy.model, logp_BT.sum()))
    assert any(gradient.abs().max() > 0.1 for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-9)


class Noisy(nn.Module):
    """Adds noise where its parent trains."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.gradient_checkpointing = layer, False

    def forward(self, hidden: Tensor, *args: Any, **options: Any) -> Tensor:
        out: Tensor = self.layer(hidden, *args, **options)
        return out + torch.rand(()) if self.training and torch.rand(()) < 0.7 else out


def test_noise_that_cannot_be_switched_off_is_refused_whatever_the_seed(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    for seed in range(5):
        model = tiny_model("llama")
        model.model.layers[1] = Noisy(model.model.layers[1])
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with pytest.raises(ValueError, match="needs training mode, where LlamaForCausalLM computes something else"):
            make_policy(model, tokenizer, torch.float32, gradient_checkpointing=True)
        assert torch.equal(torch.get_rng_state(), before)
        make_policy(model, tokenizer, torch.float32)


def test_the_dropout_of_a_head_that_is_not_there_is_none(tokenizer: PreTrainedTokenizerFast) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = GPTNeoXConfig(**sizes, num_attention_heads=4, max_position_embeddings=64)
    assert config.classifier_dropout == 0.1
    policy = make_policy(small(config), tokenizer, gradient_checkpointing=True)
    token_logprobs(policy, ROWS, TEMPERATURES).logp_BT.sum().backward()
    config.hidden_dropout = 0.2
    with pytest.raises(ValueError, match=r"dropout \(hidden_dropout=0.2\)"):
        make_policy(small(config), tokenizer, gradient_checkpointing=True)


def test_rows_past_the_border_of_two_ropes_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.0], "long_factor": [3.0, 5.0],
        "original_max_position_embeddings": 12, "factor": 4.0,
    }  # fmt: skip
    sizes = {key: EXPERTS[key] for key in list(EXPERTS)[:7]}
    config = Phi3Config(**sizes, pad_token_id=0, rope_parameters=rope, original_max_position_embeddings=12)
    policy = make_policy(small(config), tokenizer)
    alone = token_logprobs(policy, [((1, 2), (3, 4))], [1.0]).logp_BT[0]
    beside = token_logprobs(policy, [((1, 2), (3, 4)), ((5,) * 7, (6,) * 5)], [1.0, 1.0]).logp_BT[0, :2]
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"row 0: 8 \+ 5 tokens do not fit the model's context of 12"):
        token_logprobs(policy, [((1, 2), (3, 4)), ((5,) * 8, (6,) * 5)], [1.0, 1.0])


def test_bfloat16_computes_in_bfloat16_and_leaves_float32_weights_and_gradients(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = Policy(tiny_model("llama"), tokenizer, compute_dtype=torch.bfloat16)
    exact = token_logprobs(policy, ROWS, TEMPERATURES).logp_BT
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prompt, completion = ROWS[0]
        logits = policy.model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    assert logits.dtype == torch.bfloat16
    expected_T = logits.float().log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)]
    # Logits up to 8 round by 2^-6 in bfloat16; padded and single rows may round differently.
    torch.testing.assert_close(exact[0, : len(completion)], expected_T, rtol=0, atol=0.1)
    exact.sum().backward()
    assert {parameter.grad.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_what_is_saved_loads_as_it_is(tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    policy = make_policy(tiny_model("llama"), tokenizer, torch.float32)
    policy.save_pretrained(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert model.dtype == torch.float32
    for (name, ours), (_, loaded) in zip(policy.model.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(ours, loaded), name
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("a1 a2 <end>").input_ids == [1, 2, 59]
    assert {file.name for file in (tmp_path / "saved").iterdir()} >= {"model.safetensors", "generation_config.json"}


def test_an_added_end_is_saved_once(tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    for before, after in ((None, [7]), (59, [59, 7]), ([59, 3], [59, 3, 7]), (7, 7), ([7, 59], [7, 59])):
        policy = make_policy(tiny_model("llama"), tokenizer, torch.float32)
        policy.model.generation_config.eos_token_id = before
        policy.add_end(7)
        policy.add_end(7)
        policy.save_pretrained(tmp_path / "saved")
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config.eos_token_id
        # What had one token and still has need not be a list.
        assert found == after or found == [after]


def test_tokens_without_a_row_in_the_embedding_are_named(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.add_tokens(["<think>", "</think>"])
    policy = make_policy(tiny_model("llama"), tokenizer)
    policy.check_embedded([3, 59], "the prompt")
    with pytest.raises(
        ValueError, match=r"^the prompt holds the token '</think>' \(id 61\), but the model embeds only 60"
    ):
        policy.check_embedded([3, 61, 60], "the prompt")


@pytest.mark.parametrize(
    ("rows", "temperatures", "message"),
    [
        ([((), (1,))], [1.0], "row 0: the prompt must have at least one token"),
        ([((1,), (2,)), ((1,), ())], [1.0, 1.0], "row 1: the completion must have at least one token"),
        ([((1,), (2,))], [0.0], "row 0: the temperature must be above 0, not 0.0"),
        ([((1,) * 60, (2,) * 5)], [1.0], r"row 0: 60 \+ 5 tokens do not fit the model's context of 64"),
    ],
)
def test_bad_rows_are_named(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast, rows: list, temperatures: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        token_logprobs(make_policy(tiny_model("llama"), tokenizer), rows, temperatures)
