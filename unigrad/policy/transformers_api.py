"""What is used of transformers, and of the hub's client under it, beyond `from_pretrained`, `generate` and the
documented arguments of a model's `forward`.

Such names move between minor releases. They stand here alone, and tests/policy/test_transformers_api.py has a test for
each: a release that moves one breaks that test, and not a user.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unigrad.versions import with_window

try:
    import transformers
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import logging as hub_logging
    from transformers import Cache, DynamicCache, DynamicLayer, PreTrainedConfig, PreTrainedModel
    from transformers.cache_utils import DynamicSlidingWindowLayer
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise ImportError(f"{error}; {with_window('transformers')}, {with_window('huggingface-hub')}") from error

__all__ = ["Cache", "DynamicLayer"]

FLOAT32_SDPA = "unigrad_float32_sdpa"
"""torch's own attention, in float32 whatever else is computed in: for one query a row on a CPU several times faster
than in bfloat16."""


def cache_argument(model: PreTrainedModel) -> str | None:
    """What the model's `forward` calls the keys and values of earlier tokens; None where it takes none.

    `cache` since transformers 5.24, `past_key_values` before and in models that come with their own code.
    """
    names = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in names), None)


def growing_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache with the kind of layer that each of the model's layers needs."""
    return DynamicCache(config=model.config)


def special_layers(model: PreTrainedModel) -> list[str]:
    """The kinds of the model's layers whose cache is not every earlier position's keys and values (windows, states).

    A window that holds all of the model's positions is none.
    """
    positions = max_positions(model.config)
    kinds = {type(layer) for layer in growing_cache(model).layers if not _is_full(layer, positions)}
    return sorted(kind.__name__ for kind in kinds)


def _is_full(layer: Any, positions: int | None) -> bool:
    if type(layer) is DynamicSlidingWindowLayer:
        return positions is not None and layer.sliding_window >= positions
    return type(layer) is DynamicLayer


@dataclass(frozen=True, slots=True)
class Reach:
    """Which positions up to its own a token attends to: all (window None), the last `window` of them, or, chunked,
    those of its own stretch of `window` positions."""

    window: int | None = None
    chunked: bool = False


def reaches(model: PreTrainedModel) -> dict[str, Reach]:
    """Of each kind of layer, by the name that the model's forward has for it.

    Raises ValueError where layers are none of these kinds, or layers of one kind differ.
    """
    text, layers = text_config(model.config), keeping_layers(model)
    positions, found = max_positions(model.config), dict[str, Reach]()
    # Without names all layers are alike, and transformers knows what they are by what is set.
    named = {"sliding_window": "sliding_attention", "attention_chunk_size": "chunked_attention"}
    alike = next((kind for name, kind in named.items() if getattr(text, name, None) is not None), "full_attention")
    for kind, layer in zip(getattr(text, "layer_types", None) or [alike] * len(layers), layers, strict=False):
        if _is_full(layer, positions):
            reach = Reach()
        elif type(layer) is DynamicSlidingWindowLayer and kind in ("sliding_attention", "chunked_attention"):
            reach = Reach(layer.sliding_window, kind == "chunked_attention")
        else:
            raise ValueError(f"its layers must have full, sliding or chunked attention, not {type(layer).__name__}")
        if found.setdefault(kind, reach) != reach:
            raise ValueError(f"its layers of kind {kind!r} have windows of several sizes")
    return found


def keeping_layers(model: PreTrainedModel) -> list[Any]:
    """The layers of its cache, without the last ones where these read what earlier layers keep."""
    layers = list(growing_cache(model).layers)
    while layers and type(layers[-1]).__name__ == "DummyLayer":
        layers.pop()
    return layers


def full_cache(layers: int) -> Cache:
    """An empty cache that keeps every position in each layer, windows or not."""
    return Cache(layers=[DynamicLayer() for _ in range(layers)])


def keys_and_values(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Of each layer, f[rows, heads, positions, head size] each."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def packs_without_a_mask(model: PreTrainedModel) -> bool:
    """Whether its attention kernel takes the lengths of packed rows, where others have them filled up."""
    return attention_kernel(model).startswith(("flash_attention", "flex_attention"))


def before_logits(model: PreTrainedModel, **given: Any) -> Tensor:
    """What enters the model's output embedding in a pass over `given`, without that embedding's product: f[rows,
    tokens, D].

    Whatever the model learns or does between its layers and there is in it. Raises ValueError where there is not one
    hidden state a token, and whatever a model raises that cannot do without its logits.
    """
    head, entered = model.get_output_embeddings(), list[Tensor]()

    def enter(hidden: Tensor) -> Tensor:
        entered.append(hidden)
        return hidden

    # In place of the module's own, as a hook would come after its product.
    head.forward = enter
    try:
        model(**given)
    finally:
        del head.forward
    if len(entered) != 1 or entered[0].ndim != 3:
        shapes = ", ".join(str([*each.shape]) for each in entered) or "nothing"
        raise ValueError(f"its output embedding takes {shapes} where one hidden state a token was expected")
    return entered[0]


def first_position(model: PreTrainedModel) -> int:
    """The number that the model's position embedding has for a row's first token. Not 0 where one has a padding index
    (RoBERTa and its kind): that is before the first, and `generate` does not know of it."""
    embeddings = (getattr(module, "position_embeddings", None) for module in model.modules())
    padding = (each.padding_idx for each in embeddings if isinstance(each, nn.Embedding))
    return next((index + 1 for index in padding if index is not None), 0)


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Its layers, one after another; none where they are not to be found."""
    count = getattr(text_config(model.config), "num_hidden_layers", None)
    lists = (each for each in model.modules() if isinstance(each, nn.ModuleList))
    return list(next((each for each in lists if len(each) == count), []))


def rms_norm_epsilon(module: nn.Module) -> float | None:
    """What a norm by the mean square adds to it; None of a module that is none, or has not one weight a feature."""
    weight = getattr(module, "weight", None)
    if not type(module).__name__.endswith("RMSNorm") or not isinstance(weight, Tensor) or weight.ndim != 1:
        return None
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def is_stateful(model: PreTrainedModel) -> bool:
    """Whether it folds earlier tokens into a state, which cannot be cut at a position."""
    return bool(model._is_stateful)


def takes_any_attention(model: PreTrainedModel) -> bool:
    """Whether its attention goes through transformers' common interface, so that kernel and mask are ours to choose."""
    return bool(model._supports_attention_backend)


def caps_attention(model: PreTrainedModel) -> bool:
    """Whether its attention scores go through a soft cap. torch's own attention has none: before transformers 5.22 it
    left the cap out in silence, since then it is refused."""
    return getattr(text_config(model.config), "attn_logit_softcapping", None) is not None


def keep_attention_caps(model: PreTrainedModel) -> None:
    """Attention with a soft cap, and not with a kernel that leaves it out."""
    if caps_attention(model) and attention_kernel(model) == "sdpa":
        model.set_attn_implementation("eager")


def decoding_attention(model: PreTrainedModel, compute_dtype: torch.dtype | None) -> str:
    """The kernel that computes the model's attention under any mask, in a forward pass under autocast to this type:
    torch's own, unless the model has what that leaves out (soft caps, sinks)."""
    if not model._supports_sdpa or caps_attention(model):
        return "eager"
    return "sdpa" if compute_dtype is None or model.device.type != "cpu" else FLOAT32_SDPA


def _float32_sdpa(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    with torch.autocast(query.device.type, enabled=False):
        found, weights = sdpa()(module, query.float(), key.float(), value.float(), mask, **options)
    return found.to(query.dtype), weights


def sdpa() -> Callable[..., tuple[Tensor, Any]]:
    """transformers' way to torch's own attention: of a module, its query, key and value and a mask."""
    found: Callable[..., tuple[Tensor, Any]] = transformers.AttentionInterface()["sdpa"]
    return found


def register_attention(name: str, attend: Callable[..., tuple[Tensor, Any]]) -> None:
    """A model may attend with `attend`, which is called as `sdpa` is, by this name."""
    transformers.AttentionInterface.register(name, attend)
    transformers.AttentionMaskInterface.register(name, transformers.AttentionMaskInterface()["sdpa"])


register_attention(FLOAT32_SDPA, _float32_sdpa)


def attention_kernel(model: PreTrainedModel) -> str:
    """Which one the model computes its attention with, as `from_pretrained` names it."""
    return str(model.config._attn_implementation)


def share_keys_under_masks() -> None:
    """From now on, heads that share keys and values do so under a mask as well (a rollout behind its shared prompt),
    where before each got a copy. On CPUs alone: elsewhere torch would take a slower kernel. Since transformers 5.23."""
    os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")


@contextmanager
def attention(model: PreTrainedModel, kernel: str) -> Iterator[None]:
    """The model attends with `kernel`, as `from_pretrained` names it, and afterwards with the one it had."""
    before = attention_kernel(model)
    if kernel == before:
        yield
        return
    model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def enable_activation_checkpointing(model: PreTrainedModel) -> None:
    """Layers recompute their activations in the backward pass, in training mode.

    Raises:
        ValueError: the architecture cannot.
    """
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # since transformers 5.24
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


@contextmanager
def checkpointing(model: PreTrainedModel) -> Iterator[None]:
    """The layers that recompute are in training mode, and nothing inside them: what is random in training mode only
    (dropout, routing noise) stays off."""
    marked = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    # A layer within a layer (Zamba 2) runs a second time with it, when the mode is over: it must not differ between.
    outer = [module for module in marked if isinstance(module, GradientCheckpointingLayer)]
    inner = {part for layer in outer for part in layer.modules() if part is not layer}
    layers = [module for module in marked if module not in inner]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def reads_gguf() -> bool:
    """Whether a GGUF file can be read rightly. Before transformers 5.18 its end token is read as its begin token."""
    return hasattr(transformers, "GgufConfig")


def whole_gguf_weights() -> dict[str, Any]:
    """The option of `from_pretrained` that unpacks a GGUF file's weights: packed ones cannot be trained."""
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a model's config that is its language model's; of a text model, the whole."""
    text: PreTrainedConfig = config.get_text_config(decoder=True)
    return text


def widest(config: PreTrainedConfig, name: str) -> int | None:
    """The largest value that a text config's layers have for a size; None where they have none."""
    # Since transformers 5.22 layers may differ, and then the config itself refuses to name one value.
    layers = getattr(config, "per_layer_config", None) or [config]
    return max((value for layer in layers if (value := getattr(layer, name, None)) is not None), default=None)


def max_positions(config: PreTrainedConfig) -> int | None:
    """How many tokens a row may hold: what the model was made for, and no more than `one_rope`. None: no limit."""
    limit: int | None = getattr(text_config(config), "max_position_embeddings", None)
    # XLNet's says -1 for none.
    limits = (None if limit is not None and limit < 0 else limit, one_rope(config))
    return min((each for each in limits if each is not None), default=None)


def room(model: PreTrainedModel) -> int | None:
    """How many tokens a row of this model may hold: `max_positions`, without those before its `first_position`."""
    positions = max_positions(model.config)
    return None if positions is None else positions - first_position(model)


def one_rope(config: PreTrainedConfig) -> int | None:
    """Tokens up to which a longrope has one set of frequencies: a longer row in the batch changes every other's.

    None: the frequencies are the same for all rows. (A `dynamic` rope's are, up to `max_position_embeddings`.)
    """
    rope = rope_parameters(text_config(config))
    ropes = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    borders = [each.get("original_max_position_embeddings") for each in ropes if each.get("rope_type") == "longrope"]
    return min((each for each in borders if each is not None), default=None)


def rope_parameters(config: PreTrainedConfig) -> dict[str, Any]:
    """Of a text config, to be read and set: empty without a rotary embedding, nested where kinds of layers differ."""
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    return parameters


def upload(folder: Path, repository: str, message: str) -> str:
    """The url of the repository of the hub that holds the folder's files now. One that it makes is private: whoever
    wants it public says so there. Raises what the network, the hub and its client raise."""
    api = HfApi()
    url = str(api.create_repo(repository, private=True, exist_ok=True))
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    return url


def cached_config_folder(hub_id: str) -> Path | None:
    """Where the hub's local cache holds the model's config.json; None where it does not. No network is asked."""
    # Not `from_pretrained` on the id: even with local_files_only the hub's client asks the hub who is calling.
    file = try_to_load_from_cache(hub_id, "config.json")
    return Path(file).parent if isinstance(file, str) else None


def hide_progress_bars() -> None:
    """transformers' bars over the shards of a checkpoint are off from now on."""
    transformers_logging.disable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, retries or tables about weights: what matters in them is an error or a warning of ours."""
    bars = transformers_logging.is_progress_bar_enabled()
    verbosity, hub_verbosity = transformers_logging.get_verbosity(), hub_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    hub_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
