"""LoRA: W + (α/r)·B·A in place of the weights W of linear layers, where A and B alone are trained (Hu et al. 2021).

peft computes it; every use of it stands here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from unigrad.config import LoraConfig
from unigrad.errors import ConfigError, nearest, one_line
from unigrad.policy.architecture import skeleton
from unigrad.policy.products import is_plain_linear
from unigrad.policy.sharding import in_parts_of

WEIGHTS_FILE = "adapter_model.safetensors"
"""As peft names it."""
_NAME = "default"
_PROBE_TOKENS = 8
_WEIGHT = "weight"

logger = logging.getLogger(__name__)


def check_installed(lora: LoraConfig) -> None:
    """Raises ConfigError where an adapter is asked for and peft is missing."""
    if lora.r is not None and importlib.util.find_spec("peft") is None:
        raise ConfigError(f"model.lora.r = {lora.r} needs peft: pip install 'unigrad[peft]'")


def linear_layers(model: PreTrainedModel, names: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers before the output embedding whose full name is one of `names` or ends in it; without names
    all.

    A model on the meta device is enough. Raises ConfigError on a name that fits none, naming the nearest.
    """
    head = model.get_output_embeddings()
    # A subclass may compute something else, such as a router that returns several tensors.
    modules = dict(model.named_modules())
    layers = {name: layer for name, layer in modules.items() if is_plain_linear(layer) and layer is not head}
    if not layers:
        raise ConfigError(f"model.lora.r: {type(model).__name__} has no linear layers that an adapter fits")
    for name in names:
        if not any(_fits(name, layer) for layer in layers):
            known = dict.fromkeys(map(_kind, layers))
            why = ", the output embedding, is not adapted" if name == _name_of(model, head) else " fits no linear layer"
            raise ConfigError(
                f"model.lora.target_modules: {name!r}{why}; did you mean {nearest(name, known)!r}? "
                f"It has {', '.join(known)}"
            )
    return {name: layer for name, layer in layers.items() if not names or any(_fits(each, name) for each in names)}


def adapter_size(model: PreTrainedModel, lora: LoraConfig) -> int:
    """Parameters of the adapter on this model, of which a skeleton is enough: r·(in + out) a layer, if all fit."""
    assert lora.r is not None
    layers = linear_layers(model, lora.target_modules).values()
    return sum(lora.r * (layer.in_features + layer.out_features) for layer in layers)


class Adapter:
    """The adapter on a model: it changes the model's layers in place, and its parameters are the model's.

    B starts at 0, so that the model is still the function that it was; A is drawn by the seed. Everything else of the
    model is frozen.

    Raises:
        ConfigError: peft is missing, or a name in `target_modules` fits no linear layer, or one whose weights the model
            reads past the layer, or one that peft does not adapt.
    """

    def __init__(self, model: PreTrainedModel, lora: LoraConfig, seed: int) -> None:
        check_installed(lora)
        self.base_fingerprint = _fingerprint(model)
        """Of the weights that the adapter is put on."""
        with torch.random.fork_rng(devices=[]):
            layers = _fitting_layers(model, lora)
            # After what is drawn to try them, so that A depends on the seed and the layers alone.
            torch.manual_seed(seed)
            self._peft = _put_on(model, lora, layers)
        self._model = model
        self.rank: int = lora.r or 0

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(tensor.numel() for tensor in self._state().values())

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Inside, the layers are those that the adapter was put on. Not to be trained in."""
        with self._peft.disable_adapter():
            yield

    def save(self, folder: Path) -> None:
        """As peft saves it, with the name of the model that it was put on."""
        # Without the embeddings: to find out whether they changed, peft would ask the hub.
        self._peft.save_pretrained(str(folder), save_embedding_layers=False)

    def load(self, folder: Path) -> None:
        """Take the weights that `save` wrote. Raises ValueError, one line naming the file, where they are not this
        adapter's."""
        file = folder / WEIGHTS_FILE
        try:
            found = load_file(file, device=str(self._model.device))
        except Exception as error:  # each kind of damage has its own
            raise ValueError(f"{file} is missing or damaged: {one_line(error)}") from error
        own = self._state()
        if _shapes(found) != _shapes(own):
            raise ValueError(f"{file} is not this run's: its tensors are not those of model.lora on this model")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(in_parts_of(tensor, found[name]))

    def merged_state(self) -> dict[str, Tensor]:
        """The state of the model as it was before the adapter, by its names, with W + (α/r)·B·A for each W."""
        return self._plain_state(merged=True)

    def base_state(self) -> dict[str, Tensor]:
        """As `merged_state`, without what the adapter adds."""
        return self._plain_state(merged=False)

    def _plain_state(self, *, merged: bool) -> dict[str, Tensor]:
        layers: dict[str, Any] = {
            name: layer for name, layer in self._model.named_modules() if hasattr(layer, "get_delta_weight")
        }
        state = {}
        with torch.no_grad():
            for key, tensor in self._model.state_dict().items():
                owner, is_base, rest = key.partition(".base_layer.")
                if is_base:
                    # In main memory, as there may be no room for a second model on the device.
                    delta = layers[owner].get_delta_weight(_NAME) if merged and rest == _WEIGHT else 0
                    state[f"{owner}.{rest}"] = (tensor + delta).cpu()
                elif key.partition(".lora_")[0] not in layers:
                    state[key] = tensor
        return state

    def _state(self) -> dict[str, Tensor]:
        """The adapter's own tensors, by the names that they have in a file."""
        import peft

        state: dict[str, Tensor] = peft.get_peft_model_state_dict(self._peft, save_embedding_layers=False)
        return state


def _fits(name: str, layer: str) -> bool:
    return layer == name or layer.endswith(f".{name}")


def _kind(layer: str) -> str:
    """The last part of a layer's name, which all layers of the model have in common."""
    return layer.rsplit(".", 1)[-1]


def _name_of(model: nn.Module, module: nn.Module) -> str | None:
    return next((name for name, each in model.named_modules() if each is module), None)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def _put_on(model: PreTrainedModel, lora: LoraConfig, layers: Iterable[str]) -> Any:
    """The model with a fresh adapter on these layers, as peft's own object around it."""
    import peft

    config = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.scaled_alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that is to go, and what else it warns of is looked at afterwards.
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def _fitting_layers(model: PreTrainedModel, lora: LoraConfig) -> list[str]:
    """Those of the `linear_layers` on which an adapter has its effect and no other; where all were asked for, a warning
    says which are left out. Raises ConfigError where one that was named does not fit, or none does."""
    layers = linear_layers(model, lora.target_modules)
    unfit = _uncalled(model, layers)
    kinds = {_kind(name) for name in layers} - unfit.keys()
    if _objection(model, lora, [name for name in layers if _kind(name) in kinds]):
        objections = {kind: _objection(model, lora, [name for name in layers if _kind(name) == kind]) for kind in kinds}
        unfit |= {kind: reason for kind, reason in objections.items() if reason}
    fitting = [name for name in layers if _kind(name) not in unfit]
    reasons = "; ".join(f"{kind}: {reason}" for kind, reason in sorted(unfit.items()))
    if unfit and (lora.target_modules or not fitting):
        raise ConfigError(f"model.lora.target_modules: {reasons}; name others")
    if unfit:
        logger.warning("model.lora: these layers are not adapted: %s", reasons)
    return fitting


@torch.no_grad()
def _uncalled(model: PreTrainedModel, layers: Mapping[str, nn.Linear]) -> dict[str, str]:
    """The kinds of layer that the model never calls, and what that means."""
    called = set[str]()
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.add(_kind(name))) for name, layer in layers.items()
    ]
    ids_1L = torch.arange(_PROBE_TOKENS, device=model.device)[None] % model.get_input_embeddings().weight.shape[0]
    try:
        model(input_ids=ids_1L, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    reason = "the model reads its weights past the layer, so that an adapter there would have no effect"
    return dict.fromkeys({_kind(name) for name in layers} - called, reason)


def _objection(model: PreTrainedModel, lora: LoraConfig, layers: Sequence[str]) -> str | None:
    """Why peft cannot adapt these layers of the model and nothing else of it; None where it can."""
    tried = skeleton(model.config)
    try:
        _put_on(tried, lora, layers)
    except ValueError as error:
        return one_line(error)
    adapted = {name.partition(".lora_")[0] for name, each in tried.named_parameters() if each.requires_grad}
    # Of some mixtures of experts it takes such names for those of the experts' matrices, which stand in one tensor.
    return None if adapted == {*layers} else "peft takes the name for another's in this architecture"


def _fingerprint(model: nn.Module) -> str:
    """A digest of all weights and their names."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{[*tensor.shape]}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
