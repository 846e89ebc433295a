"""An adapter is W + (α/r)·B·A and nothing else: its gradient, its absence, its files, in every way a policy is used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from unigrad.batch import Costs, Layout, Sequences, laid_out
from unigrad.config import LoraConfig
from unigrad.errors import ConfigError
from unigrad.policy import Policy
from unigrad.policy.activations import recompute
from unigrad.policy.adapter import adapter_size, linear_layers
from unigrad.policy.architecture import skeleton
from unigrad.rollout import Prompt, Sampling, TorchEngine
from unigrad.rollout.generate_engine import GenerateEngine
from unigrad.rollout.packed_weights import cast_weights

peft = pytest.importorskip("peft", reason="needs unigrad[peft]")

LONG, SHORT = (1, 5, 9, 2, 11, 12, 30, 14), (4, 6, 5, 31)
ROWS = [(LONG, (7, 3)), (LONG, (8,)), (LONG, (40, 2, 3)), (SHORT, (3, 2, 1)), (SHORT, (20, 21, 22))]
SEQUENCES = Sequences.of_ids(ROWS, [1.0, 0.7, 1.0, 1.3, 1.0])


def moved(policy: Policy, lora: LoraConfig) -> Policy:
    """With an adapter that has an effect."""
    policy.add_adapter(lora, seed=3)
    torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return policy


def trained(policy: Policy) -> dict[str, Tensor]:
    return {name: each for name, each in policy.model.named_parameters() if each.requires_grad}


def logprobs(policy: Policy, layout: Layout = "padded", budget: int = 1000) -> Tensor:
    """Of all completion tokens, in the order of the rows."""
    costs = Costs(layouts=frozenset({layout}), packs_exactly=True)
    logp_M = torch.zeros(int(SEQUENCES.completion_S.sum()), dtype=policy.dtype)
    for batch in laid_out(SEQUENCES, range(len(ROWS)), budget, costs):
        assert batch.layout == layout
        places_M = SEQUENCES.completion_tokens(batch.indices_P)
        logp_M = logp_M.index_put((places_M,), policy(batch.to("cpu", policy.dtype)).logp_M)
    return logp_M


def gradients(policy: Policy, layout: Layout = "padded", budget: int = 1000) -> dict[str, Tensor]:
    """Of a sum in which every token weighs something else."""
    logp_M = logprobs(policy, layout, budget)
    (logp_M * torch.linspace(-1, 2, len(logp_M), dtype=logp_M.dtype)).sum().backward()
    found = {name: each.grad for name, each in policy.model.named_parameters() if each.grad is not None}
    policy.zero_grad()
    return found


def neox(tokenizer: PreTrainedTokenizerFast) -> Policy:
    """In float64 throughout: an RMSNorm of transformers would round to float32."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return Policy(GPTNeoXForCausalLM(config).double(), tokenizer)


def test_the_gradient_is_that_through_the_merged_weight(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = moved(neox(tokenizer), LoraConfig(r=16, alpha=8.0))
    found = gradients(policy)
    assert found.keys() == trained(policy).keys()

    plain = neox(tokenizer).model
    leaves = {name: each.detach().requires_grad_() for name, each in trained(policy).items()}
    effective = {}
    for name in linear_layers(plain, ()):
        a_rI, b_Or = leaves[f"{name}.lora_A.default.weight"], leaves[f"{name}.lora_B.default.weight"]
        effective[f"{name}.weight"] = plain.get_submodule(name).weight.detach() + 8.0 / 16 * (b_Or @ a_rI)
        effective[f"{name}.weight"].retain_grad()
    terms = []
    for (prompt, completion), temperature in zip(ROWS, SEQUENCES.temperature_S.tolist(), strict=True):
        ids_1L = torch.tensor([[*prompt, *completion]])
        logits_LV = functional_call(plain, effective, (ids_1L,)).logits[0, len(prompt) - 1 : -1] / temperature
        terms.append(logits_LV.log_softmax(-1).gather(1, ids_1L[0, len(prompt) :, None])[:, 0])
    logp_M = torch.cat(terms)
    (logp_M * torch.linspace(-1, 2, len(logp_M), dtype=logp_M.dtype)).sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 1e-4, name
        torch.testing.assert_close(found[name], leaf.grad, rtol=1e-10, atol=1e-10)
        layer, _, matrix = name.removesuffix(".default.weight").rpartition(".")
        outer_OI = effective[f"{layer}.weight"].grad
        factor = leaves[f"{layer}.lora_B.default.weight"].T @ outer_OI
        if matrix == "lora_B":
            factor = outer_OI @ leaves[f"{layer}.lora_A.default.weight"].T
        torch.testing.assert_close(found[name], 0.5 * factor, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", ["packed", "prefix"])
def test_no_layout_and_no_micro_batch_changes_the_gradient(layout: Layout, tokenizer: PreTrainedTokenizerFast) -> None:
    policy = moved(neox(tokenizer), LoraConfig(r=3))
    expected = gradients(policy)
    for found in (gradients(policy, layout), gradients(policy, budget=12)):
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-12)


Build = Callable[..., PreTrainedModel]


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "granite"])
def test_switched_off_it_is_the_model_that_it_was_put_on(
    architecture: str, tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = logprobs(Policy(tiny_model(architecture), tokenizer)).detach()
    policy = Policy(tiny_model(architecture), tokenizer)
    policy.add_adapter(LoraConfig(r=2), seed=0)
    assert torch.equal(logprobs(policy), before)
    moved(policy := Policy(tiny_model(architecture), tokenizer), LoraConfig(r=2))
    adapted = logprobs(policy).detach()
    assert (adapted - before).abs().max() > 0.01
    with torch.no_grad(), policy.without_adapter():
        assert torch.equal(logprobs(policy), before)
    assert torch.equal(logprobs(policy), adapted)
    assert all("lora" in name for name in gradients(policy))


def test_it_is_drawn_by_the_seed_alone(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    def drawn(seed: int) -> list[Tensor]:
        policy = Policy(tiny_model("llama"), tokenizer)
        torch.manual_seed(seed + 100)
        state = torch.get_rng_state()
        policy.add_adapter(LoraConfig(r=2), seed)
        assert torch.equal(torch.get_rng_state(), state)
        return list(trained(policy).values())

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize("tied", [False, True])
def test_merged_it_is_a_plain_model(
    tied: bool, tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    policy = moved(Policy(tiny_model("llama", tie_word_embeddings=tied), tokenizer), LoraConfig(r=2))
    before = {name: each.clone() for name, each in policy.model.state_dict().items()}
    policy.save_pretrained(tmp_path / "final")
    assert all(torch.equal(each, before[name]) for name, each in policy.model.state_dict().items())
    plain, info = AutoModelForCausalLM.from_pretrained(tmp_path / "final", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(logprobs(Policy(plain, tokenizer)), logprobs(policy), rtol=0, atol=1e-5)
    policy.save_pretrained(tmp_path / "half", torch.bfloat16)
    half = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float().state_dict(), plain.state_dict(), rtol=2**-8, atol=1e-7)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # in peft's own loading
def test_peft_and_a_second_policy_read_what_is_saved(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    lora = LoraConfig(r=2, alpha=3.0, target_modules=("q_proj", "model.layers.1.mlp.down_proj"))
    policy = moved(Policy(tiny_model("llama"), tokenizer), lora)
    assert len(trained(policy)) == 2 * 3
    policy.save_trained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert not list(tmp_path.glob("model*"))
    expected = logprobs(policy).detach()
    theirs = peft.PeftModel.from_pretrained(tiny_model("llama"), tmp_path)
    assert torch.equal(logprobs(Policy(theirs.base_model.model, tokenizer)), expected)
    again = Policy(tiny_model("llama"), tokenizer)
    adapter = again.add_adapter(lora, seed=8)
    adapter.load(tmp_path)
    assert torch.equal(logprobs(again), expected)
    assert policy.trained_bytes == 4 * adapter.parameters == 4 * adapter_size(tiny_model("llama"), lora)

    other = Policy(tiny_model("llama"), tokenizer).add_adapter(LoraConfig(r=3), seed=0)
    with pytest.raises(ValueError, match=r"\A[^\n]*adapter_model.safetensors is not this run's[^\n]*\Z"):
        other.load(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"\A[^\n]*adapter_model.safetensors is missing or damaged[^\n]*\Z"):
        adapter.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputing_changes_no_gradient(
    dtype: torch.dtype, tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    def policy(**options: Any) -> Policy:
        return Policy(tiny_model("llama"), tokenizer, compute_dtype=dtype, **options)

    expected = gradients(moved(policy(), LoraConfig(r=2)))
    changed = policy()
    recompute(changed.model)
    moved(changed, LoraConfig(r=2))
    checkpointed = moved(policy(gradient_checkpointing=True), LoraConfig(r=2))
    for each in (changed, checkpointed):
        found = gradients(each)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


@pytest.mark.parametrize("engine", [TorchEngine, GenerateEngine])
@pytest.mark.parametrize("steps", [6, 40])
def test_rollouts_are_sampled_with_it(
    engine: type[TorchEngine] | type[GenerateEngine],
    steps: int,
    tiny_model: Build,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    # Large enough, with many steps, that the torch engine packs the weights under the adapter.
    model = tiny_model("llama", hidden_size=64, intermediate_size=8192, initializer_range=0.05)
    policy = moved(Policy(model, tokenizer), LoraConfig(r=2, alpha=1.0))
    prompts = [Prompt(str(row), prompt) for row, (prompt, _) in enumerate(ROWS[1:3])]
    sampling = Sampling(num_generations=2, max_completion_length=steps)
    sampler = engine(policy.model, policy.tokenizer, max_concurrent_tokens=1000)
    assert sampler.is_exact
    for prompt, group in zip(prompts, sampler.generate(prompts, sampling, 0), strict=True):
        for completion in group:
            ids_1L = torch.tensor([[*prompt.token_ids, *completion.token_ids]])
            with torch.no_grad():
                logp_LV = policy.model(ids_1L).logits[0, len(prompt.token_ids) - 1 : -1].log_softmax(-1)
            expected = logp_LV.gather(1, ids_1L[0, len(prompt.token_ids) :, None])[:, 0]
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=1e-4)
    assert gradients(policy).keys() == trained(policy).keys()


def test_cast_weights_are_autocasts_to_the_bit(tiny_model: Build, tokenizer: PreTrainedTokenizerFast) -> None:
    model = moved(Policy(tiny_model("llama"), tokenizer), LoraConfig(r=2)).model
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        ids = torch.tensor([[1, 5, 9, 2]])
        expected = model(ids).logits
        with cast_weights(model, torch.bfloat16, 4):
            cast = {name for name, module in model.named_modules() if "forward" in vars(module)}
            assert "model.layers.0.mlp.up_proj.base_layer" in cast
            assert torch.equal(model(ids).logits, expected)


def of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=60, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4, num_local_experts=4,
        num_experts_per_tok=2, pad_token_id=0,
        max_position_embeddings=64, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8,
        mamba_chunk_size=4,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [
        ("mixtral", set()),
        ("qwen3_moe", set()),
        ("gemma3_text", set()),
        ("phi3", set()),
        ("cohere2", set()),
        # What peft would put on the experts in their place, and what it does not put on a state space's output.
        ("qwen3_next", {"gate_proj", "up_proj", "down_proj"}),
        ("falcon_h1", {"out_proj"}),
    ],
)
def test_all_linear_layers_that_fit_are_adapted_and_have_an_effect(
    kind: str, left_out: set[str], tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    policy = Policy(of(kind), tokenizer)
    kinds = {name.rsplit(".", 1)[-1] for name in linear_layers(policy.model, ())}
    moved(policy, LoraConfig(r=2))
    assert all(f"{name}: " in caplog.text for name in left_out)
    assert bool(left_out) == ("these layers are not adapted" in caplog.text)
    found = gradients(policy)
    assert found.keys() == trained(policy).keys()
    moving = {name.partition(".lora_")[0].rsplit(".", 1)[-1] for name, each in found.items() if each.any()}
    assert moving == kinds - left_out
    policy.save_pretrained(tmp_path)
    plain = Policy(AutoModelForCausalLM.from_pretrained(tmp_path), tokenizer)
    torch.testing.assert_close(logprobs(plain), logprobs(policy), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        ("llama", "q_prj", "'q_prj' fits no linear layer; did you mean 'q_proj'? It has q_proj, k_proj, "),
        ("llama", "q_proj,lm_head", "'lm_head', the output embedding, is not adapted; did you mean"),
        ("llama", "embed_tokens", "'embed_tokens' fits no linear layer"),
        ("llama", "proj", "'proj' fits no linear layer"),
        ("gpt2", "", "GPT2LMHeadModel has no linear layers that an adapter fits"),
        ("falcon_h1", "q_proj,out_proj", "'out_proj' is incompatible with Mamba-based models"),
        ("qwen3_next", "down_proj", "down_proj: peft takes the name for another's"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(
    kind: str, names: str, message: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    policy = Policy(of(kind), tokenizer)
    with pytest.raises(ConfigError, match=r"\Amodel\.lora[^\n]*\Z") as raised:
        policy.add_adapter(LoraConfig(r=2, target_modules=names), seed=0)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_weight_that_is_read_past_its_layer_is_not_adapted(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    def past(model: PreTrainedModel) -> PreTrainedModel:
        for layer in model.model.layers:
            own = layer.mlp
            own.forward = lambda hidden, own=own: own.act_fn(hidden @ own.gate_proj.weight.T) @ own.down_proj.weight.T
        return model

    policy = Policy(past(tiny_model("llama")), tokenizer)
    policy.add_adapter(LoraConfig(r=2), seed=0)
    adapted = {name.split(".")[4] for name in trained(policy)}
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"}
    with pytest.raises(ConfigError, match=r"gate_proj: the model reads its weights past the layer"):
        Policy(past(tiny_model("llama")), tokenizer).add_adapter(LoraConfig(r=2, target_modules=("gate_proj",)), 0)


def test_without_peft_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"model\.lora\.r = 2 needs peft: pip install 'unigrad\[peft\]'"):
        Policy(tiny_model("llama"), tokenizer).add_adapter(LoraConfig(r=2), seed=0)


def test_its_size_is_known_from_a_skeleton(tokenizer: PreTrainedTokenizerFast) -> None:
    model = of("qwen3_moe")
    adapter = Policy(model, tokenizer).add_adapter(LoraConfig(r=3), seed=0)
    assert adapter.parameters == adapter_size(skeleton(of("qwen3_moe").config), LoraConfig(r=3))
