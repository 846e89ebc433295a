"""The trainer's part of a checkpoint: the optimizer's moments, the value head, and the position.

Moments that are in parts over the ranks are written in parts, by torch.distributed.checkpoint; any number of ranks, one
process among them, reads either kind.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from unigrad.errors import one_line
from unigrad.policy import Policy
from unigrad.policy.sharding import in_parts_of
from unigrad.runs.checkpoints import Position
from unigrad.train.optimizer import moments_of
from unigrad.world import current_world

OPTIMIZER_FILE = "optimizer.pt"
OPTIMIZER_FOLDER = "optimizer"
"""In place of the file, where the moments are in parts."""
VALUE_HEAD_FILE = "value_head.safetensors"

_MOMENTS = ("exp_avg", "exp_avg_sq")
_COUNT = "parameters"
"""How many the optimizer has; of some it may have no moments."""
_OWN = "__bnb_optimizer_quant_state__"
"""Under which bitsandbytes puts its tensors, which are not the parameter's type."""
_OF_THE_CONFIG = ("params", "betas", "eps", "weight_decay")


def write_state(
    folder: Path, optimizer: torch.optim.Optimizer, policy: Policy, position: Position, *, in_parts: bool = False
) -> None:
    """policy: whole. in_parts: the other ranks call `write_moments` meanwhile."""
    if in_parts:
        write_moments(folder, optimizer)
    else:
        torch.save(optimizer.state_dict(), folder / OPTIMIZER_FILE)
    if policy.value_head is not None:
        save_file(policy.value_head.state_dict(), folder / VALUE_HEAD_FILE)
    position.write(folder)


def write_moments(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """This rank's part of the moments, once the first rank, which calls this too, has made the folder.

    Raises OSError on every rank where one cannot write.
    """
    current_world().wait()
    moments = {
        f"{number}.{name}": tensor
        for number, each in optimizer.state_dict()["state"].items()
        for name, tensor in each.items()
    }
    moments[_COUNT] = torch.tensor(len(_parameters(optimizer)))
    try:
        save(moments, checkpoint_id=folder / OPTIMIZER_FOLDER)
    except CheckpointException as error:
        raise OSError(f"cannot write {folder / OPTIMIZER_FOLDER}: {_first(error)}") from error


def load_state(folder: Path, optimizer: torch.optim.Optimizer, policy: Policy) -> Position:
    """Give the optimizer and the value head what `write_state` wrote, an adapter what `Policy.save_trained` wrote, and
    return the position.

    Raises ValueError, one line naming the file, for whatever in them is not this optimizer's, head's or adapter's.
    """
    if policy.adapter is not None:
        policy.adapter.load(folder)
    if (folder / OPTIMIZER_FOLDER).is_dir():
        state = _state_in_parts(folder / OPTIMIZER_FOLDER, optimizer)
    else:
        state = _state_in_one_file(folder / OPTIMIZER_FILE, optimizer, policy.device)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if policy.value_head is not None:
        file = folder / VALUE_HEAD_FILE
        try:
            found = load_file(file, device=str(policy.device))
            own = dict(policy.value_head.named_parameters())
            policy.value_head.load_state_dict(
                {name: in_parts_of(own[name], tensor) if name in own else tensor for name, tensor in found.items()}
            )
        except Exception as error:
            raise ValueError(f"{file} is not this run's: {one_line(error)}") from error
    return Position.read(folder)


def _state_in_one_file(
    file: Path, optimizer: torch.optim.Optimizer, device: torch.device
) -> dict[int, dict[str, Tensor]]:
    loaded = _load_tensors(file, device)
    try:
        state = _checked_state(loaded, optimizer)
    except ValueError as error:
        raise ValueError(f"{file} is not this run's: {error}") from error
    parameters = _parameters(optimizer)
    return {
        number: {
            name: in_parts_of(parameters[number], moment) if name in _MOMENTS else moment
            for name, moment in moments.items()
        }
        for number, moments in state.items()
    }


def _state_in_parts(folder: Path, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Read into the parts that the parameters are in now, by each rank for itself."""
    parameters = _parameters(optimizer)
    try:
        written: Metadata = FileSystemReader(folder).read_metadata()
        described = written.state_dict_metadata
    except Exception as error:  # each kind of damage has its own
        raise ValueError(f"{folder} is missing or damaged: {one_line(error)}") from error
    state: dict[int, dict[str, Tensor]] = {}
    for key, each in described.items():
        if key == _COUNT:
            continue
        place, _, name = key.partition(".")
        number = int(place) if place.isdecimal() else -1
        if not (0 <= number < len(parameters) and name in (*_MOMENTS, "step")):
            raise ValueError(f"{folder} is not this run's: {key} is no moment of one of {len(parameters)} parameters")
        moment = torch.zeros_like(parameters[number]) if name in _MOMENTS else torch.zeros(())
        found = (each.size, each.properties.dtype) if isinstance(each, TensorStorageMetadata) else None
        if found != (moment.shape, moment.dtype):
            raise ValueError(
                f"{folder} is not this run's: {key} is not a tensor of the shape {[*moment.shape]} and its precision"
            )
        state.setdefault(number, {})[name] = moment
    for number, moments in state.items():
        if missing := {*_MOMENTS, "step"} - moments.keys():
            raise ValueError(f"{folder} is not this run's: parameter {number} has no {min(missing)}")
    flat = {f"{number}.{name}": moment for number, moments in state.items() for name, moment in moments.items()}
    flat[_COUNT] = count = torch.tensor(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a process alone reads what several wrote
            load(flat, checkpoint_id=folder, no_dist=True)
    except (Exception, CheckpointException) as error:
        raise ValueError(f"{folder} is cut off or damaged: {_first(error)}") from error
    if count != len(parameters):
        raise ValueError(f"{folder} is not this run's: it is of {count} parameters, and here are {len(parameters)}")
    return state


def _first(error: BaseException) -> str:
    """What one rank says of it, where several do."""
    failures = getattr(error, "failures", {})
    return one_line(next(iter(failures.values()))[0]) if failures else one_line(error)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


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
    parameters = _parameters(optimizer)
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
