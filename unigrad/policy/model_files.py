"""A model's folder, checked before transformers reads it: what is damaged or cannot be is said by file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter

from unigrad.errors import ConfigError
from unigrad.files import Text, Whole, checked, read_json

_Size = Annotated[Whole, Field(ge=1)]
_Ids = Whole | list[Whole] | None


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class _Sizes(_Object):
    """Of a causal language model, by the names that nearly all have; one that leaves a size out has its default."""

    vocab_size: _Size = 1
    hidden_size: Annotated[_Size, Field(validation_alias=AliasChoices("hidden_size", "n_embd", "d_model"))] = 1
    intermediate_size: _Size | list[_Size] = 1
    num_hidden_layers: Annotated[
        _Size, Field(validation_alias=AliasChoices("num_hidden_layers", "n_layer", "n_layers", "num_layers"))
    ] = 1
    num_attention_heads: _Size | list[_Size] = 1
    num_key_value_heads: _Size | list[_Size] | None = None
    max_position_embeddings: _Size = 1
    head_dim: _Size | None = None
    sliding_window: Annotated[Whole, Field(ge=0)] | list[_Size | None] | None = (
        None  # 0: Qwen2-MoE's, where it has none
    )
    bos_token_id: _Ids = None
    eos_token_id: _Ids = None
    pad_token_id: _Ids = None


class _Config(_Sizes):
    model_type: Text = ""
    architectures: list[Text] | None = None
    text_config: _Sizes | None = None


class _Generation(_Object):
    bos_token_id: _Ids = None
    eos_token_id: _Ids = None
    pad_token_id: _Ids = None


class _Index(_Object):
    weight_map: dict[Text, Text]


_CONFIG = TypeAdapter(_Config)
_FILES: dict[str, TypeAdapter[Any]] = {
    "config.json": _CONFIG,
    "generation_config.json": TypeAdapter(_Generation),
    "tokenizer.json": TypeAdapter(_Object),
    "tokenizer_config.json": TypeAdapter(_Object),
    "special_tokens_map.json": TypeAdapter(_Object),
    "model.safetensors.index.json": TypeAdapter(_Index),
    "pytorch_model.bin.index.json": TypeAdapter(_Index),
}
_MOST_LAYERS = 1000
"""A model is built layer by layer, even where none holds a weight."""
_WEIGHTS = ("*.safetensors", "*.bin")


def weights_size(folder: Path) -> int:
    """Bytes of the folder's files of weights."""
    return sum(path.stat().st_size for pattern in _WEIGHTS for path in folder.glob(pattern))


def check_model_files(folder: Path) -> None:
    """Raises ConfigError, one line, where a file of the folder is damaged, or its config.json describes a model that
    cannot be: a size below 1, or more layers than are ever built."""
    read = {name: read_json(folder / name, schema) for name, schema in _FILES.items() if (folder / name).exists()}
    data = read.get("config.json")
    if data is None:
        return
    where = str(folder / "config.json")
    if data.get("quantization_config") is not None:
        raise ConfigError(f"{where}: quantization_config: quantised weights do not train; give the full model's folder")
    if (folder / "adapter_config.json").exists():
        raise ConfigError(f"{folder} holds an adapter (adapter_config.json); merge it into its base model first")
    whole = checked(data, _CONFIG, where)
    for part in filter(None, (whole, whole.text_config)):
        if part.num_hidden_layers > _MOST_LAYERS:
            raise ConfigError(f"{where}: {part.num_hidden_layers} layers are more than a model has ({_MOST_LAYERS:,})")
