"""Sampling completions from the policy: the engine protocol, the engine on the live torch model, scored rollouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unigrad.rollout.engine import Completion, Engine, OnCompletion, Prompt
from unigrad.rollout.rollouts import Rollouts, Sampled, roll_out
from unigrad.rollout.sampling import Sampling

if TYPE_CHECKING:
    from unigrad.rollout.torch_engine import TorchEngine

__all__ = [
    "Completion",
    "Engine",
    "OnCompletion",
    "Prompt",
    "Rollouts",
    "Sampled",
    "Sampling",
    "TorchEngine",
    "roll_out",
]


def __getattr__(name: str) -> type[TorchEngine]:
    # The words above must not cost the import of torch.
    if name == "TorchEngine":
        from unigrad.rollout.torch_engine import TorchEngine

        return TorchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
