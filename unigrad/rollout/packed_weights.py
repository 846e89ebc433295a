"""Copies of a model's weights for the time of sampling: laid out for oneDNN, cast, or both, and not in each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unigrad.policy.products import emulates_bfloat16, is_faster, is_plain_linear, onednn, product

_Product = Callable[[Tensor], Tensor]

# A smaller matrix stays in the cache, and its product takes no longer than the call itself; or than MKL's product,
# where oneDNN's is no faster by itself.
_LEAST_WEIGHTS, _LEAST_BESIDE_MKL = 2**16, 2**19
# Where it was seen to be faster.
_MEASURED = ("AVX2", "AVX512")


def is_worth_packing(layer: nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    """Whether it is a plain linear layer of a large float32 matrix on a CPU whose torch can pack one in `dtype`."""
    if not is_plain_linear(layer):
        return False
    weight: Any = layer.weight
    in_float32 = dtype == torch.float32
    return (
        torch.backends.cpu.get_cpu_capability() in _MEASURED
        and (in_float32 or not emulates_bfloat16(weight.device))
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= (_LEAST_BESIDE_MKL if in_float32 and not is_faster() else _LEAST_WEIGHTS)
        and hasattr(onednn, "_reorder_linear_weight")
        and hasattr(onednn, "_linear_pointwise")
    )


def packed_weights(model: nn.Module, rows: int) -> AbstractContextManager[None]:
    """Inside, the model's large linear layers multiply with packed copies of their weights, best for so many rows."""

    def packed(layer: Any) -> _Product:
        weight = onednn._reorder_linear_weight(layer.weight.detach(), rows)
        return partial(product, weight=weight, bias=layer.bias)

    return _multiplying([layer for layer in model.modules() if is_worth_packing(layer)], packed)


def cast_weights(model: nn.Module, dtype: torch.dtype, rows: int) -> AbstractContextManager[None]:
    """Inside, the model's linear layers multiply, under autocast to `dtype`, with weights that are cast already, and
    packed where that is worth it.

    Autocast keeps no cast of its own in inference mode: it would read every float32 weight again in each step.
    """

    def cast(layer: Any) -> _Product:
        bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        weight = layer.weight.detach().to(dtype)
        if is_worth_packing(layer, dtype):
            multiplied = partial(product, weight=onednn._reorder_linear_weight(weight, rows), bias=bias)
        else:
            multiplied = partial(nn.functional.linear, weight=weight, bias=bias)
        return partial(_cast_product, layer, dtype, multiplied)

    return _multiplying([layer for layer in model.modules() if is_plain_linear(layer)], cast)


@contextmanager
def _multiplying(layers: Sequence[Any], product_of: Callable[[Any], _Product]) -> Iterator[None]:
    """The copies are of the weights of now: nothing may train meanwhile. In the end the layers are as they were."""
    try:
        for layer in layers:
            layer.forward = product_of(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _cast_product(layer: nn.Linear, dtype: torch.dtype, multiplied: _Product, input: Tensor) -> Tensor:
    if not torch.is_autocast_enabled(input.device.type):
        # Where the model turns autocast off (a router, say), it wants the weights as they are.
        return nn.Linear.forward(layer, input)
    return multiplied(input.to(dtype))
