"""A model and its tokenizer as files that transformers 5, 4.57, and what stands on either read as they were trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from unigrad.files import replace_json
from unigrad.policy.transformers_api import quiet, rope_parameters, text_config

_CONFIG_FILE = "config.json"
_TOKENIZER_FILE = "tokenizer_config.json"

# What transformers 4 calls the base of each kind of layer, where these have one each, and other models' bases.
_BASES_BY_LAYER = {
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
    "gemma3n_text": ("rope_theta", "rope_local_base_freq"),
}
_BASES = {
    "gpt_neox": ("rotary_emb_base", "rotary_pct"),
    "gpt_neox_japanese": ("rotary_emb_base", "rotary_pct"),
}
_SCALINGS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")

logger = logging.getLogger(__name__)


def save_pretrained(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    dtype: torch.dtype | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """As `AutoModelForCausalLM` and `AutoTokenizer` load them; dtype: the precision of the weights, None as they are;
    state: what is saved in place of the model's own.

    Where transformers 4 cannot be told the model's rotary embedding, a warning says so, once.

    Raises:
        FloatingPointError: a weight that is finite, and not in this dtype.
    """
    state = model.state_dict() if state is None else state
    if dtype is None or dtype == model.dtype:
        model.save_pretrained(folder, state_dict=dict(state))
    else:
        model.save_pretrained(folder, state_dict=_cast(state, dtype))
        _change(folder / _CONFIG_FILE, {"dtype": str(dtype).removeprefix("torch.")})
    tokenizer.save_pretrained(folder)
    with quiet():
        if not _add_older_names(model, folder):
            _warn(model.config.model_type)
    _name_known_tokenizer(folder / _TOKENIZER_FILE)


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """A model's state in another precision; tensors that were one are one."""
    cast: dict[int, Tensor] = {}
    state = {}
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.data_ptr() not in cast:
            narrow = weight.to(dtype)
            if weight.isfinite().all() and not narrow.isfinite().all():
                raise FloatingPointError(
                    f"{name} holds {weight.abs().max().item():.3g}, which {str(dtype).removeprefix('torch.')} has not; "
                    "give --model.save_dtype bfloat16 or float32"
                )
            cast[weight.data_ptr()] = narrow
        state[name] = cast.get(weight.data_ptr(), weight)
    return state


def _add_older_names(model: PreTrainedModel, folder: Path) -> bool:
    """Write what transformers 5 renamed under the names of 4 too. Returns whether these say all of it."""
    file = folder / _CONFIG_FILE
    as_saved = file.read_text(encoding="utf-8")
    written: dict[str, Any] = json.loads(as_saved)
    text = text_config(model.config)
    inner = written.get("text_config", written)
    rope = older_rope(text.model_type, rope_parameters(text))
    if "num_local_experts" in inner:
        inner.setdefault("num_experts", inner["num_local_experts"])
    inner |= rope or {}
    replace_json(file, written)
    # Of two names transformers 5 may believe the older one, so that it must say no less.
    again = text_config(AutoConfig.from_pretrained(folder))
    if _known(rope_parameters(again)) != _known(rope_parameters(text)):
        file.write_text(as_saved, encoding="utf-8")
        return False
    return rope is not None


def older_rope(kind: str, rope: Mapping[str, Any]) -> dict[str, Any] | None:
    """The keys by which transformers 4 reads `rope_parameters` of a model type; None where it has none for these."""
    if not rope:
        return {}
    if "rope_theta" not in rope:
        full, sliding = rope.get("full_attention"), rope.get("sliding_attention")
        if kind not in _BASES_BY_LAYER or not full or not sliding or sliding["rope_type"] != "default":
            return None
        base, local_base = _BASES_BY_LAYER[kind]
        outer = older_rope("", full)
        return outer and {base: outer.pop("rope_theta"), local_base: sliding["rope_theta"], **outer}
    if rope["rope_type"] not in _SCALINGS:
        return None
    base, share = _BASES.get(kind, ("rope_theta", "partial_rotary_factor"))
    keys: dict[str, Any] = {base: rope["rope_theta"]}
    if rope.get("partial_rotary_factor") is not None:
        keys[share] = rope["partial_rotary_factor"]
    if rope["rope_type"] != "default":
        keys["rope_scaling"] = {key: value for key, value in rope.items() if key not in keys and key != "rope_theta"}
    if kind == "phi3" and rope["rope_type"] == "longrope":
        # It takes these three and no other.
        factors = {key: rope[key] for key in ("short_factor", "long_factor")}
        keys["rope_scaling"] = {"type": rope["rope_type"], **factors}
    return keys


def _known(rope: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rope.items() if key != "type"}


@cache
def _warn(kind: str) -> None:
    logger.warning(
        "transformers 4 has no keys for this model's rotary embedding (%s): what is saved is for transformers 5 alone",
        kind,
    )


def _name_known_tokenizer(file: Path) -> None:
    """By names that both know: 5 reads them as its own."""
    config = json.loads(file.read_text(encoding="utf-8"))
    changes: dict[str, Any] = {}
    if config.get("tokenizer_class") == "TokenizersBackend":
        changes["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        changes["additional_special_tokens"] = config.pop("extra_special_tokens")
    replace_json(file, config | changes)


def _change(file: Path, changes: Mapping[str, Any]) -> None:
    """Set these keys of a JSON file."""
    replace_json(file, {**json.loads(file.read_text(encoding="utf-8")), **changes})
