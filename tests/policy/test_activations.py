"""What is computed again instead of kept: the same numbers to the bit, no further product, less memory."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from unigrad.policy.activations import recompute

IDS_PL = torch.arange(40).view(2, 20)


class Products(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(function).startswith(("aten.mm", "aten.addmm", "aten.bmm"))
        return function(*args, **(kwargs or {}))


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def passed(model: PreTrainedModel, dtype: torch.dtype) -> tuple[list[Tensor], int, int]:
    """Gradients, bytes that the forward pass kept besides the weights, and products of both passes."""
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    with Products() as products, saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        hidden: Tensor = model.base_model(input_ids=IDS_PL, use_cache=False).last_hidden_state
    with products:
        hidden.square().sum().backward()
    gradients = [each.grad for each in model.base_model.parameters() if each.grad is not None]
    return gradients, sum(size for place, size in saved.items() if place not in weights), products.count


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text", "olmo2"])
def test_the_same_gradients_from_less_memory(kind: str, dtype: torch.dtype) -> None:
    model = make(kind)
    changed = copy.deepcopy(model)
    recompute(changed)
    kept, again = passed(model, dtype), passed(changed, dtype)
    assert all(torch.equal(a, b) for a, b in zip(kept[0], again[0], strict=True))
    assert again[2] == kept[2]
    assert again[1] < 0.8 * kept[1]


def test_a_changed_model_is_copied_and_saved_as_it_was(tmp_path: Path) -> None:
    model = make("llama")
    recompute(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.model.layers[0].mlp.down_proj.weight.zero_()
        assert not torch.equal(twin(IDS_PL).logits, model(IDS_PL).logits)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS_PL).logits, model(IDS_PL).logits)
    assert [type(each).__name__ for each in model.modules()] == [type(each).__name__ for each in again.modules()]


class Doubled(nn.Module):
    """The names of a gated MLP, and another rule."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(4, 4) for _ in range(3))
        self.act_fn = nn.SiLU()

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
        return 2 * result


class GatedNorm(nn.RMSNorm):
    """Takes more than one argument."""

    def forward(self, hidden: Tensor, gate: Tensor) -> Tensor:
        return super().forward(hidden) * gate


class FixedNorm(nn.Module):
    """Its weight is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(4))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden / hidden.norm()


def test_what_follows_another_rule_stays() -> None:
    model = nn.ModuleList([Doubled(), GatedNorm(4), FixedNorm(), nn.LayerNorm(4)])
    kinds = [type(each) for each in model]
    recompute(model)
    assert [type(each) for each in model][:3] == kinds[:3]
    assert type(model[3]) is not nn.LayerNorm
