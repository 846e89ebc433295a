"""Models with windows, scales, caps and sinks: the torch engine samples what the policy trains, and both are the
model's own function. One tiny random model of each family, whose windows bind within a prompt and a completion; and
of such as learn something before their output embedding, or number their positions from elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    Cohere2Config,
    Gemma2Config,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GptOssConfig,
    GraniteConfig,
    Llama4TextConfig,
    MistralConfig,
    MixtralConfig,
    Olmo3Config,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from unigrad.batch import Sequences, micro_batch_of
from unigrad.policy import Policy, transformers_api
from unigrad.rollout import Completion, Prompt, Sampling, masks
from unigrad.rollout.engines import engine_builder

POSITIONS, END = 40, 47
SHAPE: dict[str, Any] = {
    "vocab_size": END + 1, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS, "initializer_range": 0.3,
    "eos_token_id": END, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
MIXED: dict[str, Any] = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
SHARED = {"sliding_window": 5, "layer_types": MIXED["layer_types"] * 2, "num_kv_shared_layers": 2}
HEADS = {"head_dim": 8, "query_pre_attn_scalar": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
CONFIGS: dict[str, PreTrainedConfig] = {
    "mistral": MistralConfig(**SHAPE, sliding_window=5),
    "mixtral": MixtralConfig(**SHAPE, **EXPERTS),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "phi3": Phi3Config(**SHAPE, sliding_window=6),
    "qwen2": Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "gemma2": Gemma2Config(
        **SHAPE, **MIXED, **HEADS, attn_logit_softcapping=0.7, final_logit_softcapping=1.5
    ),
    "gemma3": Gemma3TextConfig(**SHAPE, **MIXED, **HEADS),
    "gemma3n": Gemma3nTextConfig(
        **{**SHAPE, "num_hidden_layers": 4, "intermediate_size": [48] * 4}, **SHARED, head_dim=8, laurel_rank=4,
        vocab_size_per_layer_input=END + 1, hidden_size_per_layer_input=8, activation_sparsity_pattern=[0.0] * 4,
    ),
    "gemma4": Gemma4TextConfig(
        **{**SHAPE, "num_hidden_layers": 4}, **SHARED, head_dim=8, global_head_dim=16, final_logit_softcapping=2.0,
        vocab_size_per_layer_input=END + 1, hidden_size_per_layer_input=8,
    ),
    "olmo3": Olmo3Config(**SHAPE, **MIXED),
    "cohere2": Cohere2Config(**SHAPE, **MIXED, logit_scale=0.3),
    "granite": GraniteConfig(**SHAPE, logits_scaling=3.0),
    "gpt_oss": GptOssConfig(**SHAPE, **MIXED, **EXPERTS, head_dim=8),
    "llama4": Llama4TextConfig(
        **SHAPE, **EXPERTS, intermediate_size_mlp=48, head_dim=8, attention_chunk_size=5,
        layer_types=["chunked_attention", "full_attention"],
    ),
    "bert": BertConfig(**SHAPE, is_decoder=True),
    "roberta": RobertaConfig(**SHAPE | {"pad_token_id": 3}, is_decoder=True),
}  # fmt: skip
PROMPTS = [Prompt("long", tuple(range(1, 14))), Prompt("one", (5,)), Prompt("short", (9, 30, 2))]


def make(config: PreTrainedConfig) -> Policy:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({f"a{i}": i for i in range(END)} | {"<end>": END}, unk_token="a0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "sinks" in name or "bias" in name:
                parameter.normal_()
    return Policy(model, tokenizer)


@pytest.fixture(params=CONFIGS)
def policy(request: pytest.FixtureRequest) -> Policy:
    return make(CONFIGS[request.param])


def sample(policy: Policy, **options: Any) -> list[tuple[Prompt, Completion]]:
    # Room for four rows, so that some enter late.
    engine = engine_builder("torch")(policy, 4 * 31)
    groups = engine.generate(PROMPTS, Sampling(max_completion_length=18, **options), 0)
    return [(prompt, each) for prompt, group in zip(PROMPTS, groups, strict=True) for each in group]


def test_greedy_tokens_are_those_of_generate(policy: Policy) -> None:
    for prompt, completion in sample(policy, num_generations=1, temperature=0.0):
        ids = torch.tensor([prompt.token_ids])
        options: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 18}
        if policy.first_position:
            options["position_ids"] = policy.first_position + torch.arange(ids.shape[1])[None]
        own = policy.model.generate(ids, **options)
        assert completion.token_ids == tuple(own[0, ids.shape[1] :].tolist())


def test_sampled_log_probs_and_entropies_are_those_that_train(policy: Policy) -> None:
    drawn = sample(policy, num_generations=3, temperature=0.8)
    rows = [(prompt.token_ids, each.token_ids) for prompt, each in drawn]
    batch = micro_batch_of(Sequences.of_ids(rows, [0.8] * len(rows)), [range(len(rows))], "padded")
    with torch.no_grad():
        statistics = policy(batch)
    order = [drawn[index][1] for index in batch.indices_P.tolist()]
    for found, name in ((statistics.logp_M, "logprobs"), (statistics.entropy_M, "entropies")):
        sampled = torch.tensor([value for each in order for value in getattr(each, name)])
        torch.testing.assert_close(sampled, found, rtol=0, atol=1e-5)


def test_a_gradient_is_that_of_full_logits(policy: Policy) -> None:
    rows = [((1, 2, 3), tuple(range(4, 20))), ((7,) * 9, (8, 9, 10)), ((11,), tuple(range(12, 24)))]
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * 3), [range(3)], "padded")
    (policy(batch).logp_M.sum() / 31).backward()
    ours = {name: each.grad.clone() for name, each in policy.model.named_parameters() if each.grad is not None}
    policy.zero_grad()
    total = torch.zeros(())
    for prompt, completion in rows:
        ids_1L = torch.tensor([[*prompt, *completion]])
        where = {"position_ids": policy.first_position + torch.arange(ids_1L.shape[1])[None]}
        logp_LV = (
            policy.model(input_ids=ids_1L, use_cache=False, **where).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        )
        total = total + logp_LV.gather(1, ids_1L[0, len(prompt) :, None]).sum()
    (total / 31).backward()
    assert ours
    for name, parameter in policy.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gpt_oss", "llama4"])
def test_a_window_that_is_left_out_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial before a run has prompts and completions in which a window binds."""
    policy = make(CONFIGS[name])
    seen = masks.seen
    monkeypatch.setattr(masks, "seen", lambda reach, *args: seen(transformers_api.Reach(), *args))
    with pytest.raises(ValueError, match=r"its log-probs differ by \d"):
        engine_builder("torch")(policy, 100)
