"""A user's own reward function, with TRL's signature f(prompts, completions, **columns) -> list[float | None]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsFloat

from unigrad.errors import UserCodeError, nearest
from unigrad.plugins import import_module

RewardFunction = Callable[..., Sequence[float | None]]


def load_reward_function(dotted_path: str) -> RewardFunction:
    """The function at "package.module.function" or "package.module:function"; modules of the current folder count.

    Raises ValueError on a path that leads to no function, and UserCodeError for whatever the module raises.
    """
    module_name, _, name = dotted_path.replace(":", ".").rpartition(".")
    if not module_name or not name:
        raise ValueError(f"reward function {dotted_path!r}: expected 'package.module.function'")
    module = import_module(module_name, f"reward function {dotted_path!r}")
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value)]
        near = nearest(name, functions)
        advice = f"; the nearest is {near!r}" if near else ""
        raise ValueError(f"reward function {dotted_path!r}: module {module_name!r} has no {name!r}{advice}")
    function = getattr(module, name)
    if not callable(function):
        raise ValueError(f"reward function {dotted_path!r}: {name!r} is not a function, but {type(function).__name__}")
    checked: RewardFunction = function
    return checked


def score(
    function: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
) -> list[float | None]:
    """The rewards of `completions`, None where the function does not score one.

    `prompts`, `completions` and each of `columns` have one entry for each completion. Raises ValueError on a result of
    another length, of another type, or not finite, and UserCodeError for whatever the function raises.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        rewards = function(prompts=prompts, completions=completions, **columns)
    except Exception as error:
        raise UserCodeError from error
    try:
        values = list(rewards)
    except TypeError as error:
        raise ValueError(
            f"reward function {name!r} returned {type(rewards).__name__}, expected list[float | None]"
        ) from error
    if len(values) != len(completions):
        raise ValueError(f"reward function {name!r} returned {len(values)} rewards for {len(completions)} completions")
    return [_reward(name, index, value) for index, value in enumerate(values)]


def _reward(name: str, index: int, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, SupportsFloat):
        raise ValueError(f"reward function {name!r} returned {value!r} at {index}, expected a number or None")
    reward = float(value)
    if not math.isfinite(reward):
        raise ValueError(f"reward function {name!r} returned {reward} at {index}, expected a finite number or None")
    return reward
