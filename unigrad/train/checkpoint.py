"""The trainer's part of a checkpoint: the optimizer's moments, the value head, and the position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unigrad.errors import one_line
from unigrad.policy import Policy
from unigrad.runs.checkpoints import Position
from unigrad.train.optimizer import moments_of

OPTIMIZER_FILE = "optimizer.pt"
VALUE_HEAD_FILE = "value_head.safetensors"

_OWN = "__bnb_optimizer_quant_state__"
"""Under which bitsandbytes puts its tensors, which are not the parameter's type."""
_OF_THE_CONFIG = ("params", "betas", "eps", "weight_decay")


def write_state(folder: Path, optimizer: torch.optim.Optimizer, policy: Policy, position: Position) -> None:
    torch.save(optimizer.state_dict(), folder / OPTIMIZER_FILE)
    if policy.value_head is not None:
        save_file(policy.value_head.state_dict(), folder / VALUE_HEAD_FILE)
    position.write(folder)


def load_state(folder: Path, optimizer: torch.optim.Optimizer, policy: Policy) -> Position:
    """Give the optimizer and the value head what `write_state` wrote, an adapter what `Policy.save_trained` wrote, and
    return the position.

    Raises ValueError, one line naming the file, for whatever in them is not this optimizer's, head's or adapter's.
    """
    if policy.adapter is not None:
        policy.adapter.load(folder)
    file = folder / OPTIMIZER_FILE
    loaded = _load_tensors(file, policy.device)
    try:
        state = _checked_state(loaded, optimizer)
    except ValueError as error:
        raise ValueError(f"{file} is not this run's: {error}") from error
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if policy.value_head is not None:
        file = folder / VALUE_HEAD_FILE
        try:
            policy.value_head.load_state_dict(load_file(file, device=str(policy.device)))
        except Exception as error:
            raise ValueError(f"{file} is not this run's: {one_line(error)}") from error
    return Position.read(folder)


def _load_tensors(file: Path, device: torch.device) -> Any:
    try:
        return torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{file} is missing") from None
    except Exception as error:  # each kind of damage has its own, with pages of advice
        raise ValueError(
            f"{file} is cut off, damaged, or holds more than tensors, and is not read ({type(error).__name__})"
        ) from error


def _checked_state(loaded: Any, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """The moments by the parameter's number. Raises ValueError for anything but `optimizer`'s own `state_dict`."""
    if not isinstance(loaded, dict) or not {"state", "param_groups"} <= loaded.keys():
        raise ValueError("no optimizer's state, which has `state` and `param_groups`")
    state, groups = loaded["state"], loaded["param_groups"]
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(own):
        raise ValueError(f"its param_groups are not {len(own)} groups of parameters")
    for number, (group, mine) in enumerate(zip(groups, own, strict=True)):
        for key in _OF_THE_CONFIG:
            if not isinstance(group, dict) or group.get(key) != mine[key]:
                raise ValueError(f"{key} of its group {number} is not the one that the model and the config make")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not isinstance(state, dict) or not state.keys() <= set(range(len(parameters))):
        raise ValueError(f"its state is not one of {len(parameters)} parameters")
    for number, moments in state.items():
        _check_moments(number, moments, moments_of(optimizer, parameters[number]))
    return state


def _check_moments(number: int, moments: Any, expected: Mapping[str, tuple[torch.Size, torch.dtype]]) -> None:
    steps = moments.get("step") if isinstance(moments, dict) else None
    if not (isinstance(steps, int) or (isinstance(steps, Tensor) and steps.numel() == 1)):
        raise ValueError(f"parameter {number} has no count of its steps")
    kept = {**moments, **moments[_OWN]} if isinstance(moments.get(_OWN), dict) else moments
    for name, (shape, dtype) in expected.items():
        moment = kept.get(name)
        if not isinstance(moment, Tensor) or (moment.shape, moment.dtype) != (shape, dtype):
            raise ValueError(f"{name} of parameter {number} is not a tensor of the shape {[*shape]} and its precision")
