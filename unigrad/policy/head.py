"""What a model does to its logits after the output embedding: a scale, a soft cap, or both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedConfig

from unigrad.policy import transformers_api

_MULTIPLIERS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
_DIVISORS = ("logits_scaling",)
_MULTIPLIES_BY_ITS_DIVISOR = ("hyperclovax",)
"""Architectures that share a divisor's name with Granite, and multiply by it."""
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "softcap")


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """Logits are cap·tanh(scale·z/cap) of the output embedding's product z; without a cap, scale·z."""

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_identity(self) -> bool:
        return self.scale == 1.0 and self.cap is None

    def apply_(self, logits: Tensor) -> Tensor:
        """In place, of products in any shape."""
        if self.cap is not None:
            return logits.mul_(self.scale / self.cap).tanh_().mul_(self.cap)
        return logits.mul_(self.scale) if self.scale != 1.0 else logits

    def derivative_(self, logits: Tensor) -> Tensor:
        """d logits/d z where the logits, which are overwritten, have these values."""
        if self.cap is None:
            return logits.fill_(self.scale)
        return logits.div_(self.cap).square_().neg_().add_(1.0).mul_(self.scale)


IDENTITY = LogitTransform()


def logit_transform(config: PreTrainedConfig) -> LogitTransform:
    """The transform that a model's config names; `load_policy` proves it on the model."""
    text = transformers_api.text_config(config)
    scale = 1.0
    for name in _MULTIPLIERS:
        scale *= _number(text, name, 1.0)
    for name in _DIVISORS:
        divisor = _number(text, name, 1.0)
        scale = scale * divisor if text.model_type in _MULTIPLIES_BY_ITS_DIVISOR else scale / divisor
    caps = [cap for cap in (_number(text, name, 0.0) for name in _CAPS) if cap > 0]
    return LogitTransform(scale, caps[0] if caps else None)


def _number(config: PreTrainedConfig, name: str, default: float) -> float:
    value = getattr(config, name, None)
    return float(value) if isinstance(value, int | float) and value else default
