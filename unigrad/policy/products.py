"""Products of float32 matrices by oneDNN, on CPUs where it is faster than MKL, which torch multiplies with.

MKL keeps AVX-512 for Intel's processors. On others that have it oneDNN's products take half the time
(docs/results/speed.md); on Intel's, and with AVX2, the two are about equal, and nothing is changed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from unigrad.machine import is_intel

onednn = torch.ops.mkldnn

_LEAST = 2**21
"""Of a smaller product, in multiplications, oneDNN's call takes longer than what it saves."""
_ROWS = 8192


def multiply_fast(model: nn.Module) -> None:
    """Changes every plain linear layer of the model on such a CPU to one that multiplies so, forward and backward."""
    if not is_faster():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OnednnLinear


def is_plain_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer that does nothing else: a subclass may, and a changed `forward` too."""
    return type(module) in (nn.Linear, OnednnLinear) and "forward" not in vars(module)


def matmul(left_NK: Tensor, right_KM: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """`left_NK @ right_KM + bias_M` of matrices; nothing for autograd to follow."""
    if not is_faster() or not _suits(left_NK, right_KM.T):
        return functional.linear(left_NK, right_KM.T, bias_M)
    return _product(_dense(left_NK), _dense(right_KM.T), bias_M)


def add_product_(total_NM: Tensor, left_NK: Tensor, right_KM: Tensor) -> None:
    """`total += left @ right`, in place. A product of lower precision is rounded once; the sum is in the total's."""
    if total_NM.dtype != left_NK.dtype:
        total_NM += left_NK @ right_KM
    elif not is_faster() or not _suits(left_NK, right_KM.T):
        total_NM.addmm_(left_NK, right_KM)
    else:
        # oneDNN's does not add: some rows at a time, so that nothing of the total's size is made beside it.
        for start in range(0, len(total_NM), _ROWS):
            rows = slice(start, start + _ROWS)
            total_NM[rows] += matmul(left_NK[rows], right_KM)


class OnednnLinear(nn.Linear):
    """`nn.Linear`, whose float32 products outside autocast are oneDNN's."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        if not _suits(input, weight) or not weight.is_contiguous() or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        result: Tensor = _Linear.apply(input.contiguous(), weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_input, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_NO = grad.view(-1, grad.shape[-1])
        return (
            None if weight is None else _product(grad, weight.T, None),
            None if input is None else _product(grad_NO.T, input.view(len(grad_NO), -1).T, None),
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


def _suits(input: Tensor, weight: Tensor) -> bool:
    """Of a product with [.., I] and [O, I]."""
    multiplications = input.numel() * len(weight)
    return multiplications >= _LEAST and all(
        each.dtype == torch.float32 and each.device.type == "cpu" for each in (input, weight)
    )


def _dense(matrix: Tensor) -> Tensor:
    """It, or a copy where it lies in memory with gaps: for such oneDNN has a loop that is thousands of times slower."""
    if matrix.is_contiguous() or matrix.T.is_contiguous():
        return matrix
    return matrix.T.contiguous().T if matrix.stride(0) == 1 else matrix.contiguous()


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Of dense ones."""
    result: Tensor = onednn._linear_pointwise(input, weight, bias, "none", [], "")
    return result
