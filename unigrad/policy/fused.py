"""Norms and gated MLPs by the fused kernels of Liger, where it is installed and they agree with the model's own.

All that is used of Liger stands here. Parameters, their names and what is saved stay as they are.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from unigrad.errors import one_line
from unigrad.policy import transformers_api
from unigrad.policy.activations import GATED, Gated

if TYPE_CHECKING:
    from unigrad.policy.policy import Policy

_TOLERANCE = 1e-5
"""Between a module and its kernel, results and gradients, in float32: of the largest number, or of 1."""
_ROUNDINGS = 8
"""The same in bfloat16, in its own roundings."""
_PROBE_TOKENS = 3

logger = logging.getLogger(__name__)


def fuse(policy: Policy) -> None:
    """Each norm and gated MLP that a kernel of Liger agrees with is computed by it from now on; without Liger none.

    A kernel is tried on the module itself, forward and backward, in float32 and as the policy computes. A kind of
    module that none agrees with keeps its own computation, and a warning says so. Triton's kernels need a GPU, or its
    interpreter. A pass through one can go backward once: that writes into what the pass has kept.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        return
    kept: dict[str, str] = {}
    for module in list(policy.model.modules()):
        if reason := _refused(module, policy):
            kept.setdefault(type(module).__name__, reason)
    for kind, reason in kept.items():
        logger.warning("%s keeps its own computation: Liger's kernels do not agree with it (%s)", kind, reason)


def _refused(module: nn.Module, policy: Policy) -> str | None:
    """Why the module, whose kind there are kernels for, stays as it is."""
    differences = []
    try:
        for changed in _candidates(module):
            differences.append(_difference(module, changed, policy))
            if differences[-1] <= 1:
                module.__class__ = changed
                return None
    # What a kernel raises on a device that it was not made for is anything.
    except Exception as error:  # noqa: BLE001
        return one_line(error)
    return f"at best {min(differences):.2g} times the difference that rounding explains" if differences else None


def _candidates(module: nn.Module) -> Iterator[type[nn.Module]]:
    kind = type(module)
    if all(hasattr(module, name) for name in GATED):
        for gated in (_SiluGated, _GeluGated):
            yield type(kind.__name__, (gated, kind), {})
    epsilon = transformers_api.rms_norm_epsilon(module)
    if epsilon is not None:
        for offset, casting in ((0.0, "llama"), (1.0, "gemma")):
            yield type(kind.__name__, (_Norm, kind), {"rule": (epsilon, offset, casting)})


def _difference(module: nn.Module, changed: type[nn.Module], policy: Policy) -> float:
    """The largest between what the module computes and what it would as `changed`, over what is tolerated."""
    kind = type(module)

    def computed() -> tuple[list[Tensor], list[Tensor]]:
        plain = _passed(module)
        with policy.autocast():
            return plain, _passed(module)

    own = computed()
    module.__class__ = changed
    try:
        found = computed()
    finally:
        module.__class__ = kind
    tolerated = max(_TOLERANCE, _ROUNDINGS * torch.finfo(policy.compute_dtype).eps)
    shares = [
        (a - b).abs().max() / (1 + a.abs().max()) / tolerance
        for ours, theirs, tolerance in zip(own, found, (_TOLERANCE, tolerated), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return torch.stack([each.float() for each in shares]).max().item()


def _passed(module: nn.Module) -> list[Tensor]:
    """What it computes of a few tokens, and the gradients of that with respect to them and its weights."""
    weight = next(module.parameters())
    numbers = torch.linspace(-2, 3, _PROBE_TOKENS * weight.shape[-1], device=weight.device, dtype=weight.dtype)
    given = numbers.view(1, _PROBE_TOKENS, -1).requires_grad_()
    trained = [each for each in module.parameters() if each.requires_grad]
    with torch.enable_grad():
        result = module(given)
        gradients = torch.autograd.grad(result, (given, *trained), result.detach().cos())
    return [result, *gradients]


class _Norm(nn.Module):
    weight: Tensor
    rule: ClassVar[tuple[float, float, str]]
    """What is added to the mean square and to the weight, and in which order numbers are cast."""

    def forward(self, hidden: Tensor) -> Tensor:
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction

        # Under autocast, of what a product gave: the kernel's result would have another type than the module's.
        if hidden.dtype != self.weight.dtype:
            result: Tensor = super().forward(hidden)
            return result
        # Not in place, as the gradient may go elsewhere too; a row at a time, whatever their number, as it was tried.
        return _applied(LigerRMSNormFunction, hidden, self.weight, *self.rule, False, True)


class _SiluGated(Gated):
    def _halves(self, gate: Tensor, up: Tensor) -> Tensor:
        from liger_kernel.ops.swiglu import LigerSiLUMulFunction

        return _applied(LigerSiLUMulFunction, gate, up)


class _GeluGated(Gated):
    def _halves(self, gate: Tensor, up: Tensor) -> Tensor:
        from liger_kernel.ops.geglu import LigerGELUMulFunction

        return _applied(LigerGELUMulFunction, gate, up)


def _applied(function: Any, *given: Any) -> Tensor:
    result: Tensor = function.apply(*given)
    return result
