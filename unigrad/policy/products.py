"""Products of float32 matrices by oneDNN, on CPUs where it is faster than MKL, which torch multiplies with.

MKL keeps AVX-512 for Intel's processors. On others that have it oneDNN's products take half the time
(docs/results/speed.md); on Intel's, and with AVX2, the two are about equal, and nothing is changed.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unigrad.machine import is_intel

onednn = torch.ops.mkldnn

# oneDNN compiles a kernel for each shape and keeps it, most of a megabyte: so it gets rows in blocks of these numbers.
_BLOCKS = (512, 256, 128)
# Of smaller matrices a call takes longer than what it saves: in a product with one, and in a sum of outer products.
_LEAST_WEIGHTS, _LEAST_SUMMED = 2**14, 2**16
_ROWS = 8192


def multiply_fast(model: nn.Module) -> None:
    """Changes every plain linear layer of the model on such a CPU to one that multiplies so, forward and backward."""
    if not is_faster():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OnednnLinear


def is_plain_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether it is a linear layer that does nothing else: a subclass may, and a changed `forward` too."""
    return type(module) in (nn.Linear, OnednnLinear) and "forward" not in vars(module)


def linear(input: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`functional.linear`; nothing for autograd to follow."""
    if not is_faster() or not _suits(input, weight_OI):
        return functional.linear(input, weight_OI, bias_O)
    input_NI = _whole_rows(input)
    if len(input_NI) in _BLOCKS:
        result_NO = product(input_NI, weight_OI, bias_O)
    else:
        result_NO = input.new_empty(len(input_NI), len(weight_OI))
        blocks, rest = _split(len(input_NI))
        for block in blocks:
            result_NO[block] = product(input_NI[block], weight_OI, bias_O)
        result_NO[rest] = functional.linear(input_NI[rest], weight_OI, bias_O)
    return result_NO.view(*input.shape[:-1], -1)


def add_outer_(total_OI: Tensor, left_NO: Tensor, right_NI: Tensor) -> None:
    """`total += left.T @ right`, in place. A product of lower precision is rounded once; the sum is in the total's."""
    if total_OI.dtype != left_NO.dtype:
        total_OI += left_NO.T @ right_NI
        return
    if not is_faster() or not _suits(right_NI, total_OI) or total_OI.numel() < _LEAST_SUMMED:
        total_OI.addmm_(left_NO.T, right_NI)
        return
    right_NI = _whole_rows(right_NI)
    blocks, rest = _split(len(right_NI))
    for block in blocks:
        # oneDNN's product does not add: some rows at a time, so that nothing of the total's size is made beside it.
        for start in range(0, len(total_OI), _ROWS):
            rows = slice(start, start + _ROWS)
            total_OI[rows] += product(left_NO[block, rows].contiguous().T, right_NI[block].T, None)
    total_OI.addmm_(left_NO[rest].T, right_NI[rest])


class OnednnLinear(nn.Linear):
    """`nn.Linear`, whose float32 products outside autocast are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        if not _suits(input, self.weight) or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        result: Tensor = _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight)
        return linear(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        grad_NO = _whole_rows(grad)
        grad_weight = None
        if input is not None:
            grad_weight = torch.zeros_like(weight)
            add_outer_(grad_weight, grad_NO, input.reshape(len(grad_NO), -1))
        return (
            linear(grad_NO, weight.T).view(*grad.shape[:-1], -1) if ctx.needs_input_grad[0] else None,
            grad_weight,
            grad_NO.sum(0) if ctx.needs_input_grad[2] else None,
        )


@cache
def is_faster() -> bool:
    """Whether oneDNN's products take less time than MKL's on this processor."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(onednn, "_linear_pointwise") and not is_intel()
    )


def emulates_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 take longer there than in float32: a CPU without instructions that oneDNN needs."""
    supports = getattr(onednn, "_is_mkldnn_bf16_supported", None)
    return device.type == "cpu" and supports is not None and not supports()


def _suits(input: Tensor, weight_OI: Tensor) -> bool:
    """Whether a product of [.., I] with [O, I] is one for oneDNN."""
    return (
        input.dtype == weight_OI.dtype == torch.float32
        and input.device.type == weight_OI.device.type == "cpu"
        and weight_OI.numel() >= _LEAST_WEIGHTS
        and input.numel() >= _BLOCKS[-1] * input.shape[-1]
        and (weight_OI.is_contiguous() or weight_OI.T.is_contiguous())
    )


def _split(rows: int) -> tuple[list[slice], slice]:
    """So many rows in blocks, the largest first, and the rest."""
    blocks, start = list[slice](), 0
    for size in _BLOCKS:
        while start + size <= rows:
            blocks.append(slice(start, start + size))
            start += size
    return blocks, slice(start, rows)


def _whole_rows(tensor: Tensor) -> Tensor:
    """It as a matrix without gaps in memory: for one with gaps oneDNN has a loop that is thousands of times slower."""
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()


def product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN's `functional.linear` of operands without gaps, by rows or by columns, or of a weight packed for it."""
    result: Tensor = onednn._linear_pointwise(input, weight, bias, "none", [], "")
    return result
