"""One test a name of transformers and of the hub's client that is not theirs to keep: a release that moves one breaks
the test that has its name, and no user."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub.utils import logging as hub_logging
from packaging.version import Version
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma4TextConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedModel,
    RobertaConfig,
)
from transformers.utils import logging as transformers_logging

import unigrad
from unigrad.policy import transformers_api
from unigrad.policy.transformers_api import Reach
from unigrad.rollout.row_cache import RowCache

Build = Callable[..., PreTrainedModel]
IDS = torch.tensor([[3, 1, 4, 1]])
PACKAGE = Path(unigrad.__file__).parent
DOCUMENTED = {
    *("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "PreTrainedConfig", "PreTrainedModel"),
    *(
        "GenerationConfig",
        "LogitsProcessorList",
        "StoppingCriteriaList",
        "LlamaConfig",
        "LlamaForCausalLM",
        "PreTrainedTokenizerBase",
        "PreTrainedTokenizerFast",
    ),
}


def other_modules() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if path.name != "transformers_api.py"]


@pytest.mark.parametrize("path", other_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_else_touches_an_inner_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.split(".")[0]
            assert package != "huggingface_hub"
            assert node.module == package or package != "transformers", node.module
            if package == "transformers":
                assert {name.name for name in node.names} <= DOCUMENTED
        if isinstance(node, ast.Import):
            assert not {name.name.split(".")[0] for name in node.names} & {"transformers", "huggingface_hub"}
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert isinstance(node.value, ast.Name), ast.unparse(node)
            assert node.value.id != "model", ast.unparse(node)


class TestCache:
    def test_the_bases_are_public(self) -> None:
        assert issubclass(RowCache, transformers.Cache)
        assert all(isinstance(layer, transformers.DynamicLayer) for layer in RowCache(2, 1, 8).layers)

    def test_update_takes_whatever_a_release_hands_it(self) -> None:
        cache = RowCache(layers=2, rows=3, length=8)
        cache.begin_step(torch.tensor([4, 2]), width=5)
        keys, values = torch.randn(2, 2, 1, 4), torch.randn(2, 2, 1, 4)
        seen = cache.update(keys, values, 1, {"old": 1}, kwargs={"new": 2}, newer=3)
        for new_BH1D, seen_BHLD in zip((keys, values), seen, strict=True):
            assert seen_BHLD.shape == (2, 2, 5, 4)
            assert torch.equal(seen_BHLD[0, :, 4], new_BH1D[0, :, 0])
            assert torch.equal(seen_BHLD[1, :, 2], new_BH1D[1, :, 0])
            assert seen_BHLD.count_nonzero() == new_BH1D.numel()

    def test_what_a_model_asks_a_cache_is_answered_for_the_step_at_hand(self) -> None:
        cache = RowCache(layers=2, rows=3, length=8)
        assert cache.get_seq_length() == 0
        cache.begin_step(torch.tensor([4, 2]), width=5)
        assert cache.get_seq_length() == cache.get_seq_length(1) == 4
        assert cache.get_mask_sizes(1, 0) == (5, 0)


class TestCacheArgument:
    @pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma", "gpt2"])
    def test_the_forward_takes_it(self, tiny_model: Build, architecture: str) -> None:
        model = tiny_model(architecture)
        cache = transformers_api.growing_cache(model)
        name = transformers_api.cache_argument(model)
        assert name is not None
        model(IDS, use_cache=True, **{name: cache})
        assert cache.get_seq_length() == 4

    def test_the_newer_name_comes_first(self, tiny_model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
        model = tiny_model("llama")
        for forward, name in (
            (lambda input_ids, past_key_values=None, cache=None: None, "cache"),
            (lambda input_ids, cache=None: None, "cache"),
            (lambda input_ids, past_key_values=None: None, "past_key_values"),
            (lambda input_ids: None, None),
        ):
            monkeypatch.setattr(model, "forward", forward)
            assert transformers_api.cache_argument(model) == name


def test_growing_cache_and_keys_and_values(tiny_model: Build) -> None:
    model = tiny_model("llama")
    cache = transformers_api.growing_cache(model)
    assert len(cache) == 2
    model(IDS, use_cache=True, **{str(transformers_api.cache_argument(model)): cache})
    for keys, values in transformers_api.keys_and_values(cache):
        assert keys.shape == values.shape == (1, 2, 4, 4)
        assert keys.count_nonzero() == keys.numel()


def small(config: Any) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(config)


WINDOW = MistralConfig(
    vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, sliding_window=4,
)  # fmt: skip
STATE = MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)
OWN_ATTENTION = BloomConfig(vocab_size=60, hidden_size=16, n_layer=2, n_head=4)


def test_special_layers(tiny_model: Build) -> None:
    assert transformers_api.special_layers(tiny_model("llama")) == []
    assert transformers_api.special_layers(small(WINDOW)) == ["DynamicSlidingWindowLayer"]
    wide = MistralConfig.from_dict({**WINDOW.to_dict(), "max_position_embeddings": 4})
    assert transformers_api.special_layers(small(wide)) == []


def test_reaches(tiny_model: Build) -> None:
    assert set(transformers_api.reaches(tiny_model("llama")).values()) == {Reach()}
    assert transformers_api.reaches(small(WINDOW)) == {"sliding_attention": Reach(4)}
    wide = MistralConfig.from_dict({**WINDOW.to_dict(), "max_position_embeddings": 4})
    assert set(transformers_api.reaches(small(wide)).values()) == {Reach()}
    mixed = tiny_model("gemma2", sliding_window=7)
    assert transformers_api.reaches(mixed) == {"sliding_attention": Reach(7), "full_attention": Reach()}
    with pytest.raises(ValueError, match=r"must have full, sliding or chunked attention, not \w+$"):
        transformers_api.reaches(small(STATE))


def test_full_cache_keeps_what_is_outside_of_a_window(tiny_model: Build) -> None:
    model = small(WINDOW)
    cache = transformers_api.full_cache(2)
    ids = torch.arange(7)[None]
    model(ids, use_cache=True, **{str(transformers_api.cache_argument(model)): cache})
    assert [keys.shape[2] for keys, _ in transformers_api.keys_and_values(cache)] == [7, 7]


def test_widest(tiny_model: Build) -> None:
    config = tiny_model("llama").config
    assert transformers_api.widest(config, "head_dim") == 4
    assert transformers_api.widest(config, "no_such_size") is None
    # Older releases have one size for all layers, and the others beside it; newer ones refuse to name one.
    assert transformers_api.widest(Gemma4TextConfig(head_dim=8, global_head_dim=16), "head_dim") in (8, 16)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "granite"])
def test_before_logits(tiny_model: Build, architecture: str) -> None:
    model = tiny_model(architecture)
    entered = transformers_api.before_logits(model, input_ids=IDS, use_cache=False)
    # Its logits are the product's, and the output embedding multiplies again.
    assert torch.equal(entered, model.model(input_ids=IDS, use_cache=False).last_hidden_state)
    assert model(input_ids=IDS).logits.shape == (1, 4, 60)


def test_before_logits_where_there_is_none(tiny_model: Build) -> None:
    model = tiny_model("llama")
    model.get_output_embeddings = lambda: torch.nn.Linear(16, 60)
    with pytest.raises(ValueError, match="its output embedding takes nothing where one hidden state a token was"):
        transformers_api.before_logits(model, input_ids=IDS)


def test_positions_that_begin_behind_a_padding_index(tiny_model: Build) -> None:
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape = {**sizes, "num_attention_heads": 2, "max_position_embeddings": 64, "is_decoder": True}
    roberta = AutoModelForCausalLM.from_config(RobertaConfig(**shape, pad_token_id=5)).eval()
    assert transformers_api.first_position(roberta) == 6
    assert transformers_api.room(roberta) == 58
    ids = torch.tensor([[1, 2, 3]])
    counted = roberta(input_ids=ids, position_ids=torch.tensor([[6, 7, 8]])).logits
    assert torch.equal(roberta(input_ids=ids).logits, counted)
    llama = tiny_model("llama")
    assert (transformers_api.first_position(llama), transformers_api.room(llama)) == (0, 64)


def test_blocks(tiny_model: Build) -> None:
    llama, gpt = tiny_model("llama"), tiny_model("gpt2")
    assert transformers_api.blocks(llama) == list(llama.model.layers)
    assert transformers_api.blocks(gpt) == list(gpt.transformer.h)


def test_attention_under_autocast_on_a_cpu_is_float32s(tiny_model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = tiny_model("llama"), torch.tensor([[1, 2, 3, 4]])
    sdpa, computed_in = nn.functional.scaled_dot_product_attention, list[torch.dtype]()

    def recording(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        # Autocast casts what it is given within the product, so that their own types do not tell.
        cast = torch.is_autocast_enabled("cpu")
        computed_in.extend(torch.get_autocast_dtype("cpu") if cast else each.dtype for each in (query, key, value))
        return sdpa(query, key, value, **options)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", recording)
    kernel = transformers_api.decoding_attention(model, torch.bfloat16)
    with torch.no_grad():
        exact = model(ids).logits
        with torch.autocast("cpu", torch.bfloat16):
            computed_in.clear()
            usual = model(ids).logits
            assert set(computed_in) == {torch.bfloat16}
            computed_in.clear()
            with transformers_api.attention(model, kernel):
                found = model(ids, attention_mask=torch.ones(1, 4, dtype=torch.bool)).logits
    assert set(computed_in) == {torch.float32}
    assert 0 < (found - usual).abs().max() < 0.1
    assert (found - exact).abs().max() < 0.1


def test_a_soft_cap_on_attention_is_not_left_to_a_kernel_without_one(tiny_model: Build) -> None:
    capped, plain = tiny_model("gemma2"), tiny_model("llama")
    assert [transformers_api.decoding_attention(model, None) for model in (capped, plain)] == ["eager", "sdpa"]
    assert transformers_api.decoding_attention(capped, torch.bfloat16) == "eager"
    # What releases before 5.22 take by themselves.
    capped.config._attn_implementation = "sdpa"
    transformers_api.keep_attention_caps(capped)
    transformers_api.keep_attention_caps(plain)
    assert [model.config._attn_implementation for model in (capped, plain)] == ["eager", "sdpa"]


def test_heads_that_share_keys_keep_them_once_under_a_mask(tiny_model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    if Version(transformers.__version__) < Version("5.23"):
        pytest.skip("transformers copies them before 5.23")
    model, mask_11LL = tiny_model("llama", attn_implementation="sdpa"), torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    monkeypatch.delenv("TRANSFORMERS_SDPA_FORCE_GQA", raising=False)
    found = []
    for _ in range(2):
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, int] = saved) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden = model.model(IDS, attention_mask=mask_11LL, use_cache=False).last_hidden_state
        model.zero_grad()
        hidden.square().sum().backward()
        gradients = [each.grad.clone() for each in model.model.parameters() if each.grad is not None]
        found.append((hidden.detach(), gradients, sum(saved.values())))
        transformers_api.share_keys_under_masks()
    (copied, gradients, more), (shared, same, less) = found
    torch.testing.assert_close(shared, copied, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(same, gradients, rtol=1e-4, atol=1e-5)
    assert less < more


@pytest.mark.parametrize("architecture", ["llama", "gemma", "gemma2", "qwen2", "granite"])
def test_rms_norm_epsilon(tiny_model: Build, architecture: str) -> None:
    model = tiny_model(architecture, rms_norm_eps=3e-4)
    found = [epsilon for each in model.modules() if (epsilon := transformers_api.rms_norm_epsilon(each)) is not None]
    assert len(found) >= 2 * model.config.num_hidden_layers + 1
    assert set(found) == {3e-4}
    assert transformers_api.rms_norm_epsilon(torch.nn.LayerNorm(4)) is None


def test_is_stateful(tiny_model: Build) -> None:
    assert transformers_api.is_stateful(small(STATE))
    assert not transformers_api.is_stateful(tiny_model("llama"))


def test_takes_any_attention(tiny_model: Build) -> None:
    assert transformers_api.takes_any_attention(tiny_model("llama"))
    assert not transformers_api.takes_any_attention(small(OWN_ATTENTION))


def test_attention_is_set_and_restored(tiny_model: Build) -> None:
    model = tiny_model("llama", attn_implementation="eager")
    attentions = []
    for kernel in ("sdpa", "eager"):
        with transformers_api.attention(model, kernel):
            attentions.append(model(IDS, output_attentions=kernel == "eager").attentions)
        assert model.config._attn_implementation == "eager"
    assert attentions[0] is None
    assert len(attentions[1]) == 2
    with pytest.raises(RuntimeError, match="inside"), transformers_api.attention(model, "sdpa"):
        raise RuntimeError("inside")
    assert model.config._attn_implementation == "eager"


def test_enable_activation_checkpointing_runs_each_layer_twice(tiny_model: Build) -> None:
    model = tiny_model("llama")
    transformers_api.enable_activation_checkpointing(model)
    calls: list[int] = []
    for index, layer in enumerate(model.base_model.layers):
        layer.input_layernorm.register_forward_hook(lambda *_, index=index: calls.append(index))
    model.train()
    model(IDS, use_cache=False).logits.sum().backward()
    assert calls == [0, 1, 1, 0]


def test_checkpointing_trains_the_layers_and_nothing_in_them(tiny_model: Build) -> None:
    model = tiny_model("llama").eval()
    transformers_api.enable_activation_checkpointing(model)
    calls: list[int] = []
    model.base_model.layers[0].input_layernorm.register_forward_hook(lambda *_: calls.append(0))
    with transformers_api.checkpointing(model):
        assert [layer.training for layer in model.base_model.layers] == [True, True]
        assert not any(child.training for layer in model.base_model.layers for child in layer.children())
        loss = model(IDS, use_cache=False).logits.sum()
    assert not any(module.training for module in model.modules())
    loss.backward()
    assert calls == [0, 0]


def test_enable_activation_checkpointing_of_a_model_that_cannot(
    tiny_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(ValueError, match="does not support"):
        transformers_api.enable_activation_checkpointing(model)


def test_whole_gguf_weights() -> None:
    if not transformers_api.reads_gguf():
        pytest.skip("transformers reads GGUF files rightly since 5.18")
    assert transformers_api.whole_gguf_weights()["quantization_config"].dequantize is True


def test_text_config_and_max_positions(tiny_model: Build) -> None:
    config = tiny_model("llama").config
    assert transformers_api.text_config(config) is config
    assert transformers_api.max_positions(config) == 64
    assert transformers_api.max_positions(OWN_ATTENTION) is None


def test_one_rope_up_to_the_border(tiny_model: Build) -> None:
    long = {"rope_type": "longrope", "original_max_position_embeddings": 16}
    config = tiny_model("llama").config
    for rope, border in (
        ({"rope_type": "default"}, None),
        ({"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 16}, None),
        (long, 16),
        ({"full_attention": {**long, "original_max_position_embeddings": 8}, "sliding_attention": long}, 8),
    ):
        config.rope_parameters = rope
        assert transformers_api.one_rope(config) == border
        assert transformers_api.max_positions(config) == (border or 64)


def test_rope_parameters_are_the_models_own(tiny_model: Build) -> None:
    plain = tiny_model("llama")
    config = tiny_model("llama").config
    transformers_api.rope_parameters(config)["rope_theta"] = 3.0
    turned = small(config)
    turned.load_state_dict(plain.state_dict())
    assert transformers_api.rope_parameters(plain.config)["rope_theta"] == 10000.0
    assert not torch.allclose(plain(IDS).logits, turned(IDS).logits)
    assert transformers_api.rope_parameters(OWN_ATTENTION) == {}


def test_cached_config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Build) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert transformers_api.cached_config_folder("somebody/tiny") is None
    snapshot = tmp_path / "models--somebody--tiny" / "snapshots" / "0123"
    tiny_model("llama").config.save_pretrained(snapshot)
    (tmp_path / "models--somebody--tiny" / "refs").mkdir()
    (tmp_path / "models--somebody--tiny" / "refs" / "main").write_text("0123")
    assert transformers_api.cached_config_folder("somebody/tiny") == snapshot


def test_quiet_is_over_afterwards() -> None:
    def levels() -> tuple[Any, ...]:
        bars = transformers_logging.is_progress_bar_enabled()
        return transformers_logging.get_verbosity(), hub_logging.get_verbosity(), bars

    before = levels()
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_info()
    with transformers_api.quiet():
        assert levels() == (logging.ERROR, logging.ERROR, False)
    assert levels() == (logging.INFO, before[1], True)
    transformers_api.hide_progress_bars()
    assert not transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(before[0])
    if before[2]:
        transformers_logging.enable_progress_bar()
