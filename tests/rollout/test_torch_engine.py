from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

import unigrad.rollout
from unigrad.rollout import Completion, Prompt, Sampling, TorchEngine

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,+-*/=()"
EOS, OTHER_EOS = len(LETTERS), len(LETTERS) + 1
VOCABULARY = len(LETTERS) + 2
POSITIONS = 40
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
    "bos_token_id": None,
    "initializer_range": 0.2,  # logits far enough apart for an interesting distribution
}
CONFIGS = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=12),
    "gpt2": GPT2Config(
        **{"vocab_size": VOCABULARY, "n_positions": POSITIONS, "n_embd": 32, "n_layer": 2, "n_head": 4},
        **{"eos_token_id": EOS, "bos_token_id": EOS, "initializer_range": 0.2},
    ),
}
PROMPTS = [
    Prompt("long", tuple(range(17))),
    Prompt("one token", (5,)),
    Prompt("short", (9, 30, 2)),
    Prompt("holds the end token", (EOS, 7, EOS, 8, 3)),
]
ROOM = 10_000


def make(config: PretrainedConfig, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {letter: index for index, letter in enumerate(LETTERS)} | {"<end>": EOS, "<stop>": OTHER_EOS}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Any:
    return make(CONFIGS[request.param])


@pytest.fixture
def llama() -> Any:
    return make(CONFIGS["llama"])


def sampling(n: int = 4, length: int = 12, **options: Any) -> Sampling:
    return Sampling(num_generations=n, max_completion_length=length, **options)


def run(
    model: Any, tokenizer: Any, prompts: list[Prompt] = PROMPTS, seed: int = 0, room: int = ROOM, **options: Any
) -> dict[str, list[Completion]]:
    engine = TorchEngine(model, tokenizer, max_concurrent_tokens=room)
    groups = engine.generate(prompts, sampling(**options), seed)
    return {prompt.key: group for prompt, group in zip(prompts, groups, strict=True)}


def tokens(groups: dict[str, list[Completion]]) -> dict[str, list[tuple[int, ...]]]:
    return {key: [completion.token_ids for completion in group] for key, group in groups.items()}


def without_end(model: Any, tokenizer: Any) -> Any:
    """A tokenizer without an end token, for a model from which it is taken too."""
    model.generation_config.eos_token_id = None
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)


class TestExactness:
    def test_greedy_equals_transformers_token_by_token(self, model: Any, tokenizer: Any) -> None:
        groups = run(model, tokenizer, n=1, temperature=0.0)
        for prompt in PROMPTS:
            ids = torch.tensor([prompt.token_ids])
            output = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12, pad_token_id=EOS
            )
            assert groups[prompt.key][0].token_ids == tuple(output[0, ids.shape[1] :].tolist())

    @pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
    def test_logprobs_and_entropies_equal_a_plain_forward(self, model: Any, tokenizer: Any, temperature: float) -> None:
        model.generation_config.eos_token_id = list(range(0, VOCABULARY, 6))
        # Room for five rows only, so that rows move, enter late and share their width with longer ones.
        groups = run(model, tokenizer, room=5 * 29, n=6, temperature=temperature, top_k=20, top_p=0.95)
        lengths = Counter()
        for prompt in PROMPTS:
            for completion in groups[prompt.key]:
                ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
                with torch.no_grad():
                    logits = model(ids).logits[0, len(prompt.token_ids) - 1 : -1].double()
                logp = (logits / (temperature or 1.0)).log_softmax(-1)
                expected = logp.gather(1, ids[0, len(prompt.token_ids) :, None])[:, 0]
                assert torch.tensor(completion.logprobs).double().sub(expected).abs().max() < 1e-5
                entropy = -(logp.exp() * logp).sum(-1)
                assert torch.tensor(completion.entropies).double().sub(entropy).abs().max() < 1e-5
                lengths[len(completion.token_ids)] += 1
        assert temperature == 0 or len(lengths) > 3, (
            "the rows should end at different times for this test to mean anything"
        )

    def test_a_step_model_is_sampled_at_its_own_frequencies(self, llama: Any, tokenizer: Any) -> None:
        count = 4000
        groups = run(llama, tokenizer, PROMPTS[2:3], n=count, length=1, top_k=8, room=256 * 4)
        with torch.no_grad():
            probs = llama(torch.tensor([PROMPTS[2].token_ids])).logits[0, -1].double().softmax(-1)
        top = probs.topk(8)
        expected = count * top.values / top.values.sum()
        observed = Counter(completion.token_ids[0] for completion in groups["short"])
        assert set(observed) <= set(top.indices.tolist())
        square = sum(
            (observed[token] - e) ** 2 / e for token, e in zip(top.indices.tolist(), expected.tolist(), strict=True)
        )
        assert square < 24.3  # chi-square, 7 degrees of freedom: once in 1,000 by chance; the seed is fixed


class TestCompany:
    """Who shares the batch changes nothing but rounding."""

    @pytest.fixture
    def alone(self, llama: Any, tokenizer: Any) -> dict[str, list[tuple[int, ...]]]:
        return {prompt.key: tokens(run(llama, tokenizer, [prompt]))[prompt.key] for prompt in PROMPTS}

    def test_with_others(self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]]) -> None:
        assert tokens(run(llama, tokenizer)) == alone

    def test_in_another_order(self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]]) -> None:
        assert tokens(run(llama, tokenizer, PROMPTS[::-1])) == alone

    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_with_room_for_few(
        self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]], rows: int
    ) -> None:
        assert tokens(run(llama, tokenizer, room=rows * 29)) == alone

    def test_prompts_prefilled_one_by_one(
        self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("unigrad.rollout.torch_engine._PREFILL_POSITIONS", 1)
        assert tokens(run(llama, tokenizer)) == alone

    def test_a_smaller_group_is_a_prefix(
        self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]]
    ) -> None:
        assert tokens(run(llama, tokenizer, n=2)) == {key: group[:2] for key, group in alone.items()}

    def test_a_shorter_completion_is_a_prefix(
        self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]]
    ) -> None:
        assert tokens(run(llama, tokenizer, length=5)) == {
            key: [completion[:5] for completion in group] for key, group in alone.items()
        }

    def test_the_seed_and_the_index_matter(
        self, llama: Any, tokenizer: Any, alone: dict[str, list[tuple[int, ...]]]
    ) -> None:
        assert tokens(run(llama, tokenizer, seed=1)) != alone
        assert len(set(alone["long"])) == 4

    def test_the_prompt_is_computed_once_for_its_group(
        self, llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fed = Counter()
        handle = llama.get_input_embeddings().register_forward_hook(
            lambda _, inputs, __: fed.update(inputs[0].flatten().tolist())
        )
        # No prompt token can be sampled here, so every one that is fed comes from the prompt itself.
        prompt = Prompt("q", (40, 41, 42))
        llama.lm_head.weight.data[40:43] = 0
        run(llama, tokenizer, [prompt], n=6, length=4, top_k=5, room=2 * 7)
        handle.remove()
        assert (fed[40], fed[41]) == (1, 1)
        assert fed[42] == 6  # the last token is where each row begins


class TestEnds:
    def test_the_end_token_is_kept_and_ends_the_row(self, llama: Any, tokenizer: Any) -> None:
        groups = run(llama, tokenizer, n=40)
        completions = [completion for group in groups.values() for completion in group]
        for completion in completions:
            ends = [EOS in completion.token_ids[:-1], completion.token_ids[-1] == EOS]
            assert ends == [False, not completion.truncated]
            assert len(completion.token_ids) == len(completion.logprobs) == len(completion.entropies)
            assert completion.truncated == (len(completion.token_ids) == 12 and completion.token_ids[-1] != EOS)
        assert 0 < sum(completion.truncated for completion in completions) < len(completions)

    def test_a_list_of_end_tokens_and_the_tokenizers_own(self, llama: Any, tokenizer: Any) -> None:
        llama.generation_config.eos_token_id = [OTHER_EOS, 3]
        for group in run(llama, tokenizer, n=40).values():
            for completion in group:
                ended = completion.token_ids[-1] in (EOS, OTHER_EOS, 3)
                assert ended != completion.truncated
                assert not {EOS, OTHER_EOS, 3} & set(completion.token_ids[:-1])

    def test_end_tokens_of_the_sampling_alone(self, llama: Any, tokenizer: Any) -> None:
        free = run(llama, tokenizer, n=40)
        stopped = run(llama, tokenizer, n=40, stop_token_ids=(OTHER_EOS, 3))
        earlier = 0
        for key, group in free.items():
            for completion, other in zip(group, stopped[key], strict=True):
                ends = (t for t, token in enumerate(completion.token_ids, 1) if token in (OTHER_EOS, 3))
                assert other.token_ids == completion.token_ids[: next(ends, None)]
                assert other.truncated == (other.token_ids[-1] not in (EOS, OTHER_EOS, 3))
                earlier += len(other.token_ids) < len(completion.token_ids)
        assert earlier > 5

    def test_a_text_keeps_what_was_sampled_but_for_the_end_token(self, llama: Any, tokenizer: Any) -> None:
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer, eos_token="<end>", additional_special_tokens=["<stop>"]
        )
        seen = {"ended": 0, "stopped": 0, "truncated": 0, "special": 0, "empty": 0}
        for group in run(llama, tokenizer, n=60, stop=("q", "zz")).values():
            for completion in group:
                assert completion.ended == (completion.token_ids[-1] == EOS)
                written = completion.token_ids[:-1] if completion.ended else completion.token_ids
                text = completion.text
                assert text == "".join(tokenizer.convert_ids_to_tokens(written))
                assert completion.truncated == (not completion.ended and not text.endswith(("q", "zz")))
                seen["ended"] += completion.ended
                seen["truncated"] += completion.truncated
                seen["stopped"] += not completion.ended and not completion.truncated
                seen["special"] += "<stop>" in text
                seen["empty"] += not text
        assert all(seen.values()), seen

    def test_without_end_tokens_every_row_is_full(self, llama: Any, tokenizer: Any) -> None:
        groups = run(llama, without_end(llama, tokenizer))
        assert {len(each.token_ids) for group in groups.values() for each in group} == {12}
        assert all(each.truncated for group in groups.values() for each in group)

    def test_stop_strings(self, llama: Any, tokenizer: Any) -> None:
        stops = ("a", "z", "q<stop>", "<stop>b", "7")
        free = run(llama, tokenizer, n=40)
        stopped = run(llama, tokenizer, n=40, stop=stops)
        cut = 0
        for key, group in free.items():
            for completion, other in zip(group, stopped[key], strict=True):
                texts = [tokenizer.decode(completion.token_ids[:t]) for t in range(1, len(completion.token_ids) + 1)]
                first = next((t for t, text in enumerate(texts, 1) if any(s in text for s in stops)), None)
                expected = completion.token_ids[:first]
                assert other.token_ids == expected
                assert other.truncated == (first is None and completion.truncated)
                cut += len(expected) < len(completion.token_ids)
        assert cut > 5

    def test_a_stop_string_over_several_tokens(self, llama: Any, tokenizer: Any) -> None:
        tokenizer_without = without_end(llama, tokenizer)
        free = run(llama, tokenizer_without, PROMPTS[:1], n=1)["long"][0]
        text = tokenizer.decode(free.token_ids[3:7])
        (stopped,) = run(llama, tokenizer_without, PROMPTS[:1], n=1, stop=(text,))["long"]
        assert stopped.token_ids == free.token_ids[: tokenizer.decode(free.token_ids).index(text) + 4]
        assert not stopped.truncated

    def test_the_models_positions_end_a_row(self, llama: Any, tokenizer: Any) -> None:
        prompts = [Prompt("nearly full", tuple(i % 40 for i in range(POSITIONS - 3))), PROMPTS[2]]
        groups = run(llama, without_end(llama, tokenizer), prompts, length=30)
        assert [len(each.token_ids) for each in groups["nearly full"]] == [3] * 4
        assert all(each.truncated for each in groups["nearly full"])
        assert [len(each.token_ids) for each in groups["short"]] == [30] * 4


class TestLivePolicy:
    def test_the_weights_are_read_when_generating(self, llama: Any, tokenizer: Any) -> None:
        engine = TorchEngine(llama, tokenizer, max_concurrent_tokens=ROOM)
        before = engine.generate(PROMPTS, sampling(), 0)
        llama.load_state_dict(make(CONFIGS["llama"], seed=1).state_dict())
        after = engine.generate(PROMPTS, sampling(), 0)
        assert after != before
        assert after == TorchEngine(make(CONFIGS["llama"], seed=1), tokenizer, max_concurrent_tokens=ROOM).generate(
            PROMPTS, sampling(), 0
        )

    def test_each_completion_is_told_of_as_it_ends(self, llama: Any, tokenizer: Any) -> None:
        engine = TorchEngine(llama, tokenizer, max_concurrent_tokens=ROOM)
        told: list[tuple[Prompt, int, Completion]] = []
        groups = engine.generate(PROMPTS, sampling(), 0, lambda *each: told.append(each))
        assert len(told) == sum(map(len, groups))
        assert all(groups[PROMPTS.index(prompt)][index] == completion for prompt, index, completion in told)
        # They all fit in at once, so the shorter ones end first.
        lengths = [len(completion.token_ids) for *_, completion in told]
        assert lengths == sorted(lengths)
        assert len(set(lengths)) > 1

    def test_the_model_is_left_as_it_was(self, tokenizer: Any) -> None:
        config = LlamaConfig(**SHAPE, attn_implementation="eager", attention_dropout=0.5, use_cache=False)
        model = make(config).train()
        model.model.layers[1].eval()
        model.model.embed_tokens.weight.requires_grad_(False)
        state = lambda: (  # noqa: E731
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
            model.config._attn_implementation,
            model.config.use_cache,
            model.generation_config.to_dict(),
        )
        before = state()
        groups = run(model, tokenizer)
        assert state() == before
        # Dropout was off: evaluation mode gives the same.
        assert tokens(groups) == tokens(run(model.eval(), tokenizer))

    def test_training_goes_on_after_generating(self, llama: Any, tokenizer: Any) -> None:
        ids = torch.tensor([PROMPTS[0].token_ids])

        def gradient() -> torch.Tensor:
            llama.zero_grad()
            llama(ids, labels=ids).loss.backward()
            return llama.lm_head.weight.grad.clone()

        before = gradient()
        run(llama, tokenizer)
        assert torch.equal(gradient(), before)

    def test_the_model_is_restored_after_a_failure(self, llama: Any, tokenizer: Any) -> None:
        llama.train()
        llama.lm_head.weight.data[3] = torch.nan
        with pytest.raises(FloatingPointError, match="not finite"):
            run(llama, tokenizer)
        assert llama.training

    def test_autocast_leaves_float32_weights(self, llama: Any, tokenizer: Any) -> None:
        engine = TorchEngine(llama, tokenizer, max_concurrent_tokens=ROOM, compute_dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            groups = engine.generate(PROMPTS, sampling(), 0)
            ids = torch.tensor([PROMPTS[0].token_ids])
            llama(ids, labels=ids).loss.backward()
        assert {parameter.dtype for parameter in llama.parameters()} == {torch.float32}
        assert all(parameter.grad is not None for parameter in llama.parameters())
        for prompt, group in zip(PROMPTS, groups, strict=True):
            for completion in group:
                ids = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
                with torch.no_grad():
                    logp = llama(ids).logits[0, len(prompt.token_ids) - 1 : -1].log_softmax(-1)
                expected = logp.gather(1, ids[0, len(prompt.token_ids) :, None])[:, 0]
                # bfloat16 has 8 bits; logits here are a few units.
                assert (torch.tensor(completion.logprobs) - expected).abs().max() < 0.3

    def test_float32_compute_is_the_plain_model(self, llama: Any, tokenizer: Any) -> None:
        engine = TorchEngine(llama, tokenizer, max_concurrent_tokens=ROOM, compute_dtype=torch.float32)
        assert engine.generate(PROMPTS, sampling(), 0) == list(run(llama, tokenizer).values())


class TestBadInput:
    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ([Prompt("a", (1,)), Prompt("a", (2,))], "two prompts have the key 'a'"),
            ([Prompt("a", ())], "prompt 'a' has 0 tokens: the model takes 1 to 39"),
            ([Prompt("a", (1,) * POSITIONS)], "prompt 'a' has 40 tokens: the model takes 1 to 39"),
        ],
    )
    def test_prompts(self, llama: Any, tokenizer: Any, prompts: list[Prompt], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            run(llama, tokenizer, prompts)

    def test_no_room_for_a_completion(self, llama: Any, tokenizer: Any) -> None:
        with pytest.raises(ValueError, match=r"max_concurrent_tokens=28 holds no completion: .* takes 29"):
            run(llama, tokenizer, room=28)
        assert run(llama, tokenizer, room=29)

    def test_no_prompts(self, llama: Any, tokenizer: Any) -> None:
        assert run(llama, tokenizer, []) == {}

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (
                LlamaConfig(**SHAPE, layer_types=["full_attention", "linear_attention", "full_attention"]),
                r"its layers must have full, sliding or chunked attention, not LinearAttentionLayer",
            ),
            (MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1), "cannot run MambaForCausalLM"),
        ],
        ids=["a state", "mamba"],
    )
    def test_unsupported_models(self, tokenizer: Any, config: PretrainedConfig, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            TorchEngine(make(config), tokenizer, max_concurrent_tokens=ROOM)
        assert "\n" not in str(error.value)

    def test_a_forward_without_a_cache(self, llama: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(llama, "forward", lambda input_ids: None)
        message = "cannot run LlamaForCausalLM: its forward takes no cache of earlier tokens' keys and values"
        with pytest.raises(ValueError, match=message):
            TorchEngine(llama, tokenizer, max_concurrent_tokens=ROOM)

    def test_an_encoder_decoder_model(self, tokenizer: Any) -> None:
        config = T5Config(vocab_size=VOCABULARY, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2)
        with pytest.raises(ValueError, match="cannot run T5ForConditionalGeneration: it takes decoder-only models"):
            TorchEngine(T5ForConditionalGeneration(config), tokenizer, max_concurrent_tokens=ROOM)


def test_the_words_do_not_import_torch() -> None:
    code = "import sys, unigrad.rollout; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"module 'unigrad.rollout' has no attribute 'nothing'"):
        _ = unigrad.rollout.nothing


@pytest.mark.parametrize(
    "wrong",
    [{"num_generations": 0}, {"max_completion_length": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"stop": ("",)}],
)
def test_impossible_sampling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"sampling cannot have {next(iter(wrong))}="):
        Sampling(**{"num_generations": 1, "max_completion_length": 1, **wrong})
