"""Linear layers of a model on the CPU whose float32 weights are laid out for oneDNN once, not in each call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# A smaller matrix stays in the cache, and its product takes no longer than the call itself.
_LEAST_WEIGHTS = 2**19
# Where it was seen to be faster.
_MEASURED = ("AVX2", "AVX512")


def is_worth_packing(layer: nn.Module) -> bool:
    """Whether it is a plain linear layer of a large float32 matrix on a CPU whose torch can pack one."""
    # A subclass computes something of its own, and a changed `forward` too.
    if type(layer) is not nn.Linear or "forward" in vars(layer):
        return False
    weight = layer.weight
    return (
        torch.backends.cpu.get_cpu_capability() in _MEASURED
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= _LEAST_WEIGHTS
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@contextmanager
def packed_weights(model: nn.Module, rows: int) -> Iterator[None]:
    """Inside, the model's large linear layers multiply with packed copies of their weights, best for so many rows.

    They are the weights of now: nothing may train meanwhile. Then the copies are gone and the layers as they were.
    """
    layers: list[Any] = [layer for layer in model.modules() if is_worth_packing(layer)]
    try:
        for layer in layers:
            packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)
            layer.forward = partial(_product, packed, layer.bias)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _product(packed: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
    return result
