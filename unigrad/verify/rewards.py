"""A user's own reward function, with TRL's signature f(prompts, completions, **columns) -> list[float | None]."""

from __future__ import annotations

import difflib
import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

RewardFunction = Callable[..., Sequence[float | None]]


def load_reward_function(dotted_path: str) -> RewardFunction:
    """The function at "package.module.function" or "package.module:function"; modules of the current folder count.

    Raises ValueError on a path that leads to no function. What a module raises while it runs is left as it is.
    """
    module_name, _, name = dotted_path.replace(":", ".").rpartition(".")
    if not module_name or not name:
        raise ValueError(f"reward function {dotted_path!r}: expected 'package.module.function'")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"reward function {dotted_path!r}: {error}") from error
    if not hasattr(module, name):
        functions = [key for key, value in vars(module).items() if callable(value)]
        near = difflib.get_close_matches(name, functions, n=1, cutoff=0.0)
        advice = f"; the nearest is {near[0]!r}" if near else ""
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
    another length, of another type, or not finite; what the function itself raises is left as it is.
    """
    name = getattr(function, "__name__", type(function).__name__)
    rewards = function(prompts=prompts, completions=completions, **columns)
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
