"""The optimizer: AdamW, its learning-rate course, and the rule that keeps bad gradients from the weights."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unigrad.config import TrainConfig
from unigrad.errors import ConfigError
from unigrad.policy.sharding import whole_tensor
from unigrad.world import World

_BLOCK, _FEWEST = 256, 4096
"""Of bitsandbytes: numbers that share a scale in 8 bits, and those of the smallest tensor that is kept so."""


def check_optimizer(config: TrainConfig) -> None:
    """Raises ConfigError where moments in 8 bits are asked for and bitsandbytes is missing."""
    if config.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("train.optimizer = 'adamw_8bit' needs bitsandbytes: pip install 'unigrad[bitsandbytes]'")


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: norms and biases are not decayed.

    Its moments are float32, or by `config.optimizer` in 8 bits (Dettmers et al. 2022), but for those of small tensors.
    Raises ConfigError where that needs a package that is missing.
    """
    check_optimizer(config)
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    options: dict[str, Any] = {
        "params": [group for group in groups if group["params"]],
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(**options)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(**options)
    return optimizer


def moments_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and type of each tensor that it keeps of a parameter, by its name, but for the count of its steps."""
    if isinstance(optimizer, torch.optim.AdamW):
        return dict.fromkeys(("exp_avg", "exp_avg_sq"), (parameter.shape, parameter.dtype))
    narrow = parameter.numel() >= _FEWEST
    kept = dict.fromkeys(("state1", "state2"), (parameter.shape, torch.uint8 if narrow else torch.float32))
    if narrow:
        scales = torch.Size([-(-parameter.numel() // _BLOCK)])
        kept |= dict.fromkeys(("absmax1", "absmax2"), (scales, torch.float32))
        kept |= dict.fromkeys(("qmap1", "qmap2"), (torch.Size([256]), torch.float32))
    return kept


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of `step` (from 1): linear warm-up to the peak, then constant, cosine or linear to 0."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = (step - 1 - config.warmup_steps) / max(config.max_steps - config.warmup_steps, 1)
    match config.lr_scheduler_type:
        case "cosine":
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return config.learning_rate * (1 - progress)
        case "constant":
            return config.learning_rate


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def sum_gradients(optimizer: torch.optim.Optimizer, world: World) -> None:
    """Each parameter's gradient becomes the sum over the ranks. One that had none on any rank has none, as of one
    process; one that had none on some counts as 0 there."""
    if world.size == 1:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    on_ranks = world.gather([[parameter.grad is not None for parameter in parameters]])
    for parameter, on_rank in zip(parameters, zip(*on_ranks, strict=True), strict=True):
        if any(on_rank):
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = world.sum(own)


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    grad_norm: float
    """Norm of the whole gradient before clipping."""
    skipped: bool


def guarded_update(optimizer: torch.optim.Optimizer, loss: float, config: TrainConfig) -> UpdateOutcome:
    """Clip the gradient and step, or skip: a non-finite loss or norm, or one past `skip_grad_norm`, moves no weight.

    The gradients are gone afterwards either way.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = whole_tensor(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    grad_norm = float(norm)
    skipped = not (math.isfinite(grad_norm) and math.isfinite(loss))
    skipped = skipped or 0 < config.skip_grad_norm < grad_norm
    if not skipped:
        if config.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, config.max_grad_norm, norm)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return UpdateOutcome(grad_norm, skipped)
