"""From a name to a Policy: hub id, folder or GGUF file; float32 master weights; one line for whatever is wrong."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from unigrad.errors import nearest, one_line
from unigrad.policy import transformers_api
from unigrad.policy.activations import recompute
from unigrad.policy.architecture import bundled_architectures, check_parameters, override_rope, skeleton
from unigrad.policy.fused import fuse
from unigrad.policy.layouts import costs_of
from unigrad.policy.model_files import check_model_files
from unigrad.policy.policy import Policy
from unigrad.policy.products import multiply_fast
from unigrad.policy.trial import check_causal, check_logits
from unigrad.versions import warn_of_untested

DEVICES = ("cuda", "mps", "cpu")
_ANY_TEXT = "Is 1 + 1 = 2?"
"""For a tokenizer to show that it can split one."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)


def load_policy(
    name_or_path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    attn_implementation: str | None = None,
    gradient_checkpointing: bool = False,
    rope_theta: float | None = None,
    max_position_embeddings: int | None = None,
) -> Policy:
    """The policy that lies in a folder, in a GGUF file, or on the hub.

    Args:
        name_or_path: a hub id, a folder as `save_pretrained` writes it, a `.gguf` file, or a folder with one of these.
        device: a torch device, or "auto": the first of cuda, mps, cpu that is there.
        dtype: precision of the forward pass, "float32" or "bfloat16"; "auto" is bfloat16 on cuda, else float32. The
            weights are float32 in any case.
        attn_implementation: as transformers' `from_pretrained` takes it.
        gradient_checkpointing: recompute each layer in the backward pass instead of keeping its activations.
        rope_theta: base of the rotary embedding in place of the model's own; saved with the model.
        max_position_embeddings: how many tokens the model takes, in place of its own limit; saved with the model.

    Raises:
        FileNotFoundError: a path with nothing there.
        ValueError: anything else that is wrong with the model, its tokenizer, the device or the dtype, in one line.
    """
    warn_of_untested()
    torch_device = choose_device(device)
    compute_dtype = choose_dtype(dtype, torch_device)
    if attn_implementation == "flex_attention" and torch_device.type == "cpu":
        raise ValueError("attn_implementation 'flex_attention' needs a GPU; use 'sdpa'")
    if torch_device.type == "cpu":
        transformers_api.share_keys_under_masks()
    source = model_source(name_or_path)
    rope = {"rope_theta": rope_theta, "max_position_embeddings": max_position_embeddings}
    with transformers_api.quiet():
        model, tokenizer = _load(name_or_path, source, attn_implementation, rope)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    vocabulary = model.get_input_embeddings().weight.shape[0]
    # Without added tokens: transformers may add some by itself that the model never had and no text contains.
    if tokenizer.vocab_size > vocabulary:
        raise ValueError(
            f"{name_or_path}: the tokenizer has {tokenizer.vocab_size} tokens, the model embeds only {vocabulary}"
        )
    model = model.to(torch_device)
    multiply_fast(model)
    policy = Policy(model, tokenizer, compute_dtype=compute_dtype, gradient_checkpointing=gradient_checkpointing)
    check_logits(policy, name_or_path)
    check_causal(policy, name_or_path)
    if torch_device.type == "cuda":
        fuse(policy)
    if not gradient_checkpointing:
        recompute(policy.model)
    policy.costs = costs_of(policy)
    return policy


def find_architecture(
    name_or_path: str, *, rope_theta: float | None = None, max_position_embeddings: int | None = None
) -> tuple[PreTrainedModel, str]:
    """The skeleton of the model that `load_policy` would meet, and where its config was found, without a network: in
    the model's own folder or file, else in the hub's local cache, else among the bundled facts.

    Raises:
        FileNotFoundError: a path with nothing there.
        ValueError: a hub id that is neither in the cache nor bundled, or a config that cannot be read, in one line.
    """
    source = model_source(name_or_path)
    is_hub_id = source == {"pretrained_model_name_or_path": name_or_path} and not Path(name_or_path).is_dir()
    found = "its folder"
    if is_hub_id:
        cached = transformers_api.cached_config_folder(name_or_path)
        if cached is not None:
            source, found = {"pretrained_model_name_or_path": str(cached)}, "the local cache"
        else:
            source, found = {}, "the bundled facts"
    try:
        with transformers_api.quiet():
            folder = Path(source["pretrained_model_name_or_path"]) if source and "gguf_file" not in source else None
            if folder:
                check_model_files(folder)
            config = AutoConfig.from_pretrained(**source) if source else _bundled(name_or_path)
            override_rope(config, rope_theta=rope_theta, max_position_embeddings=max_position_embeddings)
            model = skeleton(config)
            if folder:
                check_parameters(model, folder)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"cannot read the config of {name_or_path}: {one_line(error)}") from error
    return model, found


def _bundled(name: str) -> PreTrainedConfig:
    bundled = bundled_architectures()
    if name not in bundled:
        raise ValueError(
            f"the architecture of {name} is not known here: it is not in the local cache, and among the bundled ones "
            f"the nearest is {nearest(name, bundled)!r}; give a folder with its config.json"
        )
    return bundled[name]


def choose_device(device: str) -> torch.device:
    """The torch device of this name, or for "auto" the first of cuda, mps and cpu that this machine has.

    Raises:
        ValueError: an unknown device, or one that this machine does not have.
    """
    available = [kind for kind in DEVICES if kind == "cpu" or getattr(torch, kind).is_available()]
    if device == "auto":
        return torch.device(available[0])
    kind, _, index = device.partition(":")
    if kind not in DEVICES or (index and not index.isdecimal()):
        raise ValueError(f"unknown device {device!r}; did you mean {nearest(kind, ('auto', *DEVICES))!r}?")
    if kind not in available or int(index or 0) >= getattr(torch, kind).device_count():
        raise ValueError(f"device {device!r} is not on this machine; it has {', '.join(available)}")
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision of the forward pass; "auto" is bfloat16 on cuda, else float32.

    Raises:
        ValueError: a dtype that training here does not support.
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype == "float16":
        raise ValueError(
            "dtype 'float16' overflows without loss scaling, which this trainer does not do; use 'bfloat16'"
        )
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; did you mean {nearest(dtype, ('auto', *DTYPES))!r}?")
    return DTYPES[dtype]


def model_source(name_or_path: str) -> dict[str, Any]:
    """Where `from_pretrained` finds the model: its first argument, and `gguf_file` where there is one."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(
                f"{path} is a file, but neither a model folder nor a .gguf file; its folder is {path.parent}"
            )
        return _gguf(path)
    if path.is_dir():
        if (path / "config.json").is_file():
            return {"pretrained_model_name_or_path": str(path)}
        if (path / "adapter_config.json").is_file():
            raise ValueError(
                f"{path} holds an adapter (adapter_config.json), not a model: merge it into its base model first; of a "
                "run, final/ is the merged model"
            )
        files = sorted(path.glob("*.gguf"))
        if len(files) > 1:
            raise ValueError(f"{path} holds several .gguf files; name one: {', '.join(file.name for file in files)}")
        if not files:
            raise ValueError(
                f"{path} is not a model: it holds neither config.json nor a .gguf file{_nearest_model(path)}"
            )
        return _gguf(files[0])
    is_hub_id = name_or_path.count("/") <= 1 and not name_or_path.startswith((".", "/", "~")) and path.suffix != ".gguf"
    if is_hub_id and not (path.parent.name and path.parent.is_dir()):
        return {"pretrained_model_name_or_path": name_or_path}
    raise FileNotFoundError(f"there is no model at {path}{_nearest_name(path)}")


def _gguf(file: Path) -> dict[str, Any]:
    missing = [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]
    if not transformers_api.reads_gguf():
        missing.append("transformers>=5.18")
    if missing:
        raise ValueError(f"reading {file} needs {' and '.join(missing)}: pip install 'unigrad[gguf]'")
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}


def _nearest_name(path: Path) -> str:
    if path.exists():
        return ""
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    name = nearest(path.name, siblings, cutoff=0.6)
    return f"; did you mean {path.parent / name}?" if name else ""


def _nearest_model(folder: Path) -> str:
    inside = sorted(file.parent for file in folder.glob("*/config.json"))
    return f"; did you mean {inside[-1]}?" if inside else ""


def _load(
    name: str, source: dict[str, Any], attn_implementation: str | None, rope: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": attn_implementation}
    folder = Path(source["pretrained_model_name_or_path"])
    whole = "gguf_file" not in source and folder.is_dir()
    if whole:
        check_model_files(folder)
    try:
        overrides = any(value is not None for value in rope.values())
        config = AutoConfig.from_pretrained(**source) if whole or overrides else None
        if whole:
            check_parameters(skeleton(config), folder)
        if "gguf_file" in source:
            options |= transformers_api.whole_gguf_weights()
        if overrides:
            override_rope(config, **rope)
            options["config"] = config
        model, info = AutoModelForCausalLM.from_pretrained(
            **source, **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # a damaged folder makes transformers raise anything
        raise ValueError(f"cannot load the model {name}: {one_line(error)}{_nearest_name(Path(name))}") from error
    if info["mismatched_keys"]:
        key, found, expected = sorted(info["mismatched_keys"])[0]
        raise ValueError(f"{name}: {key} has shape {[*found]} in the weights, but {[*expected]} by the config")
    if info["missing_keys"]:
        some = ", ".join(sorted(info["missing_keys"])[:3])
        raise ValueError(
            f"{name}: {len(info['missing_keys'])} of the model's parameters have no weights, such as {some}"
        )
    if info["unexpected_keys"]:
        some = ", ".join(sorted(info["unexpected_keys"])[:3])
        count = len(info["unexpected_keys"])
        logger.warning("%s: %d weights have no place in the model and are left out, such as %s", name, count, some)
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        tokenizer(_ANY_TEXT)
    except Exception as error:
        raise ValueError(f"{name} has no tokenizer that loads, such as tokenizer.json: {one_line(error)}") from error
    return model, tokenizer
