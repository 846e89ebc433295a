"""The generate engine draws as the torch engine does, and samples what that cannot: windows, states, hybrids."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BertConfig,
    FalconH1Config,
    Gemma3TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3NextConfig,
    RobertaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from unigrad.batch import Sequences, micro_batch_of
from unigrad.policy import Policy
from unigrad.rollout import Completion, Engine, Prompt, Sampling, TorchEngine
from unigrad.rollout.engines import engine_builder, expected_engine, is_exact
from unigrad.rollout.generate_engine import GenerateEngine, batches
from unigrad.rollout.probe import check_generate_engine
from unigrad.rollout.rows import rows_of

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
END = len(LETTERS)
POSITIONS = 48
IDS = {"vocab_size": END + 1, "eos_token_id": END, "pad_token_id": 7, "bos_token_id": None}
SHAPE = {
    **IDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": POSITIONS, "initializer_range": 0.2, "head_dim": 8,
}  # fmt: skip
DECODER = {name: value for name, value in SHAPE.items() if name not in ("num_key_value_heads", "head_dim")}
STATE = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 4}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SHAPE),
    "mistral": MistralConfig(**SHAPE, sliding_window=5),
    "gemma3": Gemma3TextConfig(
        **SHAPE, sliding_window=4, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]
    ),
    "mamba": MambaConfig(**IDS, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.2),
    "falcon_h1": FalconH1Config(**SHAPE, **STATE),
    "qwen3_next": Qwen3NextConfig(
        **SHAPE, layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "bert": BertConfig(**DECODER, is_decoder=True),
    "roberta": RobertaConfig(**DECODER, is_decoder=True),
    "bart": BartConfig(
        **IDS, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, encoder_layers=2,
        max_position_embeddings=POSITIONS, init_std=0.2, forced_eos_token_id=None,
    ),
}  # fmt: skip
# Of lengths that share a batch and such that do not; one holds the pad and the end token.
PROMPTS = [
    Prompt("long", tuple(range(17))),
    Prompt("one", (5,)),
    Prompt("short", (9, 30, 2)),
    Prompt("pad", (7, END, 7)),
]


def make(config: PreTrainedConfig, dtype: torch.dtype = torch.float32) -> Policy:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({c: i for i, c in enumerate(LETTERS)} | {"<end>": END}, unk_token="<end>"))
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>")
    return Policy(AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer, compute_dtype=dtype)


def generating(policy: Policy, room: int = 10_000) -> GenerateEngine:
    return GenerateEngine(
        policy.model, policy.tokenizer, max_concurrent_tokens=room, compute_dtype=policy.compute_dtype
    )


def sample(engine: Engine, seed: int = 0, n: int = 3, length: int = 12, **options: Any) -> list[list[Completion]]:
    return engine.generate(PROMPTS, Sampling(num_generations=n, max_completion_length=length, **options), seed)


def flat(groups: list[list[Completion]]) -> list[tuple[tuple[int, ...], str, bool, bool]]:
    return [(each.token_ids, each.text, each.truncated, each.ended) for group in groups for each in group]


def numbers(groups: list[list[Completion]], name: str) -> torch.Tensor:
    return torch.tensor([value for group in groups for each in group for value in getattr(each, name)]).double()


def trainers(policy: Policy, groups: list[list[Completion]], temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of the completions' tokens from the forward that trains, ragged rows side by side."""
    pairs = zip(PROMPTS, groups, strict=True)
    rows = [(prompt.token_ids, each.token_ids) for prompt, group in pairs for each in group]
    batch = micro_batch_of(Sequences.of_ids(rows, [temperature] * len(rows)), [range(len(rows))], "padded")
    with torch.no_grad():
        statistics = policy(batch.to(policy.device, policy.dtype))
    starts = torch.tensor([0, *[len(rows[p][1]) for p in batch.indices_P.tolist()]]).cumsum(0)
    order = batch.indices_P.argsort().tolist()
    places = torch.cat([torch.arange(int(starts[p]), int(starts[p + 1])) for p in order])
    return statistics.logp_M[places].double(), statistics.entropy_M[places].double()


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9}, {"temperature": 0.0}, {"stop": ("k", "z0")},
     {"stop_token_ids": (1, 2, 3)}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("room", [29, 100, 10_000])
def test_equals_the_torch_engine(options: dict[str, Any], room: int) -> None:
    policy = make(CONFIGS["llama"])
    expected = sample(TorchEngine(policy.model, policy.tokenizer, max_concurrent_tokens=10_000), **options)
    got = sample(generating(policy, room), **options)
    assert flat(got) == flat(expected)
    for name in ("logprobs", "entropies", "cut_masses"):
        assert (numbers(got, name) - numbers(expected, name)).abs().max() < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_logprobs_are_the_trainers_and_company_changes_nothing(name: str) -> None:
    policy = make(CONFIGS[name])
    together = sample(generating(policy), temperature=0.8)
    logp, entropy = trainers(policy, together, 0.8)
    assert (numbers(together, "logprobs") - logp).abs().max() < 1e-5
    assert (numbers(together, "entropies") - entropy).abs().max() < 1e-5
    assert flat(sample(generating(policy, 29), temperature=0.8)) == flat(together)
    assert flat(sample(generating(policy), 1, temperature=0.8)) != flat(together)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_is_the_models_own(name: str) -> None:
    policy = make(CONFIGS[name])
    for prompt, (completion,) in zip(PROMPTS, sample(generating(policy), n=1, temperature=0.0), strict=True):
        ids = torch.tensor([prompt.token_ids])
        options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": 12}
        if policy.first_position:
            options["position_ids"] = policy.first_position + torch.arange(ids.shape[1])[None]
        own = policy.model.generate(ids, **options)
        assert completion.token_ids == tuple(own[0, ids.shape[1] :].tolist())


def test_each_completion_is_told_once_as_it_ends() -> None:
    policy = make(CONFIGS["mamba"])
    told: list[tuple[str, int, Completion]] = []
    sampling = Sampling(num_generations=8, max_completion_length=12, stop=("a",))
    groups = generating(policy).generate(PROMPTS, sampling, 0, lambda *each: told.append((each[0].key, *each[1:])))
    by_name = {(key, index): completion for key, index, completion in told}
    assert len(told) == len(by_name) == 32
    assert [[by_name[prompt.key, i] for i in range(8)] for prompt in PROMPTS] == groups
    # Those that stop early are not kept back by those beside them: the three short prompts share a batch.
    sizes = {prompt.key: len(prompt.token_ids) for prompt in PROMPTS}
    ends = [sizes[key] + len(completion.token_ids) for key, _, completion in told if key != "long"]
    assert ends == sorted(ends)
    assert ends[0] < ends[-1]


def test_the_models_own_generation_config_has_no_say() -> None:
    policy = make(CONFIGS["llama"])
    plain = sample(generating(policy))
    config = policy.model.generation_config
    config.update(do_sample=True, top_k=1, repetition_penalty=9.0, min_new_tokens=9, suppress_tokens=[3, 4, 5])
    config.update(temperature=0.1, no_repeat_ngram_size=1, forced_eos_token_id=END)
    assert flat(sample(generating(policy))) == flat(plain)
    assert policy.model.generation_config is config


def test_the_models_positions_end_a_row() -> None:
    groups = sample(generating(make(CONFIGS["llama"])), length=100, temperature=2.0)
    assert max(len(each.token_ids) for each in groups[0]) == POSITIONS - 17


def test_batches_bear_no_more_than_is_allowed_and_no_wide_spread() -> None:
    rows = rows_of(PROMPTS, Sampling(num_generations=5, max_completion_length=12), POSITIONS)
    for room in (29, 64, 200):
        parts = list(batches(rows, room))
        assert sorted(id(row) for part in parts for row in part) == sorted(map(id, rows))
        for part in parts:
            lengths = [len(row.prompt.token_ids) for row in part]
            assert max(row.length for row in part) * len(part) <= room
            assert max(lengths) - min(lengths) <= 3
    assert len(list(batches(rows, 10_000))) == 2


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"max_concurrent_tokens=28 holds no completion: .* takes 29"):
        sample(generating(make(CONFIGS["mamba"]), 28))
    with pytest.raises(ValueError, match="prompt 'long' has 17 tokens: the model takes 1 to 16"):
        sample(generating(make(LlamaConfig(**{**SHAPE, "max_position_embeddings": 17}))))


def test_after_sampling_the_model_trains_as_before() -> None:
    policy = make(CONFIGS["falcon_h1"], torch.bfloat16)
    policy.model.train()
    with policy.autocast():
        sample(generating(policy))
        policy.model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(module.training for module in policy.model.modules())
    assert not [name for name, each in policy.model.named_parameters() if each.grad is None]


@pytest.mark.parametrize("name", ["mamba", "falcon_h1"])
def test_auto_takes_it_where_the_torch_engine_cannot(name: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = make(CONFIGS[name])
    with caplog.at_level(logging.WARNING):
        assert isinstance(engine_builder("auto")(policy, 64), GenerateEngine)
    (line,) = caplog.messages
    kind = type(policy.model).__name__
    assert line.startswith("rollout.engine: generate, transformers' own and slower, as ")
    assert f"the torch engine cannot run {kind}: " in line
    assert expected_engine("auto", policy.model)[0] == "generate"
    with pytest.raises(ValueError, match="the torch engine cannot run"):
        expected_engine("torch", policy.model)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_auto_takes_the_torch_engine_where_it_can(name: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = make(CONFIGS[name])
    assert isinstance(engine_builder("auto")(policy, 64), TorchEngine)
    assert caplog.messages == []
    assert expected_engine("auto", policy.model) == ("torch", None)
    assert expected_engine("generate", policy.model) == ("generate", None)
    assert expected_engine("a plugin's", policy.model) == ("a plugin's", None)


def test_exact_in_float32_and_without_a_state() -> None:
    exact = {name: is_exact(generating(policy), policy) for name, policy in ((n, make(CONFIGS[n])) for n in CONFIGS)}
    assert exact == {name: name not in ("mamba", "falcon_h1", "qwen3_next") for name in CONFIGS}
    rounded = make(CONFIGS["llama"], torch.bfloat16)
    assert not is_exact(generating(rounded), rounded)


def test_an_encoder_is_refused() -> None:
    model = T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match="cannot run T5ForConditionalGeneration: it takes decoder-only models"):
        expected_engine("generate", model)


def test_the_probe_refuses_what_samples_from_another_distribution() -> None:
    policy = make(CONFIGS["mamba"])
    check_generate_engine(policy)
    vocabulary = policy.model.config.vocab_size

    def sharpen(_module: object, _arguments: object, outputs: Any) -> None:
        # Not of the pass that trains, which ends with what enters the output embedding.
        if outputs.logits.shape[-1] == vocabulary:
            outputs.logits.mul_(1.5)

    policy.model.register_forward_hook(sharpen)
    with pytest.raises(
        ValueError, match=r"the generate engine cannot run MambaForCausalLM: its log-probs differ by \d"
    ):
        check_generate_engine(policy)
