"""A model's folder that is damaged, or describes what cannot be, is one line before anything of it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import Qwen2MoeConfig

from unigrad.data.tiny import MODEL_PATH
from unigrad.errors import ConfigError
from unigrad.policy import find_architecture, load_policy
from unigrad.policy.model_files import check_model_files


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("config.json", None, "config.json is damaged"),
        ("config.json", {"model_type": ["llama"]}, "model_type"),
        ("config.json", {"hidden_size": "x"}, "hidden_size"),
        ("config.json", {"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ("config.json", {"num_hidden_layers": 10**8, "hidden_size": 64}, "100000000 layers are more than a model has"),
        ("config.json", {"text_config": {"vocab_size": -3}}, "text_config.vocab_size"),
        ("config.json", {"quantization_config": {"quant_method": "nope"}}, "quantised weights do not train"),
        ("generation_config.json", {"eos_token_id": [[1]]}, "eos_token_id"),
        ("tokenizer.json", [], "tokenizer.json is damaged"),
        ("tokenizer_config.json", 5, "tokenizer_config.json is damaged"),
        ("model.safetensors.index.json", {"weight_map": [1]}, "weight_map"),
        ("adapter_config.json", {}, "holds an adapter"),
        ("config.json", [1], "config.json is damaged: an object belongs there"),
        ("config.json", {"num_key_value_heads": 0}, "damaged: num_key_value_heads = 0: "),
        ("config.json", {"n_layer": 10**9}, "1000000000 layers are more than a model has"),
        ("config.json", {"n_embd": 0}, "damaged: n_embd = 0: "),
        ("config.json", {"head_dim": -1}, "damaged: head_dim = -1: "),
        ("config.json", {"sliding_window": "all"}, "damaged: sliding_window = 'all': "),
    ],
)
def test_model_folders(file: str, data: object, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    check_model_files(tmp_path)
    (tmp_path / file).write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        check_model_files(tmp_path)
    assert message in str(error.value)


def test_a_window_of_no_positions_is_none(tmp_path: Path) -> None:
    """Qwen2-MoE without windows is saved so."""
    config = Qwen2MoeConfig(use_sliding_window=False)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["sliding_window"] in (0, None)
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    check_model_files(tmp_path)


def test_sizes_that_are_not_those_of_the_weights(tmp_path: Path) -> None:
    shape = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2}
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    for sizes in (
        {"n_positions": 10**9},
        {"n_positions": 4, "n_inner": 10**12},
        {"n_positions": 4, "vocab_size": 10**12},
    ):
        (tmp_path / "config.json").write_text(json.dumps({**shape, **sizes}), encoding="utf-8")
        with pytest.raises(ValueError, match=r"parameters; the weights beside it have 5,000 bytes"):
            find_architecture(str(tmp_path))
        with pytest.raises(ValueError, match=r"parameters; the weights beside it have 5,000 bytes"):
            load_policy(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**shape, "n_positions": 4}), encoding="utf-8")
    assert find_architecture(str(tmp_path))[1] == "its folder"
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**shape, "n_layer": 10**8}), encoding="utf-8")
    with pytest.raises(ValueError, match="100000000 layers are more than a model has"):
        find_architecture(str(tmp_path))


def test_a_tokenizer_that_splits_no_text(tmp_path: Path) -> None:
    shutil.copytree(MODEL_PATH, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tokenizer.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    data["model"]["vocab"] = {}
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="has no tokenizer that loads"):
        load_policy(str(tmp_path))
