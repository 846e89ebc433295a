"""What is known of a model before any of its weights are there: its transformers config, and what a recipe overrides.

The facts of the hub models that the bundled recipes name come with the package, so that a run can be planned offline.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from unigrad.errors import ConfigError
from unigrad.policy.model_files import weights_size
from unigrad.policy.transformers_api import rope_parameters, text_config, widest

FACTS_FILE = "architectures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """Of a causal language model; `parameters` and `matrices` count elements, a tied tensor once.

    matrices: what autocast casts in every layer: all weights of two dimensions or more but the embeddings.
    """

    parameters: int
    matrices: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    tied: bool


def dimensions(model: PreTrainedModel) -> Dimensions:
    """Counted on the model itself, of which a `skeleton` is enough.

    Raises:
        ConfigError: an architecture without attention, whose memory is not counted like this.
    """
    text = text_config(model.config)
    if getattr(text, "num_attention_heads", None) is None:
        raise ConfigError(
            f"the needs of architecture {text.model_type!r} are not known here: it has no attention heads"
        )
    inputs, outputs = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    matrices = (p for p in model.parameters() if p.ndim >= 2 and p is not inputs and p is not outputs)
    return Dimensions(
        parameters=sum(p.numel() for p in model.parameters()),
        matrices=sum(p.numel() for p in matrices),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        # Not every architecture's config has these three; the fallbacks are what they stand for there.
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads=text.num_attention_heads,
        key_value_heads=widest(text, "num_key_value_heads") or text.num_attention_heads,
        head_size=widest(text, "head_dim") or text.hidden_size // text.num_attention_heads,
        vocabulary=outputs.shape[0],
        tied=inputs is outputs,
    )


def skeleton(config: PreTrainedConfig) -> PreTrainedModel:
    """The model that `config` describes, without a byte of its weights."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def check_parameters(model: PreTrainedModel, folder: Path) -> None:
    """Raises ConfigError where the model, of which a `skeleton` is enough, has more parameters than the weights in the
    folder, if any, have bytes: its config's sizes are not theirs, and to make them may be more than the machine can."""
    described, size = sum(p.numel() for p in model.parameters()), weights_size(folder)
    if size and described > size:
        raise ConfigError(
            f"{folder / 'config.json'}: its sizes make {described:,} parameters; "
            f"the weights beside it have {size:,} bytes"
        )


def bundled_architectures() -> dict[str, PreTrainedConfig]:
    """The bundled facts, by hub id."""
    text = resources.files("unigrad.policy").joinpath(FACTS_FILE).read_text(encoding="utf-8")
    return {name: AutoConfig.for_model(**facts) for name, facts in json.loads(text).items()}


def override_rope(config: PreTrainedConfig, *, rope_theta: float | None, max_position_embeddings: int | None) -> None:
    """Set these two in `config`, in place; None leaves the model's own. Rotary scaling (llama3, yarn) stays as it is.

    Raises:
        ValueError: one is given and the architecture has no rotary embedding, or one for each kind of layer.
    """
    given = {"rope_theta": rope_theta, "max_position_embeddings": max_position_embeddings}
    keys = [f"model.{key}" for key, value in given.items() if value is not None]
    if not keys:
        return
    text = text_config(config)
    rope = rope_parameters(text)
    if "rope_theta" not in rope:
        what = "several rotary embeddings" if rope else "no rotary position embedding"
        raise ValueError(f"architecture {text.model_type!r} has {what}; leave out {' and '.join(keys)}")
    if rope_theta is not None:
        rope["rope_theta"] = rope_theta
    if max_position_embeddings is not None:
        text.max_position_embeddings = max_position_embeddings
