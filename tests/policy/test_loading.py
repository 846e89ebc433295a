"""Loading a policy: what loads, in which precision, and the one line for whatever does not."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from token_logprobs import token_logprobs
from transformers import AutoModelForCausalLM, BertConfig, PreTrainedModel, PreTrainedTokenizerFast, RwkvConfig

from unigrad.policy import Policy, load_policy
from unigrad.policy.head import LogitTransform
from unigrad.policy.loading import choose_device, choose_dtype
from unigrad.policy.transformers_api import reads_gguf
from unigrad.policy.trial import check_logits

Build = Callable[..., PreTrainedModel]
Save = Callable[..., Path]


@pytest.fixture
def folder(tiny_model: Build, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Save:
    """Saves a tiny model and its tokenizer; keywords override the model's config."""

    def save(architecture: str = "llama", dtype: torch.dtype = torch.float32, **overrides: Any) -> Path:
        path = tmp_path / "model"
        tiny_model(architecture, **overrides).to(dtype).save_pretrained(path)
        tokenizer.save_pretrained(path)
        return path

    return save


def edit_weights(path: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(path / "model.safetensors")
    edit(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def fails(path: Path | str, **options: Any) -> str:
    """The one line of the error."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_policy(str(path), device="cpu", **options)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_loads_with_its_context_length(folder: Save, architecture: str, tied: bool) -> None:
    policy = load_policy(str(folder(architecture, tie_word_embeddings=tied)), device="cpu")
    assert (policy.device, policy.compute_dtype, policy.max_positions) == (torch.device("cpu"), torch.float32, 64)
    assert not policy.model.training


def test_weights_are_float32_whatever_is_stored_or_computed(folder: Save) -> None:
    policy = load_policy(str(folder(dtype=torch.bfloat16)), device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert policy.compute_dtype == torch.bfloat16
    with policy.autocast():
        assert policy.model(input_ids=torch.tensor([[1, 2]])).logits.dtype == torch.bfloat16


def test_a_pad_token_is_set_only_where_there_is_none(folder: Save, tokenizer: PreTrainedTokenizerFast) -> None:
    path = folder()
    assert load_policy(str(path), device="cpu").tokenizer.pad_token == "<end>"
    tokenizer.pad_token = "a7"
    tokenizer.save_pretrained(path)
    assert load_policy(str(path), device="cpu").tokenizer.pad_token == "a7"


def test_options_reach_the_model(folder: Save) -> None:
    policy = load_policy(str(folder()), device="cpu", attn_implementation="eager", gradient_checkpointing=True)
    assert policy.model.config._attn_implementation == "eager"
    assert policy.gradient_checkpointing


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("architecture", "rope"),
    [("qwen2", {"rope_type": "default", "rope_theta": 10000.0}), ("llama", LLAMA3)],
    ids=["qwen2", "llama3"],
)
def test_rope_theta_and_positions_reach_the_rotary_embedding_and_are_saved(
    folder: Save, tiny_model: Build, architecture: str, rope: dict[str, Any], tmp_path: Path
) -> None:
    path = str(folder(architecture, rope_parameters=dict(rope), head_dim=16))
    own = load_policy(path, device="cpu")
    changed = load_policy(path, device="cpu", rope_theta=40000.0, max_position_embeddings=96)
    expected = tiny_model(
        architecture, rope_parameters={**rope, "rope_theta": 40000.0}, head_dim=16, max_position_embeddings=96
    )
    changed.save_pretrained(tmp_path / "saved")
    again = load_policy(str(tmp_path / "saved"), device="cpu")
    for policy in (changed, again):
        inv_freq = policy.model.model.rotary_emb.inv_freq
        assert torch.equal(inv_freq, expected.model.rotary_emb.inv_freq)
        assert not torch.equal(inv_freq, own.model.model.rotary_emb.inv_freq)
        assert policy.max_positions == 96
        assert policy.model.config.rope_parameters == {**rope, "rope_theta": 40000.0}
    assert (own.max_positions, own.model.config.rope_parameters) == (64, rope)
    rows = [([1, 2, 3], [4, 5, 6])]
    assert torch.equal(token_logprobs(again, rows, [1.0]).logp_BT, token_logprobs(changed, rows, [1.0]).logp_BT)
    assert not torch.equal(token_logprobs(own, rows, [1.0]).logp_BT, token_logprobs(changed, rows, [1.0]).logp_BT)


def test_one_rope_key_alone_leaves_the_other(folder: Save) -> None:
    policy = load_policy(str(folder("qwen2")), device="cpu", max_position_embeddings=96)
    assert (policy.max_positions, policy.model.config.rope_parameters["rope_theta"]) == (96, 10000.0)


def test_an_architecture_without_rope_takes_neither_key(folder: Save) -> None:
    path = folder("gpt2")
    problem = "architecture 'gpt2' has no rotary position embedding; leave out model.rope_theta"
    assert fails(path, rope_theta=40000.0) == f"cannot load the model {path}: {problem}"
    assert fails(path, max_position_embeddings=128).endswith("leave out model.max_position_embeddings")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("architecture", "overrides", "transform"),
    [
        ("gemma2", {"final_logit_softcapping": 2.0}, LogitTransform(cap=2.0)),
        ("gemma2", {"final_logit_softcapping": None}, LogitTransform()),
        ("granite", {"logits_scaling": 8.0}, LogitTransform(scale=0.125)),
        ("cohere", {"logit_scale": 0.25}, LogitTransform(scale=0.25)),
    ],
)
def test_what_a_config_says_of_its_logits_is_computed(
    folder: Save, architecture: str, overrides: dict[str, Any], transform: LogitTransform, dtype: str
) -> None:
    policy = load_policy(str(folder(architecture, **overrides)), device="cpu", dtype=dtype)
    assert policy.logit_transform == transform
    prompt, completion = [1, 2, 3], [4, 5, 6, 7]
    with torch.no_grad(), policy.autocast():
        logits_LV = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0, 2:-1]
        found = token_logprobs(policy, [(prompt, completion)], [1.0]).logp_BT[0]
    expected = logits_LV.float().log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 if dtype == "float32" else 0.1)


@pytest.mark.parametrize(
    ("architecture", "transform"),
    [
        ("llama", lambda logits: logits + 1e-3),
        ("llama", lambda logits: 1e4 * torch.tanh(logits / 1e4)),
        ("llama", lambda logits: logits[..., :-1]),
        ("gemma2", lambda logits: 0.5 * logits),
        ("granite", lambda logits: logits.clamp(-100.0, 100.0)),
    ],
    ids=["shift", "a wide cap", "fewer tokens", "a scale that no key names", "clamp"],
)
def test_logits_that_no_key_of_the_config_explains_are_refused(
    folder: Save, monkeypatch: pytest.MonkeyPatch, architecture: str, transform: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    path = folder(architecture)
    kind = type(AutoModelForCausalLM.from_pretrained(path))
    forward = kind.forward

    @functools.wraps(forward)
    def changed(self: Any, *args: Any, **options: Any) -> Any:
        output = forward(self, *args, **options)
        output.logits = transform(output.logits)
        return output

    monkeypatch.setattr(kind, "forward", changed)
    assert f"architecture {architecture!r} transforms its hidden states or logits" in fails(path)


@pytest.fixture
def bert(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny BERT, which learns a layer between its last hidden states and its output embedding."""

    def save(**overrides: Any) -> Path:
        sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(BertConfig(**sizes, num_attention_heads=2, **overrides))
        with torch.no_grad():
            model.cls.predictions.bias.normal_()
        model.save_pretrained(tmp_path / "decoder")
        tokenizer.save_pretrained(tmp_path / "decoder")
        return tmp_path / "decoder"

    return save


def test_what_is_learned_before_the_output_embedding_is_trained(bert: Callable[..., Path]) -> None:
    policy = load_policy(str(bert(is_decoder=True, initializer_range=0.3)), device="cpu")
    prompt, completion = [1, 2, 3], [4, 5, 6, 7]
    statistics = token_logprobs(policy, [(prompt, completion)], [1.0])
    statistics.logp_BT.sum().backward()
    ours = {name: each.grad.clone() for name, each in policy.model.named_parameters() if each.grad is not None}
    policy.zero_grad()
    logp_LV = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0, 2:-1].log_softmax(-1)
    expected_L = logp_LV.gather(1, torch.tensor(completion)[:, None])[:, 0]
    expected_L.sum().backward()
    torch.testing.assert_close(statistics.logp_BT[0], expected_L, rtol=0, atol=1e-5)
    gradients = {name: each.grad for name, each in policy.model.named_parameters() if each.grad is not None}
    assert ours.keys() == gradients.keys()
    for name in ("cls.predictions.transform.dense.weight", "cls.predictions.bias"):
        assert ours[name].abs().max() > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_model_that_sees_later_tokens_is_refused(bert: Callable[..., Path]) -> None:
    line = fails(bert(is_decoder=False, initializer_range=0.3))
    assert "'bert' lets a token attend to later ones" in line
    assert line.endswith("set is_decoder to true in its config.json")


def test_what_is_learned_after_the_output_embedding_is_refused(folder: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tie_word_embeddings=False)
    kind = type(AutoModelForCausalLM.from_pretrained(path))
    forward = kind.forward

    @functools.wraps(forward)
    def scaled(self: Any, *args: Any, **options: Any) -> Any:
        output = forward(self, *args, **options)
        output.logits = output.logits * self.model.norm.weight.mean()
        return output

    monkeypatch.setattr(kind, "forward", scaled)
    assert "'llama' learns model.norm.weight between its output embedding's product and its logits" in fails(path)


def test_a_model_whose_forward_pass_changes_its_weights_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """RWKV divides weights when it leaves training mode, and the divided ones would be saved, and divided again."""
    model = AutoModelForCausalLM.from_config(RwkvConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2))
    for folder, every in (("scales", 1), ("leaves", 0)):
        model.config.rescale_every = every
        model.save_pretrained(tmp_path / folder)
        tokenizer.save_pretrained(tmp_path / folder)
    line = fails(tmp_path / "scales")
    assert "'rwkv' changes its weights in a forward pass" in line
    assert line.endswith("set it to 0 in its config.json")
    load_policy(str(tmp_path / "leaves"), device="cpu")


def test_parameters_that_an_architecture_freezes_are_let_be(
    tiny_model: Build, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny_model("llama", tie_word_embeddings=False)
    for parameter in (model.model.norm.weight, model.model.embed_tokens.weight):
        parameter.requires_grad_(False)
    check_logits(Policy(model, tokenizer), "a model")


def test_a_scale_before_the_output_embedding_is_part_of_the_pass(folder: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever name for it its config has, among them one that elsewhere is a scale of the logits."""
    path = folder("granite", logits_scaling=1.0)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "logits_scaling": 4.0}))
    kind = type(AutoModelForCausalLM.from_pretrained(path))
    forward = kind.forward

    @functools.wraps(forward)
    def scaled(self: Any, *args: Any, **options: Any) -> Any:
        hook = self.lm_head.register_forward_pre_hook(lambda _module, given: (given[0] / 4,))
        output = forward(self, *args, **options)
        hook.remove()
        output.logits = output.logits * 4
        return output

    monkeypatch.setattr(kind, "forward", scaled)
    policy = load_policy(str(path), device="cpu")
    assert policy.logit_transform == LogitTransform()
    prompt, completion = [1, 2, 3], [4, 5, 6, 7]
    with torch.no_grad():
        logits_LV = policy.model(input_ids=torch.tensor([prompt + completion])).logits[0, 2:-1]
        found = token_logprobs(policy, [(prompt, completion)], [1.0]).logp_BT[0]
    expected = logits_LV.log_softmax(-1).gather(1, torch.tensor(completion)[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_missing_weights_are_refused_instead_of_invented(folder: Save) -> None:
    path = folder(tie_word_embeddings=False)
    edit_weights(path, lambda weights: weights.pop("lm_head.weight"))
    assert "1 of the model's parameters have no weights, such as lm_head.weight" in fails(path)


def test_weights_of_another_shape_are_refused(folder: Save) -> None:
    path = folder()
    edit_weights(path, lambda weights: weights.update({"model.norm.weight": torch.ones(8)}))
    assert "model.norm.weight has shape [8] in the weights, but [16] by the config" in fails(path)


def test_weights_without_a_place_are_named(folder: Save, caplog: pytest.LogCaptureFixture) -> None:
    path = folder()
    edit_weights(path, lambda weights: weights.update({"value_head.weight": torch.ones(1)}))
    with caplog.at_level(logging.WARNING, logger="unigrad.policy.loading"):
        load_policy(str(path), device="cpu")
    assert "1 weights have no place in the model and are left out, such as value_head.weight" in caplog.text


def test_a_cut_weights_file_is_one_line(folder: Save) -> None:
    path = folder()
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert fails(path).startswith(f"cannot load the model {path}: ")


def test_a_broken_config_is_one_line(folder: Save) -> None:
    path = folder()
    (path / "config.json").write_text("{")
    assert "config.json" in fails(path)


def test_an_unknown_architecture_is_one_line(folder: Save) -> None:
    path = folder()
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "lama"}))
    assert "lama" in fails(path)


def test_a_folder_without_tokenizer(folder: Save) -> None:
    path = folder()
    for file in path.glob("tokenizer*"):
        file.unlink()
    assert f"{path} has no tokenizer that loads" in fails(path)


def test_a_tokenizer_larger_than_the_model(folder: Save) -> None:
    path = folder(vocab_size=50)
    assert fails(path) == f"{path}: the tokenizer has 60 tokens, the model embeds only 50"


def test_a_missing_folder_names_its_nearest_neighbour(folder: Save) -> None:
    path = folder()
    assert fails(path.parent / "modle") == f"there is no model at {path.parent / 'modle'}; did you mean {path}?"


def test_a_folder_above_the_model_names_the_model(folder: Save) -> None:
    path = folder()
    expected = f"{path.parent} is not a model: it holds neither config.json nor a .gguf file; did you mean {path}?"
    assert fails(path.parent) == expected


def test_a_file_that_is_no_model(folder: Save) -> None:
    assert "neither a model folder nor a .gguf file" in fails(folder() / "config.json")


def test_several_gguf_files(tmp_path: Path) -> None:
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / name).touch()
    assert fails(tmp_path) == f"{tmp_path} holds several .gguf files; name one: q4.gguf, q8.gguf"


def test_a_hub_id_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert fails("nobody/no-such-model").startswith("cannot load the model nobody/no-such-model: ")


@pytest.mark.parametrize(
    ("device", "message"),
    [("cdua", "unknown device 'cdua'; did you mean 'cuda'?"), ("cuda:99", "device 'cuda:99' is not on this machine")],
)
def test_a_device_that_is_not_there(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_device(device)


def test_auto_device_and_dtype_agree() -> None:
    device = choose_device("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("dtype", "message"),
    [("float16", "use 'bfloat16'"), ("bf16", "unknown dtype 'bf16'; did you mean 'bfloat16'?")],
)
def test_a_dtype_that_is_not_supported(dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_dtype(dtype, torch.device("cpu"))


def write_gguf(file: Path, model: PreTrainedModel) -> None:
    """A float32 GGUF of a tiny llama with a byte-level tokenizer of as many tokens."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    tokens = ["<end>", *(chr(code) for code in range(ord("!"), ord("!") + config.vocab_size - 2)), "12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges(["1 2"])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        for projection, count in heads.items():
            if projection in name:  # GGUF interleaves the two halves of each head's rotation.
                array = array.reshape(count, 2, -1, array.shape[-1]).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name.removesuffix(".weight")) + ".weight", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_loads_and_saves_as_safetensors(tiny_model: Build, tmp_path: Path) -> None:
    for package in ("gguf", "accelerate"):
        pytest.importorskip(package, reason="reading GGUF needs the gguf extra")
    if not reads_gguf():
        pytest.skip("transformers reads GGUF files rightly since 5.18")
    model = tiny_model("llama", tie_word_embeddings=False)
    write_gguf(tmp_path / "tiny.gguf", model)
    for source in (tmp_path, tmp_path / "tiny.gguf"):
        policy = load_policy(str(source), device="cpu")
        for name, parameter in policy.model.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name)), name
    policy.save_pretrained(tmp_path / "saved")
    saved = load_policy(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(saved.model.lm_head.weight, model.lm_head.weight)
    assert saved.tokenizer("512!").input_ids == policy.tokenizer("512!").input_ids == [21, 59, 1]


@pytest.mark.parametrize(
    ("readable", "missing"), [(True, "gguf and accelerate"), (False, "gguf and accelerate and transformers>=5.18")]
)
def test_gguf_without_the_extra_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readable: bool, missing: str
) -> None:
    (tmp_path / "model.gguf").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("unigrad.policy.transformers_api.reads_gguf", lambda: readable)
    expected = f"reading {tmp_path / 'model.gguf'} needs {missing}: pip install 'unigrad[gguf]'"
    assert fails(tmp_path) == expected


def test_smollm2() -> None:
    path = os.environ.get("UNIGRAD_SMOLLM2")
    if path is None:
        pytest.skip("UNIGRAD_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
    policy = load_policy(path, device="cpu")
    prompt = policy.tokenizer("The capital of France is").input_ids
    (paris,) = policy.tokenizer(" Paris").input_ids
    with torch.no_grad():
        statistics = token_logprobs(policy, [(prompt, [paris])], [1.0])
        expected = policy.model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)[paris]
    assert statistics.logp_BT.item() == pytest.approx(expected.item(), abs=1e-4)
    assert statistics.logp_BT.item() > -1.0
